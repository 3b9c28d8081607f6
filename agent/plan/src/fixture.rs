//! A host of one socket and one GPU with eight initiator nodes, and guests on it, for tests.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config as ConfigSpace, ConfigError};
use kernel_glue::device::{Bar, Device};
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::numa::{Node, Numa, NumaNode, RangeList};

use crate::plan::{Plan, PlanInput};
use crate::rewrite::Rewrite;
use domain::Definition;
use domain::refusal::Refusal;

/// A device with a shipped recipe.
pub const GPU: &str = "0009:01:00.0";
/// A device without a recipe.
pub const NIC: &str = "0002:01:00.0";
/// The UUID of its guests.
pub const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

/// Completes a text that may not be a definition.
///
/// # Errors
/// As [`Definition::parse`] and [`crate::rewrite::rewrite`].
pub fn rewrite(text: &str, input: &PlanInput<'_>) -> Result<Rewrite, Refusal> {
    crate::rewrite::rewrite(&text.parse()?, input)
}

/// Reverts a text that may not be a definition.
///
/// # Errors
/// As [`Definition::parse`] and [`crate::revert::revert`].
pub fn revert(text: &str) -> Result<String, Refusal> {
    crate::revert::revert(&text.parse()?)
}

/// Checks a text that may not be a definition.
///
/// # Errors
/// As [`Definition::parse`] and [`crate::rewrite::verify`].
pub fn verify(text: &str, input: &PlanInput<'_>) -> Result<Plan, Refusal> {
    crate::rewrite::verify(&text.parse()?, input)
}

/// Parses a definition.
pub fn definition(text: &str) -> Definition {
    text.parse().expect("definition")
}

/// Parses an address.
pub fn address(text: &str) -> PciAddress {
    text.parse().expect("address")
}

/// Parses a driver's name.
pub fn driver(text: &str) -> DriverName {
    text.parse().expect("driver name")
}

/// A device of node 0 with this id and driver.
pub fn device(at: &str, id: &str, on: &str) -> Device {
    Device {
        address: address(at),
        id: id.parse().expect("id"),
        class: 0x03_0200,
        driver: Some(driver(on)),
        driver_override: None,
        numa_node: Some(node(0)),
        iommu_group: None,
        iommu: None,
        modalias: String::new(),
        bars: [Bar::default(); 6],
        regions: None,
        reset_methods: vec!["flr".into()],
        physical_function: None,
        ancestors: Vec::new(),
        config: ConfigSpace::Unreadable(ConfigError::Short(64)),
    }
}

fn node(id: u32) -> NumaNode {
    id.try_into().expect("node")
}

fn distance(a: u32, b: u32) -> u8 {
    match (a, b) {
        _ if a == b => 10,
        (0, _) | (_, 0) => 80,
        _ => 11,
    }
}

/// One socket, a GPU on `nvidia`, and a device without a recipe.
pub fn host() -> Host {
    let nodes = (0..9).map(|id| Node {
        id: node(id),
        cpus: if id == 0 {
            (0..72).collect()
        } else {
            RangeList::default()
        },
        memory_kib: if id == 0 { 1 << 28 } else { 0 },
        distances: (0..9).map(|to| distance(id, to)).collect(),
    });
    let devices = [
        device(GPU, "10de:2342", "nvidia"),
        device(NIC, "15b3:1023", "mlx5_core"),
    ];
    Host {
        devices: devices.into_iter().map(|d| (d.address, d)).collect(),
        numa: Numa {
            nodes: nodes.collect(),
            generic_initiators: Some((1..9).collect()),
        },
        ..Host::default()
    }
}

/// That host with its GPU on another driver.
pub fn host_on(name: &str) -> Host {
    let mut host = host();
    let gpu = host.devices.get_mut(&address(GPU)).expect("gpu");
    gpu.driver = Some(driver(name));
    host
}

/// The device at `at` as a guest's.
pub fn hostdev(at: &str) -> String {
    let at = address(at);
    format!(
        "<hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        \
         <address domain='{:#06x}' bus='{:#04x}' slot='0x00' function='0x0'/>\n      \
         </source>\n    </hostdev>",
        at.domain(),
        at.bus()
    )
}

/// A guest that is assigned the device at `at`.
pub fn guest(at: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>d0</name>\n  <uuid>{UUID}</uuid>\n  \
         <memory unit='KiB'>4194304</memory>\n  <vcpu>4</vcpu>\n  \
         <os firmware='efi'>\n    <type arch='aarch64' machine='virt'>hvm</type>\n  </os>\n  <features><acpi/></features>\n  \
         <cpu mode='host-passthrough'/>\n  <devices>\n    \
         <controller type='pci' index='0' model='pcie-root'/>\n    \
         {}\n  </devices>\n</domain>\n",
        hostdev(at)
    )
}

/// Distances by pair of cells, by `<distances>` and by `-numa dist`.
#[must_use]
pub fn distances(domain: &domain::Domain) -> BTreeMap<(u32, u32), u8> {
    let mut all = BTreeMap::new();
    for cell in &domain.cells {
        all.extend(
            cell.distances
                .iter()
                .map(|(to, value)| ((cell.id, *to), *value)),
        );
    }
    let arguments = domain.command_line.iter().flat_map(|line| &line.arguments);
    all.extend(arguments.filter_map(|argument| dist(&argument.value)));
    all
}

/// `dist,src=A,dst=B,val=C`.
fn dist(argument: &str) -> Option<((u32, u32), u8)> {
    let (from, rest) = argument.strip_prefix("dist,src=")?.split_once(",dst=")?;
    let (to, value) = rest.split_once(",val=")?;
    Some(((from.parse().ok()?, to.parse().ok()?), value.parse().ok()?))
}
