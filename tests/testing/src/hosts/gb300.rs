//! The modelled GB300 boards, with paths, groups and sizes of a recorded host: each GPU is behind two switches.

use super::grace::{gpu, grace};
use super::machine::{Endpoint, Group, Kind, Machine, ROUTING, SwitchPort};

const MIB: u64 = 1 << 20;

/// A ConnectX-8's function for direct access to GPU memory, beside each GPU.
const DATA_DIRECT: Kind = Kind {
    vendor: 0x15b3,
    device: 0x2100,
    class: 0x08_8000,
    driver: "mlx5_ib",
    reset: "flr bus",
};

/// The switch ports of a board's four GPUs: two to the adapter, then two more to the GPU.
type Ports = [[SwitchPort; 4]; 4];
type Beside = [[SwitchPort; 2]; 4];

const ROUTED: Ports = all_ports(ROUTING);
const ROUTED_BESIDE: Beside = all_beside(ROUTING);
const UNROUTED: Ports = all_ports(0);
const UNROUTED_BESIDE: Beside = all_beside(0);

/// The boards.
pub fn all() -> Vec<Machine> {
    let routed = || board(&ROUTED, &ROUTED_BESIDE);
    let mut together = routed();
    let gpus = together.iter_mut().filter(|one| one.initiators > 0);
    for (gpu, group) in gpus.zip([30, 31, 32, 33]) {
        gpu.group = Group::WithPorts(group);
    }
    vec![
        machine("gb300-4gpu", include_str!("readme/gb300.txt"), routed()),
        machine(
            "gb300-unrouted",
            include_str!("readme/gb300-unrouted.txt"),
            board(&UNROUTED, &UNROUTED_BESIDE),
        ),
        machine("gb300-p2p", include_str!("readme/gb300-p2p.txt"), together),
    ]
}

fn machine(name: &'static str, readme: &'static str, endpoints: Vec<Endpoint>) -> Machine {
    Machine {
        endpoints,
        memory_kib: &[483_137 << 10, 481_768 << 10],
        ..grace(name, readme, 2)
    }
}

const fn to_gpu(at: [&'static str; 4], devcap2: u32) -> [SwitchPort; 4] {
    [
        SwitchPort::new(at[0], true, devcap2),
        SwitchPort::new(at[1], false, devcap2),
        SwitchPort::new(at[2], true, devcap2),
        SwitchPort::new(at[3], false, devcap2),
    ]
}

const fn all_ports(devcap2: u32) -> Ports {
    [
        to_gpu(
            [
                "0008:01:00.0",
                "0008:02:03.0",
                "0008:04:00.0",
                "0008:05:00.0",
            ],
            devcap2,
        ),
        to_gpu(
            [
                "0009:01:00.0",
                "0009:02:03.0",
                "0009:04:00.0",
                "0009:05:00.0",
            ],
            devcap2,
        ),
        to_gpu(
            [
                "0018:01:00.0",
                "0018:02:03.0",
                "0018:04:00.0",
                "0018:05:00.0",
            ],
            devcap2,
        ),
        to_gpu(
            [
                "0019:01:00.0",
                "0019:02:03.0",
                "0019:04:00.0",
                "0019:05:00.0",
            ],
            devcap2,
        ),
    ]
}

const fn all_beside(devcap2: u32) -> Beside {
    [
        [
            SwitchPort::new("0008:01:00.0", true, devcap2),
            SwitchPort::new("0008:02:00.0", false, devcap2),
        ],
        [
            SwitchPort::new("0009:01:00.0", true, devcap2),
            SwitchPort::new("0009:02:00.0", false, devcap2),
        ],
        [
            SwitchPort::new("0018:01:00.0", true, devcap2),
            SwitchPort::new("0018:02:00.0", false, devcap2),
        ],
        [
            SwitchPort::new("0019:01:00.0", true, devcap2),
            SwitchPort::new("0019:02:00.0", false, devcap2),
        ],
    ]
}

fn board(ports: &'static Ports, beside: &'static Beside) -> Vec<Endpoint> {
    let sites = [
        (
            ["0008:00:00.0", "0008:06:00.0", "0008:03:00.0"],
            0,
            "smmu3.0x0000000011000000",
        ),
        (
            ["0009:00:00.0", "0009:06:00.0", "0009:03:00.0"],
            0,
            "smmu3.0x0000000012000000",
        ),
        (
            ["0018:00:00.0", "0018:06:00.0", "0018:03:00.0"],
            1,
            "smmu3.0x0000100011000000",
        ),
        (
            ["0019:00:00.0", "0019:06:00.0", "0019:03:00.0"],
            1,
            "smmu3.0x0000100012000000",
        ),
    ];
    let mut endpoints = Vec::new();
    for (index, ([root, address, adapter], socket, iommu)) in sites.into_iter().enumerate() {
        let gpu = Endpoint {
            between: &ports[index],
            memory_kib: 283_136 << 10,
            group: Group::Number(79 + index),
            ..gpu(0x31c2, [root, address], socket, iommu)
        };
        endpoints.push(Endpoint {
            address: adapter,
            between: &beside[index],
            kind: DATA_DIRECT,
            bars: [32 * MIB, 0, 0, 0, 0, 0],
            initiators: 0,
            memory_kib: 0,
            group: Group::Next,
            ..gpu.clone()
        });
        endpoints.push(gpu);
    }
    endpoints
}
