//! What the agent does to a device, in a process of its own: one write, or one question to VFIO.
//!
//! Must use nothing of libvirt: loading its libraries takes longer than the write, for each write to each device.

use std::process::ExitCode;

use agent::{child, probe};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.first().map(String::as_str) {
        Some(child::ARGUMENT) => child::run(&arguments[1..]),
        Some(probe::ARGUMENT) => probe::run(&arguments[1..]),
        _ => {
            eprintln!("variantd-child: this is variantd's own; people use 'variantctl'");
            ExitCode::from(2)
        }
    }
}
