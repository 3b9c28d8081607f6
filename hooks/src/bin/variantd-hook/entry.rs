//! The C function `main`: the hook's work before and around the Rust code.
//!
//! Rust's own runtime maps memory and opens files before `main`, and ends the process when it cannot. This `main` first does what
//! needs no memory that may be missing: it reads libvirt's arguments and the definition, and ends for an unrelated guest. At an operation
//! that may refuse, this process does the work: should it crash, the operation is refused. Otherwise a child process does the work.
//! When the child dies (no memory, no stack, a signal), the exit status is one that the operation allows: libvirt kills a running guest
//! whose hook fails at `reconnect` or `started`.
//!
//!     main -- arguments, signals, descriptors 0 to 2, definition
//!       |-- an unrelated guest: 0
//!       |-- may refuse: the work, its exit status; at a fatal signal a sentence and 1
//!       |-- fork fails: at reconnect and started 0 and a sentence; else this process does the work
//!       |-- child:  the work, its exit status
//!       `-- parent: waits; 0, and where a signal ended the child a sentence
#![expect(unsafe_code, reason = "the entry point, its arguments, and fork")]

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use hooks::call::Operation;
use hooks::input::Head;
use hooks::record::RunDirectory;
use hooks::relevance::is_unrelated;
use nix::fcntl::{OFlag, open};
use nix::libc;
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{ForkResult, Pid, fork};
use rustix::io::fcntl_getfd;
use rustix::process::set_parent_process_death_signal;
use rustix::stdio::{stderr, stdin, stdout};

use super::{fatal, sentence, work};

/// libvirt's arguments: domain, operation, sub-operation, extra.
pub(super) type Arguments = [&'static CStr; 4];

// SAFETY: a program has one `main`, and the C library calls it with this signature (C standard, 5.1.2.2.1).
#[unsafe(no_mangle)]
extern "C" fn main(count: c_int, values: *const *const c_char) -> c_int {
    let arguments = [1, 2, 3, 4].map(|index| argument(count, values, index));
    let word = |index: usize| arguments[index].to_str().unwrap_or_default();
    let operation = Operation::parse(word(1), word(2));
    ignore_signals();
    fill_descriptors();
    let run = variable(c"VARIANTD_RUN_DIR").unwrap_or(c"/run/variantd");
    let head = Head::read(stdin());
    if passes(&head, run) {
        return 0;
    }
    let run = Path::new(OsStr::from_bytes(run.to_bytes()));
    c_int::from(match operation {
        Some(operation) if operation.can_veto() => {
            fatal::refuse(&arguments);
            work(&arguments, head, run)
        }
        _ => fork_and_work(&arguments, operation, head, run),
    })
}

/// Notes the call, and returns true for an unrelated guest.
fn passes(head: &Head, run: &CStr) -> bool {
    let run = RunDirectory::open(run);
    run.note_call();
    head.whole().is_some_and(|text| is_unrelated(text, &run))
}

fn fork_and_work(
    arguments: &Arguments,
    operation: Option<Operation>,
    head: Head,
    run: &Path,
) -> u8 {
    // SAFETY: this process has one thread, so the child may do all that a process may (fork(2)).
    match unsafe { fork() } {
        Ok(ForkResult::Child) => {
            // When libvirt kills the hook, the child must not continue to wait.
            let _ = set_parent_process_death_signal(Some(rustix::process::Signal::KILL));
            work(arguments, head, run)
        }
        Ok(ForkResult::Parent { child }) => ended(arguments, child),
        Err(why) if operation.is_some_and(Operation::can_kill) => {
            sentence::not_asked(arguments, why);
            0
        }
        // Without a child a crash is a failure for libvirt, which it ignores at these operations.
        Err(_) => work(arguments, head, run),
    }
}

/// The exit status after the child's end: its operation does not refuse.
fn ended(arguments: &Arguments, child: Pid) -> u8 {
    let status = loop {
        match waitpid(child, None) {
            Err(nix::Error::EINTR) => {}
            status => break status,
        }
    };
    if let Ok(WaitStatus::Signaled(_, signal, _)) = status {
        sentence::killed(arguments, signal);
    }
    0
}

/// The argument, or an empty text where there is none.
fn argument(count: c_int, values: *const *const c_char, index: usize) -> &'static CStr {
    let present = usize::try_from(count).is_ok_and(|count| index < count);
    if !present || values.is_null() {
        return c"";
    }
    // SAFETY: `values` has `count` pointers to strings that end in NUL, and all of it stays for the whole life of the process.
    unsafe { CStr::from_ptr(*values.add(index)) }
}

/// A variable of the environment.
fn variable(name: &CStr) -> Option<&'static CStr> {
    // SAFETY: this process has one thread, and nothing in it changes the environment, so the text stays.
    unsafe {
        let value = libc::getenv(name.as_ptr());
        (!value.is_null()).then(|| CStr::from_ptr(value))
    }
}

/// A closed reader or a file size limit makes the write fail instead of ending the process (signal(7)).
fn ignore_signals() {
    for ignored in [Signal::SIGPIPE, Signal::SIGXFSZ] {
        // SAFETY: no handler of this program is replaced, and SIG_IGN runs no code.
        let _ = unsafe { signal(ignored, SigHandler::SigIgn) };
    }
}

/// Opens closed standard descriptors, so that no socket or file gets their numbers: open(2) takes the lowest.
fn fill_descriptors() {
    for descriptor in [stdin(), stdout(), stderr()] {
        if fcntl_getfd(descriptor).is_err() {
            let null = open(c"/dev/null", OFlag::O_RDWR, Mode::empty());
            // Kept open on purpose, under the number that was closed.
            std::mem::forget(null);
        }
    }
}
