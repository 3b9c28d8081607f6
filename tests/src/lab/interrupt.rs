//! Blocks Ctrl-C and similar signals while a job runs, so that the job can be ended before the program exits.

use anyhow::{Context, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

/// Blocks interrupts until it is dropped.
pub struct Interrupt {
    signals: SigSet,
    descriptor: SignalFd,
}

impl Interrupt {
    /// Blocks them.
    pub fn hold() -> Result<Self> {
        let mut signals = SigSet::empty();
        for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
            signals.add(signal);
        }
        signals
            .thread_block()
            .context("cannot hold back interrupts")?;
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        let descriptor =
            SignalFd::with_flags(&signals, flags).context("cannot watch for interrupts")?;
        Ok(Self {
            signals,
            descriptor,
        })
    }

    /// The pending signal, if there is one.
    pub fn came(&mut self) -> Option<i32> {
        let seen = self.descriptor.read_signal().ok()??;
        i32::try_from(seen.ssi_signo).ok()
    }
}

impl Drop for Interrupt {
    fn drop(&mut self) {
        // fails only for an invalid signal set
        let _ = self.signals.thread_unblock();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::signal::raise;

    #[test]
    fn an_interrupt_is_noticed_and_does_not_end_the_program() {
        let mut interrupt = Interrupt::hold().expect("signals can be held back");
        assert_eq!(interrupt.came(), None);
        raise(Signal::SIGINT).expect("a signal to this thread");
        assert_eq!(interrupt.came(), Some(Signal::SIGINT as i32));
    }
}
