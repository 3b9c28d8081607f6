//! A modelled host of two sockets with two GPUs each, for tests of plans.

use kernel_glue::config::{Config, ConfigError};
use kernel_glue::device::Bar;
use kernel_glue::numa::{Node, Numa};

use super::*;
use crate::fixture::rewrite;

pub(crate) const GPUS: [(&str, u32); 4] = [
    ("0008:01:00.0", 0),
    ("0009:01:00.0", 0),
    ("0018:01:00.0", 1),
    ("0019:01:00.0", 1),
];

pub(crate) fn address(text: &str) -> PciAddress {
    text.parse().expect("test address")
}

pub(crate) fn node(id: u32) -> NumaNode {
    id.try_into().expect("test node")
}

pub(crate) fn device(at: &str, id: &str, numa_node: u32) -> Device {
    Device {
        address: address(at),
        id: id.parse().expect("test id"),
        class: 0x03_0200,
        driver: None,
        driver_override: None,
        numa_node: Some(node(numa_node)),
        iommu_group: None,
        iommu: None,
        modalias: String::new(),
        bars: [Bar::default(); 6],
        regions: None,
        reset_methods: Vec::new(),
        physical_function: None,
        ancestors: Vec::new(),
        config: Config::Unreadable(ConfigError::Short(64)),
    }
}

/// The GPU whose group a node is in: 2-9, 10-17, 18-25, 26-33.
fn owner(id: u32) -> Option<usize> {
    (id >= 2).then(|| (id as usize - 2) / 8)
}

/// Distances of grace-guests: 10 local, 11 in a group, 40 between, 80 and 120 from the sockets.
fn distance(a: u32, b: u32) -> u8 {
    let socket = |id: u32| owner(id).map_or(id, |gpu| GPUS[gpu].1);
    match (owner(a), owner(b)) {
        _ if a == b => 10,
        (None, None) => 40,
        (Some(x), Some(y)) => {
            if x == y {
                11
            } else {
                40
            }
        }
        _ => {
            if socket(a) == socket(b) {
                80
            } else {
                120
            }
        }
    }
}

pub(crate) fn host() -> Host {
    let nodes = (0..34).map(|id| Node {
        id: node(id),
        cpus: if id < 2 {
            (id * 72..id * 72 + 72).collect()
        } else {
            RangeList::default()
        },
        memory_kib: if id < 2 { 1 << 28 } else { 0 },
        distances: (0..34).map(|to| distance(id, to)).collect(),
    });
    let devices = GPUS
        .iter()
        .map(|(at, socket)| (address(at), device(at, "10de:2941", *socket)));
    let nic = device("0002:01:00.0", "15b3:1023", 0);
    Host {
        devices: devices.chain([(nic.address, nic)]).collect(),
        numa: Numa {
            nodes: nodes.collect(),
            generic_initiators: Some((2..34).collect()),
        },
        ..Host::default()
    }
}

pub(crate) fn hostdev(at: &str, inner: &str) -> String {
    let a = address(at);
    format!(
        "    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        <address domain='{:#06x}' bus='{:#04x}' slot='0x00' function='0x0'/>\n      </source>\n{inner}    </hostdev>\n",
        a.domain(),
        a.bus()
    )
}

pub(crate) fn guest(hostdevs: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>d0</name>\n  <memory unit='KiB'>4194304</memory>\n  <vcpu>4</vcpu>\n  <os>\n    <type arch='aarch64' machine='virt'>hvm</type>\n    <loader type='pflash'>/usr/share/AAVMF/AAVMF_CODE.fd</loader>\n  </os>\n  <features>\n    <acpi/>\n  </features>\n  <!-- the user's -->\n  <cpu mode='host-passthrough'/>\n  <devices>\n    <controller type=\"pci\" index='0' model='pcie-root'/>\n{hostdevs}  </devices>\n</domain>\n"
    )
}

pub(crate) struct Fixture {
    pub(crate) host: Host,
    pub(crate) recipes: Recipes,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self {
            host: host(),
            recipes: Recipes::shipped().expect("recipes"),
        }
    }

    pub(crate) fn input(&self) -> PlanInput<'_> {
        PlanInput {
            host: &self.host,
            recipes: &self.recipes,
            target: crate::target::Versions::NEWEST_TESTED.into(),
            replace: false,
            egm: None,
            numa: NumaInput::default(),
            asked: true,
            formatted: false,
            libvirt: &crate::from_libvirt::NOTHING,
        }
    }

    pub(crate) fn rewrite(&self, text: &str) -> crate::rewrite::Rewrite {
        rewrite(text, &self.input()).expect("a plan")
    }

    pub(crate) fn refusal(&self, text: &str) -> Refusal {
        rewrite(text, &self.input()).expect_err("a refusal")
    }
}
