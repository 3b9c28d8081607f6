//! What the agent does to the host, in a process of its own: one write, one module, or one question to VFIO.
//!
//! Must use nothing of libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::process::ExitCode;

use agent::{child, probe};
use rustix::process::{getpriority_process, setpriority_process};

fn main() -> ExitCode {
    give_back();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(child::ARGUMENT) => child::run(&arguments[1..]),
        Some(child::LOAD) => child::load(&arguments[1..]),
        Some(probe::ARGUMENT) => probe::run(&arguments[1..]),
        _ => {
            eprintln!("variantd-child: this is variantd's own; people use 'variantctl'");
            ExitCode::from(2)
        }
    }
}

/// Who starts us for libvirt's hook comes before other programs. A driver's probe, which may take long, does not stand before
/// guests.
fn give_back() {
    if getpriority_process(None).is_ok_and(|priority| priority < 0) {
        let _ = setpriority_process(None, 0);
    }
}
