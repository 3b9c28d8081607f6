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

/// The same for the places of a GB300's GPUs.
const GB300: [Egm; 2] = [
    Egm {
        gpus: &["0008:06:00.0", "0009:06:00.0"],
        ..GB200[0]
    },
    Egm {
        gpus: &["0018:06:00.0", "0019:06:00.0"],
        ..GB200[1]
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

/// The machines that get EGM.
pub struct Without<'a> {
    pub gb200: &'a Machine,
    pub gb200_nic: &'a Machine,
    pub gb300: &'a Machine,
    pub gh200: &'a Machine,
    pub gh200_nic: &'a Machine,
}

impl Without<'_> {
    /// The machines with EGM.
    pub fn with_egm(self) -> [Machine; 5] {
        let gb200 = include_str!("readme/gb200-egm.txt");
        let nic = include_str!("readme/gb200-nic-egm.txt");
        let gb300 = include_str!("readme/gb300-egm.txt");
        let gh200 = include_str!("readme/gh200-4gpu-egm.txt");
        let gh200_nic = include_str!("readme/gh200-nic-egm.txt");
        [
            with("gb200-egm", gb200, self.gb200, &GB200),
            with("gb200-nic-egm", nic, self.gb200_nic, &GB200),
            with("gb300-egm", gb300, self.gb300, &GB300),
            with("gh200-4gpu-egm", gh200, self.gh200, &GH200),
            with("gh200-nic-egm", gh200_nic, self.gh200_nic, &GH200),
        ]
    }
}

fn with(
    name: &'static str,
    readme: &'static str,
    machine: &Machine,
    egm: &'static [Egm],
) -> Machine {
    let mut machine = machine.clone();
    let gpus = machine.endpoints.iter_mut();
    for gpu in gpus.filter(|one| one.initiators > 0) {
        gpu.kind.driver = DRIVER;
    }
    Machine {
        name,
        readme,
        egm,
        ..machine
    }
}
