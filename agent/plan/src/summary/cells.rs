//! The NUMA cells of a completed definition with their host nodes, and its distances by class.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;
use serde::{Deserialize, Serialize};

use crate::saved_plan::PlannedDevice;
use domain::{Cell, Domain};

/// Cells with processors that have a row of their own; a guest with more has one for all.
const SHOWN: usize = 8;

/// The guest's cells.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cells {
    /// How many the guest has.
    pub count: usize,
    /// The cells, those of a device together.
    pub rows: Vec<GuestCell>,
    /// The distances that the definition gives.
    pub distances: Distances,
}

/// One cell, or the cells of a device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestCell {
    /// Their ids.
    pub cells: String,
    /// The host nodes that they are bound to; empty if they are bound to none.
    pub nodes: String,
    /// Their processors; empty for a device's.
    pub cpus: String,
    /// Their memory in KiB.
    pub memory_kib: u64,
    /// The device whose generic initiators they are.
    pub device: Option<PciAddress>,
}

/// The different distances between two cells, by class.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distances {
    /// Pairs of different cells that have one.
    pub pairs: usize,
    /// Between two cells of no device.
    pub sockets: BTreeSet<u8>,
    /// Between such a cell and one of a device.
    pub to_device: BTreeSet<u8>,
    /// Between two cells of one device.
    pub same_device: BTreeSet<u8>,
    /// Between cells of two devices.
    pub other_device: BTreeSet<u8>,
}

impl Cells {
    /// Those of a completed definition.
    pub(super) fn of(completed: &str, devices: &[PlannedDevice]) -> Self {
        // A completed definition can be parsed: it was, or is read back.
        let Ok(domain) = Domain::parse(completed) else {
            return Self::default();
        };
        let owners = owners(devices);
        let (own, of_devices): (Vec<&Cell>, Vec<&Cell>) = domain
            .cells
            .iter()
            .partition(|cell| !owners.contains_key(&cell.id));
        // With an older libvirt the cells of devices are QEMU arguments.
        let count = own.len() + of_devices.len().max(owners.len());
        let plain = own.iter().map(|cell| plain(&domain, cell));
        let plain: Vec<GuestCell> = match own.len() > SHOWN {
            true => together(plain.collect()).into_iter().collect(),
            false => plain.collect(),
        };
        let devices = devices.iter().filter(|device| !device.cells.is_empty());
        Self {
            count,
            rows: plain.into_iter().chain(devices.map(of_device)).collect(),
            distances: Distances::of(&domain, &owners),
        }
    }
}

/// The device of each cell that is an initiator.
fn owners(devices: &[PlannedDevice]) -> BTreeMap<u32, PciAddress> {
    let cells = |device: &PlannedDevice| device.cells.parse::<RangeList>().unwrap_or_default();
    let owners = devices.iter().flat_map(|device| {
        let cells: Vec<u32> = cells(device).iter().collect();
        cells.into_iter().map(|cell| (cell, device.address))
    });
    owners.collect()
}

fn plain(domain: &Domain, cell: &Cell) -> GuestCell {
    let mut bound = domain.memory_nodes.iter();
    let bound = bound.find(|bound| bound.cell == cell.id);
    let nodes = bound.map(|bound| &bound.nodes);
    let nodes = nodes.or(domain.binding.memory.as_ref());
    GuestCell {
        cells: cell.id.to_string(),
        nodes: nodes.map_or(String::new(), ToString::to_string),
        cpus: cell.cpus.to_string(),
        memory_kib: cell.memory_kib,
        device: None,
    }
}

fn of_device(device: &PlannedDevice) -> GuestCell {
    let nodes: RangeList = device
        .host_nodes
        .iter()
        .map(|node| u32::from(*node))
        .collect();
    GuestCell {
        cells: device.cells.clone(),
        nodes: nodes.to_string(),
        cpus: String::new(),
        memory_kib: 0,
        device: Some(device.address),
    }
}

/// One row for many cells.
fn together(cells: Vec<GuestCell>) -> Option<GuestCell> {
    let all = |value: fn(&GuestCell) -> &String| {
        let lists = cells.iter().filter_map(|cell| value(cell).parse().ok());
        let lists: Vec<RangeList> = lists.collect();
        RangeList::union(&lists).to_string()
    };
    Some(GuestCell {
        cells: all(|cell| &cell.cells),
        nodes: all(|cell| &cell.nodes),
        cpus: all(|cell| &cell.cpus),
        memory_kib: cells.iter().map(|cell| cell.memory_kib).sum(),
        device: cells.first()?.device,
    })
}

impl Distances {
    fn of(domain: &Domain, owners: &BTreeMap<u32, PciAddress>) -> Self {
        let mut distances = Self::default();
        for cell in &domain.cells {
            for (to, value) in &cell.distances {
                distances.count((cell.id, *to), *value, owners);
            }
        }
        let arguments = domain.command_line.iter().flat_map(|line| &line.arguments);
        for (from, to, value) in arguments.filter_map(|one| argument(&one.value)) {
            distances.count((from, to), value, owners);
        }
        distances
    }

    fn count(&mut self, (from, to): (u32, u32), value: u8, owners: &BTreeMap<u32, PciAddress>) {
        if from == to {
            return;
        }
        self.pairs += 1;
        let class = match (owners.get(&from), owners.get(&to)) {
            (None, None) => &mut self.sockets,
            (Some(one), Some(other)) if one == other => &mut self.same_device,
            (Some(_), Some(_)) => &mut self.other_device,
            _ => &mut self.to_device,
        };
        class.insert(value);
    }
}

/// A distance as a QEMU argument: `dist,src=A,dst=B,val=C`.
fn argument(value: &str) -> Option<(u32, u32, u8)> {
    let mut parts = value.strip_prefix("dist,src=")?.split(',');
    let from = parts.next()?.parse().ok()?;
    let to = parts.next()?.strip_prefix("dst=")?.parse().ok()?;
    let value = parts.next()?.strip_prefix("val=")?.parse().ok()?;
    Some((from, to, value))
}
