//! Fatal signals at an operation that may refuse: a handler prints the sentence, and ends the process with status 1.
//!
//! At such an operation a crash has the right effect without it, a refusal; but libvirt would print only the signal's number.
#![expect(unsafe_code, reason = "signal handlers and their stack")]

use std::ffi::c_int;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::entry::Arguments;
use super::sentence;

/// More than the kernel writes for a signal (AT_MINSIGSTKSZ, 11 KiB with AMX) and the handler needs. Pages that are not used take no
/// memory.
const SIZE: usize = 64 << 10;
/// The handler's stack, because the process's own may be what is missing.
static mut STACK: [MaybeUninit<u8>; SIZE] = [MaybeUninit::uninit(); SIZE];
/// For the handler.
static ARGUMENTS: OnceLock<Arguments> = OnceLock::new();

/// The signals of a fault of the program: no memory, no stack, an abort.
const FATAL: [Signal; 7] = [
    Signal::SIGABRT,
    Signal::SIGBUS,
    Signal::SIGFPE,
    Signal::SIGILL,
    Signal::SIGSEGV,
    Signal::SIGSYS,
    Signal::SIGTRAP,
];

/// Refuses the operation when one of these signals comes from now on.
pub(super) fn refuse(arguments: &Arguments) {
    let _ = ARGUMENTS.set(*arguments);
    let stack = libc::stack_t {
        ss_sp: (&raw mut STACK).cast(),
        ss_flags: 0,
        ss_size: SIZE,
    };
    // SAFETY: the memory is static, and only the kernel uses it. Without it the handler runs on the process's stack.
    let _ = unsafe { libc::sigaltstack(&raw const stack, ptr::null_mut()) };
    // A second signal, in the handler, ends the process.
    let flags = SaFlags::SA_ONSTACK | SaFlags::SA_RESETHAND | SaFlags::SA_NODEFER;
    let action = SigAction::new(SigHandler::Handler(end), flags, SigSet::empty());
    for fatal in FATAL {
        // SAFETY: no handler of this program is replaced, and `end` does only what a handler may (signal-safety(7)).
        let _ = unsafe { sigaction(fatal, &action) };
    }
}

/// Writes without an allocation or a lock, and ends the process.
extern "C" fn end(number: c_int) {
    if let (Some(arguments), Ok(signal)) = (ARGUMENTS.get(), Signal::try_from(number)) {
        sentence::killed(arguments, signal);
    }
    // SAFETY: _exit(2) runs nothing else of the program.
    unsafe { libc::_exit(1) }
}
