//! Changes the host for the agent in a process of its own: one write, one module, or one query of VFIO.
//!
//! Must not use libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::process::ExitCode;

use agent::request;
use rustix::process::{getpriority_process, setpriority_process};

fn main() -> ExitCode {
    release_devices();
    request::serve()
}

/// The parent may run at the raised priority of the hook's thread. A driver's probe, which may take long, must not run
/// at a higher priority than guests.
fn release_devices() {
    if getpriority_process(None).is_ok_and(|priority| priority < 0) {
        let _ = setpriority_process(None, 0);
    }
}
