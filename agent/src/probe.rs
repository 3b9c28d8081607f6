//! Asks VFIO for a device's regions or AtomicOps in a disposable child with a deadline.
//!
//! The child opens the device, which resets it, and closes it. Both can block in the kernel where no signal
//! reaches; such a child is left behind, and holds the device as any other process would.

use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;
use std::{io, thread};

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};
use kernel_glue::kernel::Kernel;
use kernel_glue::live::Live;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// First argument of such a child.
pub const ARGUMENT: &str = "ask-vfio";

/// What such a child asks for.
const REGIONS: &str = "regions";
const ATOMICS: &str = "atomics";

/// A function that is reset may take 60 s until it answers again (drivers/pci/pci.c, PCIE_RESET_READY_POLL_MS).
pub(crate) const DEADLINE: Duration = Duration::from_secs(70);

/// What the child writes on standard output, as JSON.
type Answer<T> = Result<T, RegionError>;

/// Runs `program`, which must call [`run`] for its arguments, to ask for the regions of a device below `root`.
///
/// # Errors
/// As [`Kernel::regions`]; [`RegionError::Stuck`] when the child has not ended in time.
pub fn ask(program: &Path, root: &Path, device: PciAddress) -> Result<Regions, RegionError> {
    within(child(program, root, device, REGIONS), DEADLINE)
}

/// The same for what VFIO tells QEMU of a device's AtomicOps.
///
/// # Errors
/// As [`ask`].
pub fn ask_atomics(program: &Path, root: &Path, device: PciAddress) -> Result<Widths, RegionError> {
    let bits: Vec<u32> = within(child(program, root, device, ATOMICS), DEADLINE)?;
    let named = |width: &Width| bits.contains(&width.bits());
    Ok(Width::ALL.into_iter().filter(named).collect())
}

fn child(program: &Path, root: &Path, device: PciAddress, what: &str) -> Command {
    let mut command = Command::new(program);
    command
        .arg(ARGUMENT)
        .arg(what)
        .arg(root)
        .arg(device.to_string());
    command
}

/// The child's side.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    let written = match arguments {
        [what, root, device] if what == ATOMICS => write(&atomics(root, device)),
        [what, root, device] if what == REGIONS => write(&regions(root, device)),
        _ => write::<()>(&Err(unusable("understand the arguments", Errno::EINVAL))),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn write<T: Serialize>(answer: &Answer<T>) -> serde_json::Result<()> {
    serde_json::to_writer(io::stdout(), answer)
}

fn regions(root: &str, device: &str) -> Answer<Regions> {
    let (live, device) = live(root, device)?;
    live.regions(device)
}

fn atomics(root: &str, device: &str) -> Answer<Vec<u32>> {
    let (live, device) = live(root, device)?;
    let widths = live.atomics(device)?;
    Ok(widths.iter().map(Width::bits).collect())
}

fn live(root: &str, device: &str) -> Answer<(Live, PciAddress)> {
    let live = Live::new(root.into()).map_err(|_| unusable("open the root", Errno::ENOENT))?;
    let device = device.parse();
    let device = device.map_err(|_| unusable("understand the address", Errno::EINVAL))?;
    Ok((live, device))
}

/// The answer counts once the child has ended: it holds the device until then.
fn within<T: DeserializeOwned>(mut command: Command, deadline: Duration) -> Answer<T> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let child = child.map_err(|error| start(&error))?;
    let (send, wait) = mpsc::channel();
    thread::spawn(move || send.send(child.wait_with_output()));
    match wait.recv_timeout(deadline) {
        Ok(Ok(output)) => answer(&output),
        Ok(Err(error)) => Err(start(&error)),
        Err(_) => Err(RegionError::Stuck),
    }
}

fn answer<T: DeserializeOwned>(output: &Output) -> Answer<T> {
    let answer = serde_json::from_slice(&output.stdout);
    answer.unwrap_or_else(|_| Err(unusable("read what the child says", Errno::EPROTO)))
}

fn start(error: &io::Error) -> RegionError {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    unusable("start a child that asks", errno)
}

fn unusable(action: &str, errno: Errno) -> RegionError {
    RegionError::Kernel {
        action: action.to_owned(),
        errno: errno as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn soon(script: &str) -> Answer<Regions> {
        within(shell(script), Duration::from_secs(20))
    }

    #[test]
    fn what_the_child_answers_is_the_answer() {
        let mut regions = Regions::default();
        regions[4].size = 1 << 37;
        for answer in [Ok(regions), Err(RegionError::InUse(vec![7]))] {
            let text = serde_json::to_string(&answer).expect("text");
            assert_eq!(soon(&format!("printf '%s' '{text}'")), answer);
        }
    }

    #[test]
    fn a_child_that_does_not_end_in_time_is_left_behind() {
        let stuck: Answer<Regions> = within(shell("exec sleep 5"), Duration::from_millis(50));
        assert_eq!(stuck, Err(RegionError::Stuck));
    }

    #[test]
    fn an_answer_counts_once_the_child_has_ended() {
        let text = serde_json::to_string(&Answer::<Regions>::Ok(Regions::default())).expect("text");
        let script = format!("printf '%s' '{text}'; exec sleep 5");
        let early: Answer<Regions> = within(shell(&script), Duration::from_millis(50));
        assert_eq!(early, Err(RegionError::Stuck));
    }

    #[test]
    fn a_child_that_dies_without_a_word_is_a_failure() {
        let text = soon("kill -9 $$").expect_err("no answer").to_string();
        assert_eq!(text, "cannot read what the child says: protocol error");
        let nowhere = ask(Path::new("/nonexistent"), Path::new("/"), address());
        let text = nowhere.expect_err("no program").to_string();
        assert!(text.starts_with("cannot start a child"), "{text}");
    }

    fn address() -> PciAddress {
        "0009:01:00.0".parse().expect("address")
    }
}
