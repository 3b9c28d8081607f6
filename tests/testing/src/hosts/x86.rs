//! The modelled x86-64 machines, and the network adapters of all machines.

use std::sync::LazyLock;

use super::machine::{
    At, Ats, Endpoint, Group, Kind, Machine, Platform, Processors, ROUTING, Reader, SwitchPort,
};

const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// AtomicOp completer of 32 and 64 bits.
const TWO_WIDTHS: u32 = 0x0180;

/// A physical function of a ConnectX-7.
pub const CONNECTX: Kind = Kind {
    vendor: 0x15b3,
    device: 0x1021,
    class: 0x02_0000,
    driver: "mlx5_core",
    reset: "flr bus",
};

const H100: Kind = Kind {
    vendor: 0x10de,
    device: 0x2330,
    class: 0x03_0200,
    driver: "nvidia",
    reset: "flr bus",
};

pub const MI300X: Kind = Kind {
    vendor: 0x1002,
    device: 0x74a1,
    class: 0x12_0000,
    driver: "amdgpu",
    reset: "bus",
};

/// Every x86-64 machine.
pub fn all() -> Vec<Machine> {
    vec![hgx(), switched(), mi300x()]
}

/// A virtual function of a ConnectX, in the slot of its physical one.
pub fn virtual_function(address: &'static str, physical: &Endpoint) -> Endpoint {
    Endpoint {
        address,
        kind: Kind {
            device: 0x101e,
            reset: "flr",
            ..CONNECTX
        },
        bars: [2 * MIB, 0, 0, 0, 0, 0],
        physical: Some(physical.address),
        ..physical.clone()
    }
}

pub fn endpoint(kind: Kind, [port, address, iommu]: [&'static str; 3], socket: u32) -> Endpoint {
    Endpoint {
        port,
        between: &[],
        address,
        kind,
        socket,
        iommu,
        bars: [0; 6],
        devcap2: TWO_WIDTHS,
        devctl2: 0,
        port_devcap2: TWO_WIDTHS,
        initiators: 0,
        memory_kib: 0,
        numa_node: At::Socket,
        physical: None,
        group: Group::Next,
        ats: Ats::Absent,
    }
}

/// Eight GPUs and a network adapter with a virtual function.
fn hgx() -> Machine {
    let gpu = |names, socket| Endpoint {
        bars: [16 * MIB, 0, 128 * GIB, 0, 32 * MIB, 0],
        ..endpoint(H100, names, socket)
    };
    let names = ["0000:15:01.0", "0000:18:00.0", "dmar8"];
    let nic = Endpoint {
        bars: [32 * MIB, 0, 0, 0, 0, 0],
        ..endpoint(CONNECTX, names, 0)
    };
    let mut endpoints = vec![
        gpu(["0000:1a:01.0", "0000:1b:00.0", "dmar0"], 0),
        gpu(["0000:42:01.0", "0000:43:00.0", "dmar1"], 0),
        gpu(["0000:51:01.0", "0000:52:00.0", "dmar2"], 0),
        gpu(["0000:60:01.0", "0000:61:00.0", "dmar3"], 0),
        gpu(["0000:9c:01.0", "0000:9d:00.0", "dmar4"], 1),
        gpu(["0000:c2:01.0", "0000:c3:00.0", "dmar5"], 1),
        gpu(["0000:d0:01.0", "0000:d1:00.0", "dmar6"], 1),
        gpu(["0000:de:01.0", "0000:df:00.0", "dmar7"], 1),
    ];
    endpoints.push(virtual_function("0000:18:00.2", &nic));
    endpoints.push(nic);
    Machine {
        name: "hgx-8gpu",
        readme: include_str!("readme/hgx.txt"),
        release: "6.8.0-60-generic",
        platform: Platform::Intel,
        sockets: 2,
        cpus: 56,
        memory_kib: &[1_056_423_936],
        remote: 21,
        same_device: 11,
        processors: Processors::PLAIN,
        endpoints,
        egm: &[],
        reader: Reader::Root,
    }
}

/// ACS source validation, the two redirections and upstream forwarding, as Linux sets them with an IOMMU.
const REDIRECTED: u16 = 0x001d;
/// The same with Direct Translated P2P.
const TRANSLATED: u16 = 0x005d;

/// The bus of each switch, and its ACS.
const SWITCHES: [(&str, u16); 4] = [
    ("15", REDIRECTED),
    ("37", 0),
    ("97", TRANSLATED),
    ("b7", TRANSLATED),
];

/// Eight GPUs and eight network adapters, two and two below each switch.
fn switched() -> Machine {
    // Made once, because the texts of a machine live as long as the program.
    static ENDPOINTS: LazyLock<Vec<Endpoint>> = LazyLock::new(below_switches);
    Machine {
        name: "hgx-switched",
        readme: include_str!("readme/hgx-switched.txt"),
        endpoints: ENDPOINTS.clone(),
        ..hgx()
    }
}

fn below_switches() -> Vec<Endpoint> {
    let mut endpoints = Vec::new();
    for (index, (bus, access_control)) in SWITCHES.into_iter().enumerate() {
        for slot in 0..4 {
            endpoints.push(below_switch(index, bus, access_control, slot));
        }
    }
    // An adapter whose firmware has ATS disabled.
    endpoints[11].ats = Ats::Absent;
    endpoints
}

/// The GPU (slots 0 and 1) or adapter (2 and 3) in a slot of a switch: root port `bus:01.0`, upstream port on the next bus,
/// downstream ports on the one after that.
fn below_switch(index: usize, bus: &str, access_control: u16, slot: u8) -> Endpoint {
    let number = u8::from_str_radix(bus, 16).expect("a bus");
    let at = |bus: u8, slot: u8| text(format!("0000:{bus:02x}:{slot:02x}.0"));
    let ports = [
        SwitchPort::new(at(number + 1, 0), true, ROUTING),
        SwitchPort {
            access_control,
            ..SwitchPort::new(at(number + 2, slot), false, ROUTING)
        },
    ];
    let (kind, bars) = match slot {
        0 | 1 => (H100, [16 * MIB, 0, 128 * GIB, 0, 32 * MIB, 0]),
        _ => (CONNECTX, [32 * MIB, 0, 0, 0, 0, 0]),
    };
    let names = [
        at(number, 1),
        at(number + 3 + slot, 0),
        text(format!("dmar{index}")),
    ];
    Endpoint {
        between: Box::leak(Box::new(ports)),
        bars,
        ats: if slot < 2 { Ats::Absent } else { Ats::Off },
        ..endpoint(kind, names, u32::from(index > 1))
    }
}

fn text(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn mi300x() -> Machine {
    let gpu = |names, socket| Endpoint {
        bars: [256 * GIB, 0, 2 * MIB, 0, 0, 0],
        ..endpoint(MI300X, names, socket)
    };
    Machine {
        name: "mi300x-8gpu",
        readme: include_str!("readme/mi300x.txt"),
        release: "6.8.0-60-generic",
        platform: Platform::Amd,
        sockets: 2,
        cpus: 96,
        memory_kib: &[1_188_226_048],
        remote: 32,
        same_device: 11,
        processors: Processors::PLAIN,
        endpoints: vec![
            gpu(["0000:04:01.1", "0000:05:00.0", "ivhd0"], 0),
            gpu(["0000:25:01.1", "0000:26:00.0", "ivhd1"], 0),
            gpu(["0000:45:01.1", "0000:46:00.0", "ivhd2"], 0),
            gpu(["0000:64:01.1", "0000:65:00.0", "ivhd3"], 0),
            gpu(["0000:84:01.1", "0000:85:00.0", "ivhd4"], 1),
            gpu(["0000:a5:01.1", "0000:a6:00.0", "ivhd5"], 1),
            gpu(["0000:c5:01.1", "0000:c6:00.0", "ivhd6"], 1),
            gpu(["0000:e4:01.1", "0000:e5:00.0", "ivhd7"], 1),
        ],
        egm: &[],
        reader: Reader::Root,
    }
}
