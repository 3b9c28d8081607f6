//! Grace machines with EGM: their GPUs are bound to the driver for guests, and the kernel shows the regions.

use super::machine::{Egm, Machine};

/// The driver for guests.
const DRIVER: &str = "nvgrace_gpu_vfio_pci";

/// Sizes and numbers of a recorded host.
const GB200: [Egm; 2] = [
    Egm {
        number: 4,
        mib: 457_728,
        gpus: &["0008:01:00.0", "0009:01:00.0"],
    },
    Egm {
        number: 5,
        mib: 457_728,
        gpus: &["0018:01:00.0", "0019:01:00.0"],
    },
];

/// Size and numbers of Kata's fixtures, one region for each socket.
const GH200: [Egm; 4] = [
    region(4, &["0009:01:00.0"]),
    region(5, &["0019:01:00.0"]),
    region(6, &["0029:01:00.0"]),
    region(7, &["0039:01:00.0"]),
];

const fn region(number: u32, gpus: &'static [&'static str]) -> Egm {
    Egm {
        number,
        mib: 56_896,
        gpus,
    }
}

/// The machines with EGM, made of those without.
pub fn all(gb200: &Machine, gh200: &Machine) -> [Machine; 2] {
    let readme = include_str!("readme/gb200-egm.txt");
    let four = include_str!("readme/gh200-4gpu-egm.txt");
    [
        with("gb200-egm", readme, gb200, &GB200),
        with("gh200-4gpu-egm", four, gh200, &GH200),
    ]
}

fn with(
    name: &'static str,
    readme: &'static str,
    machine: &Machine,
    egm: &'static [Egm],
) -> Machine {
    let mut machine = machine.clone();
    for gpu in &mut machine.endpoints {
        gpu.kind.driver = DRIVER;
    }
    Machine {
        name,
        readme,
        egm,
        ..machine
    }
}
