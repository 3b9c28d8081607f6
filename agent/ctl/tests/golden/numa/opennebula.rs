//! OpenNebula's layout by its public rules (the page's head names them), for as many nodes as variantd's layout has.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::numa::{NumaNode, RangeList};
use planner::size::kib_in_units;

use super::Items;
use super::guest::{self, Cell, Guest};

/// Root ports of each node's expander bus.
const PORTS: usize = 8;

pub(super) fn items(guest: &Guest) -> Items {
    let count = u32::try_from(guest.layout.cells.len()).expect("few");
    let share = guest.domain.vcpus / count;
    let threads = threads(guest, share);
    let cells = cells(guest, count, share, threads);
    let all: RangeList = cells.iter().flat_map(|cell| cell.pins.clone()).collect();
    let pages = guest.layout.page_kib;
    let mut items = Items::from([
        ("cells", guest::cells(&cells)),
        ("pins", guest::pins(&cells)),
        (
            "topology",
            guest::topology([count, 1, 1, share / threads, threads]),
        ),
        (
            "emulator threads",
            format!("CPUs {all}, those of the vCPUs"),
        ),
        (
            "pages",
            pages.map_or_else(|| "normal".to_owned(), kib_in_units),
        ),
        ("distances", "none".to_owned()),
    ]);
    if guest.domain.family() == "q35" {
        items.insert("devices", devices(guest, count));
    }
    items
}

/// The host's threads, or half of them and so on, until they divide the vCPUs of a node.
fn threads(guest: &Guest, share: u32) -> u32 {
    let host = guest
        .capacity
        .cores
        .iter()
        .map(RangeList::len)
        .max()
        .unwrap_or(1);
    let mut threads = u32::try_from(host).expect("few").next_power_of_two();
    while !share.is_multiple_of(threads) {
        threads /= 2;
    }
    threads
}

fn cells(guest: &Guest, count: u32, share: u32, threads: u32) -> Vec<Cell> {
    let with_devices: BTreeSet<NumaNode> = guest.devices().map(|(node, _)| node).collect();
    let mut used: BTreeMap<NumaNode, usize> = BTreeMap::new();
    let mut cells = Vec::new();
    for id in 0..count {
        let node = node(guest, id, share, &with_devices, &used);
        let cores = guest.cores(node, |_| true).into_iter();
        let whole = cores.filter(|core| core.len() >= threads as usize);
        let from = used.entry(node).or_default();
        let pins: Vec<u32> = whole.flatten().skip(*from).take(share as usize).collect();
        *from += pins.len();
        let memory_kib = guest.domain.memory_kib / u64::from(count);
        cells.push(Cell {
            node,
            pins,
            memory_kib,
        });
    }
    cells
}

/// The node with the cell's own number if a device is there, else the one with the most free CPUs; of equal ones the last.
fn node(
    guest: &Guest,
    id: u32,
    share: u32,
    with_devices: &BTreeSet<NumaNode>,
    used: &BTreeMap<NumaNode, usize>,
) -> NumaNode {
    let own = with_devices.iter().find(|node| u32::from(**node) == id);
    if let Some(own) = own {
        return *own;
    }
    let free = |node: NumaNode| {
        let all: usize = guest.cores(node, |_| true).iter().map(Vec::len).sum();
        all - used.get(&node).copied().unwrap_or(0)
    };
    let nodes = guest.host.numa.sockets().map(|node| node.id);
    let nodes = nodes.filter(|node| free(*node) >= share as usize);
    nodes
        .max_by_key(|node| (free(*node), *node))
        .expect("a node with room")
}

/// Devices on the bus of the guest's node that has the number of their host node.
fn devices(guest: &Guest, count: u32) -> String {
    let all: Vec<(u32, &str)> = guest
        .devices()
        .map(|(node, kind)| (node.into(), kind))
        .collect();
    let missing = all.iter().find(|(node, _)| *node >= count);
    if let Some((node, kind)) = missing {
        return format!("the {kind} on the bus of cell {node}, which does not exist");
    }
    for id in 0..count {
        assert!(
            all.iter().filter(|(node, _)| *node == id).count() <= PORTS,
            "a refusal"
        );
    }
    guest::expanders(all.into_iter().map(|(node, kind)| (Some(node), kind)))
}
