//! A modelled machine with a path for each place that can block AtomicOps.

use super::machine::{Endpoint, Kind, Machine, Platform, ROUTING, Reader, SwitchPort};
use super::x86::{CONNECTX, MI300X, endpoint, virtual_function};

const EGRESS_BLOCKED: u16 = 0x0080;
const REQUESTER: u16 = 0x0040;
/// ACS source validation and the three redirections, as Linux sets them.
const ACCESS_CONTROL: u16 = 0x001d;

/// An accelerator that is integrated in the root complex.
const MI300A: Kind = Kind {
    device: 0x74a0,
    ..MI300X
};
const MI300X_FUNCTION: Kind = Kind {
    device: 0x74b5,
    reset: "flr",
    ..MI300X
};

const SWITCH: SwitchPort = SwitchPort::new("0000:01:00.0", true, ROUTING);
const ROUTED: [SwitchPort; 2] = [
    SWITCH,
    SwitchPort {
        access_control: ACCESS_CONTROL,
        ..SwitchPort::new("0000:02:00.0", false, ROUTING)
    },
];
const UNROUTED: [SwitchPort; 2] = [SWITCH, SwitchPort::new("0000:02:01.0", false, 0)];
const BLOCKED: [SwitchPort; 2] = [
    SwitchPort {
        devctl2: EGRESS_BLOCKED,
        ..SwitchPort::new("0000:21:00.0", true, ROUTING)
    },
    SwitchPort::new("0000:22:00.0", false, ROUTING),
];

/// The machine.
pub fn all() -> Vec<Machine> {
    vec![Machine {
        name: "atomics",
        readme: include_str!("readme/atomics.txt"),
        release: "7.2.12-amd64",
        platform: Platform::Amd,
        sockets: 1,
        cpus: 4,
        memory_kib: &[16_777_216],
        remote: 32,
        same_device: 11,
        processors: super::machine::Processors::PLAIN,
        endpoints: endpoints(),
        egm: &[],
        reader: Reader::Root,
    }]
}

fn endpoints() -> Vec<Endpoint> {
    let gpu = |at| endpoint(MI300X, at, 0);
    let behind = |at, between| Endpoint { between, ..gpu(at) };
    let narrow = Endpoint {
        devcap2: 0x0080,
        devctl2: REQUESTER,
        port_devcap2: 0x0380,
        ..gpu(["0000:60:01.1", "0000:61:00.0", "ivhd3"])
    };
    let nic = Endpoint {
        devcap2: 0x0100,
        port_devcap2: 0x0380,
        ..endpoint(CONNECTX, ["0000:80:01.1", "0000:81:00.0", "ivhd4"], 0)
    };
    let silent = |function: Endpoint| Endpoint {
        devcap2: 0,
        ..function
    };
    vec![
        behind(["0000:00:01.1", "0000:03:00.0", "ivhd0"], &ROUTED),
        behind(["0000:00:01.1", "0000:04:00.0", "ivhd0"], &UNROUTED),
        behind(["0000:20:01.1", "0000:23:00.0", "ivhd1"], &BLOCKED),
        Endpoint {
            port_devcap2: 0x0400,
            ..gpu(["0000:40:01.1", "0000:41:00.0", "ivhd2"])
        },
        Endpoint {
            kind: MI300X_FUNCTION,
            physical: Some("0000:61:00.0"),
            ..silent(Endpoint {
                address: "0000:61:02.0",
                ..narrow.clone()
            })
        },
        narrow,
        silent(virtual_function("0000:81:00.2", &nic)),
        nic,
        endpoint(MI300A, ["", "0000:00:05.0", "ivhd0"], 0),
    ]
}
