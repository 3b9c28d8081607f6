//! Changes the host for the agent in a process of its own: one write, one module, or one query of VFIO. As the program of
//! `variantd-probe.service` it asks the installed emulators.
//!
//! Must not use libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::process::ExitCode;

use agent::request;
use agent::stack::emulator;
use rustix::process::{getpriority_process, setpriority_process};

fn main() -> ExitCode {
    release_devices();
    let mut arguments = std::env::args_os().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(word), Some(file)) if word == emulator::ARGUMENT => emulator::serve(file.as_ref()),
        _ => request::serve(),
    }
}

/// The parent may run at the raised priority of the hook's thread. A driver's probe, which may take long, must not run
/// at a higher priority than guests.
fn release_devices() {
    if getpriority_process(None).is_ok_and(|priority| priority < 0) {
        let _ = setpriority_process(None, 0);
    }
}
