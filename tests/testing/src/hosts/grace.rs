//! The modelled Grace machines.

use super::machine::{At, Ats, Endpoint, Group, Kind, Machine, Platform, Processors, Reader};

/// The device id of a Vera Rubin GPU.
pub const RUBIN: u16 = 0x3041;
const GIB: u64 = 1 << 30;
const MIB: u64 = 1 << 20;
/// AtomicOp completer of 32, 64 and 128 bits.
const ALL_WIDTHS: u32 = 0x0380;

/// Every Grace machine.
pub fn all() -> Vec<Machine> {
    let mut all = vec![gh200(), gh200_4gpu(), gh200_names()];
    all.extend([gb200(), gb200_shared_smmu(), gb200_nic(), gb200_node_head()]);
    let other = gb200_other_initiators();
    let readme = include_str!("readme/gb200-other-initiators-user.txt");
    all.extend([
        seen_by_user("gb200-other-initiators-user", readme, &other),
        other,
    ]);
    let readme = include_str!("readme/gb200-user.txt");
    all.extend([
        seen_by_user("gb200-user", readme, &gb200()),
        gb200_memory_nodes(),
    ]);
    all.extend([gh200_255(), gh200_nic(), vera_rubin()]);
    let gb300 = super::gb300::all();
    let without = super::egm::Without {
        gb200: &gb200(),
        gb200_nic: &gb200_nic(),
        gb300: &gb300[0],
        gh200: &gh200_4gpu(),
        gh200_nic: &gh200_nic(),
    };
    all.extend(without.with_egm());
    all.extend(gb300);
    all
}

pub fn grace(name: &'static str, readme: &'static str, sockets: u32) -> Machine {
    Machine {
        name,
        readme,
        release: "6.17.0-1008-nvidia-64k",
        platform: Platform::Grace,
        sockets,
        cpus: 72,
        memory_kib: &[501_219_328],
        remote: 40,
        same_device: 11,
        processors: Processors::PLAIN,
        endpoints: Vec::new(),
        egm: &[],
        reader: Reader::Root,
    }
}

/// The same machine, read without root.
fn seen_by_user(name: &'static str, readme: &'static str, machine: &Machine) -> Machine {
    Machine {
        name,
        readme,
        reader: Reader::User,
        ..machine.clone()
    }
}

const fn gpu_kind(device: u16) -> Kind {
    Kind {
        vendor: 0x10de,
        device,
        class: 0x03_0200,
        driver: "nvidia",
        reset: "flr bus",
    }
}

pub fn gpu(
    device: u16,
    [port, address]: [&'static str; 2],
    socket: u32,
    iommu: &'static str,
) -> Endpoint {
    Endpoint {
        port,
        between: &[],
        address,
        kind: gpu_kind(device),
        socket,
        iommu,
        bars: [64 * MIB, 0, 256 * GIB, 0, 32 * MIB, 0],
        devcap2: 0,
        devctl2: 0,
        port_devcap2: ALL_WIDTHS,
        initiators: 8,
        memory_kib: 0,
        numa_node: At::Socket,
        physical: None,
        group: Group::Next,
        ats: Ats::Absent,
    }
}

/// The GPU of a GH200 has no BAR for its memory; the variant driver emulates those BARs.
fn hopper(addresses: [&'static str; 2], socket: u32, iommu: &'static str) -> Endpoint {
    Endpoint {
        bars: [16 * MIB, 0, 0, 0, 32 * MIB, 0],
        devcap2: 0x0180,
        ..gpu(0x2342, addresses, socket, iommu)
    }
}

fn gh200() -> Machine {
    let at = ["0009:00:00.0", "0009:01:00.0"];
    Machine {
        endpoints: vec![hopper(at, 0, "smmu3.0x0000000012000000")],
        ..grace("gh200-1gpu", include_str!("readme/gh200.txt"), 1)
    }
}

/// Distances and sizes of a recorded host.
fn gh200_255() -> Machine {
    let at = ["0009:00:00.0", "0009:01:00.0"];
    let gpu = Endpoint {
        memory_kib: 97_280 << 10,
        ..hopper(at, 0, "smmu3.0x0000000012000000")
    };
    Machine {
        endpoints: vec![gpu],
        memory_kib: &[490_037 << 10],
        same_device: 255,
        ..grace("gh200-255", include_str!("readme/gh200-255.txt"), 1)
    }
}

fn gh200_4gpu() -> Machine {
    let at = |port, gpu, socket, smmu| hopper([port, gpu], socket, smmu);
    Machine {
        endpoints: vec![
            at(
                "0009:00:00.0",
                "0009:01:00.0",
                0,
                "smmu3.0x0000000012000000",
            ),
            at(
                "0019:00:00.0",
                "0019:01:00.0",
                1,
                "smmu3.0x0000100012000000",
            ),
            at(
                "0029:00:00.0",
                "0029:01:00.0",
                2,
                "smmu3.0x0000200012000000",
            ),
            at(
                "0039:00:00.0",
                "0039:01:00.0",
                3,
                "smmu3.0x0000300012000000",
            ),
        ],
        ..grace("gh200-4gpu", include_str!("readme/gh200-4gpu.txt"), 4)
    }
}

/// The firmware lists GPU 10 before GPU 2, as a sort by text would.
fn gh200_names() -> Machine {
    let at = |port, gpu, socket, smmu| hopper([port, gpu], socket, smmu);
    Machine {
        endpoints: vec![
            at(
                "0010:00:00.0",
                "0010:01:00.0",
                1,
                "smmu3.0x0000100012000000",
            ),
            at(
                "0002:00:00.0",
                "0002:01:00.0",
                0,
                "smmu3.0x0000000012000000",
            ),
        ],
        ..grace("gh200-names", include_str!("readme/gh200-names.txt"), 2)
    }
}

/// The four GPUs of a board with two sockets.
fn board(device: u16) -> Vec<Endpoint> {
    let at = |port, address, socket, smmu| gpu(device, [port, address], socket, smmu);
    vec![
        at(
            "0008:00:00.0",
            "0008:01:00.0",
            0,
            "smmu3.0x0000000011000000",
        ),
        at(
            "0009:00:00.0",
            "0009:01:00.0",
            0,
            "smmu3.0x0000000012000000",
        ),
        at(
            "0018:00:00.0",
            "0018:01:00.0",
            1,
            "smmu3.0x0000100011000000",
        ),
        at(
            "0019:00:00.0",
            "0019:01:00.0",
            1,
            "smmu3.0x0000100012000000",
        ),
    ]
}

fn gb200() -> Machine {
    Machine {
        endpoints: board(0x2941),
        ..grace("gb200-4gpu", include_str!("readme/gb200.txt"), 2)
    }
}

/// A GPU with two visible BARs of 512 GiB.
fn vera_rubin() -> Machine {
    let at = ["0008:00:00.0", "0008:01:00.0"];
    let gpu = Endpoint {
        bars: [64 * MIB, 0, 512 * GIB, 0, 512 * GIB, 0],
        ..gpu(RUBIN, at, 0, "smmu3.0x0000000011000000")
    };
    Machine {
        endpoints: vec![gpu],
        ..grace("vera-rubin", include_str!("readme/vera-rubin.txt"), 1)
    }
}

/// Both GPUs of socket 0 behind one SMMU.
fn gb200_shared_smmu() -> Machine {
    let mut endpoints = board(0x2941);
    endpoints[1].iommu = endpoints[0].iommu;
    let readme = include_str!("readme/gb200-shared-smmu.txt");
    Machine {
        endpoints,
        ..grace("gb200-shared-smmu", readme, 2)
    }
}

/// A GB200 with network adapters.
fn gb200_nic() -> Machine {
    let mut endpoints = board(0x2941);
    endpoints.extend(adapters());
    Machine {
        endpoints,
        ..grace("gb200-nic", include_str!("readme/gb200-nic.txt"), 2)
    }
}

/// Four GH200 with the same network adapters.
fn gh200_nic() -> Machine {
    let machine = gh200_4gpu();
    let mut endpoints = machine.endpoints;
    endpoints.extend(adapters());
    Machine {
        endpoints,
        ..grace("gh200-nic", include_str!("readme/gh200-nic.txt"), 4)
    }
}

/// A ConnectX-7 on each of the first two sockets, the first with a virtual function.
fn adapters() -> [Endpoint; 3] {
    let at = |port, address, socket, iommu| Endpoint {
        kind: super::x86::CONNECTX,
        bars: [32 * MIB, 0, 0, 0, 0, 0],
        devcap2: ALL_WIDTHS,
        initiators: 0,
        ..gpu(0, [port, address], socket, iommu)
    };
    let first = at(
        "0002:00:00.0",
        "0002:01:00.0",
        0,
        "smmu3.0x0000000015000000",
    );
    let second = at(
        "0012:00:00.0",
        "0012:01:00.0",
        1,
        "smmu3.0x0000100015000000",
    );
    let function = super::x86::virtual_function("0002:01:00.2", &first);
    [function, first, second]
}

/// Read without root, so that only `numa_node` assigns nodes to devices.
fn gb200_node_head() -> Machine {
    let mut endpoints = board(0x2941);
    for gpu in &mut endpoints {
        gpu.numa_node = At::FirstInitiator;
    }
    let readme = include_str!("readme/gb200-node-head.txt");
    Machine {
        endpoints,
        reader: Reader::User,
        ..grace("gb200-node-head", readme, 2)
    }
}

/// A NIC with an initiator before the GPUs of socket 0, a CXL memory device with one before those of socket 1.
fn gb200_other_initiators() -> Machine {
    let mut endpoints = board(0x2941);
    let other = |kind, addresses, socket, iommu| Endpoint {
        kind,
        bars: [32 * MIB, 0, 0, 0, 0, 0],
        initiators: 1,
        ..gpu(0, addresses, socket, iommu)
    };
    let cxl = Kind {
        vendor: 0x1af4,
        device: 0x1100,
        class: 0x05_0210,
        driver: "cxl_pci",
        reset: "flr bus",
    };
    let at = ["0016:00:00.0", "0016:01:00.0"];
    endpoints.insert(2, other(cxl, at, 1, "smmu3.0x0000100016000000"));
    let at = ["0002:00:00.0", "0002:01:00.0"];
    let nic = other(super::x86::CONNECTX, at, 0, "smmu3.0x0000000015000000");
    endpoints.insert(0, nic);
    let readme = include_str!("readme/gb200-other-initiators.txt");
    Machine {
        endpoints,
        ..grace("gb200-other-initiators", readme, 2)
    }
}

/// The host's driver has added the GPUs' memory to the host.
fn gb200_memory_nodes() -> Machine {
    let mut endpoints = board(0x2941);
    for gpu in &mut endpoints {
        gpu.memory_kib = 188_416 << 10;
    }
    let readme = include_str!("readme/gb200-memory-nodes.txt");
    Machine {
        endpoints,
        memory_kib: &[489_935 << 10, 489_795 << 10],
        ..grace("gb200-memory-nodes", readme, 2)
    }
}
