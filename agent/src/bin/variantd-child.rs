//! What the agent does to the host, in a process of its own: one write, one module, or one question to VFIO.
//!
//! Must use nothing of libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::process::ExitCode;

use agent::request;
use rustix::process::{getpriority_process, setpriority_process};

fn main() -> ExitCode {
    release_devices();
    request::serve()
}

/// Who starts us for libvirt's hook comes before other programs. A driver's probe, which may take long, does not stand before
/// guests.
fn release_devices() {
    if getpriority_process(None).is_ok_and(|priority| priority < 0) {
        let _ = setpriority_process(None, 0);
    }
}
