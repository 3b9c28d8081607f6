//! KubeVirt's layout by its public rules (the page's head names them), for a pod with the CPUs that variantd chose.

use std::collections::BTreeSet;

use kernel_glue::numa::NumaNode;
use planner::size::kib_in_units;

use super::Items;
use super::guest::{self, Cell, Guest};

pub(super) fn items(guest: &Guest) -> Items {
    let layout = &guest.layout;
    let Some(page) = layout.page_kib else {
        return Items::from([("cells", "refused: huge pages are needed".to_owned())]);
    };
    let cells = cells(guest, page);
    let threads = guest.threads();
    let values = [1, 1, 1, guest.domain.vcpus / threads, threads];
    let mut items = Items::from([
        ("cells", guest::cells(&cells)),
        ("pins", guest::pins(&cells)),
        ("topology", guest::topology(values)),
        ("emulator threads", "not pinned".to_owned()),
        ("pages", kib_in_units(page)),
        ("distances", "none".to_owned()),
    ]);
    if guest.domain.family() == "q35" {
        let cell = |node: NumaNode| cells.iter().position(|cell| cell.node == node);
        let place = |node| cell(node).and_then(|cell| u32::try_from(cell).ok());
        let devices = guest.devices().map(|(node, kind)| (place(node), kind));
        items.insert("devices", guest::expanders(devices));
    }
    items
}

/// Whole cores by host node, then what is left of others; memory in equal shares, with one page more for the first cells.
fn cells(guest: &Guest, page: u64) -> Vec<Cell> {
    let threads = guest.threads() as usize;
    let pod: BTreeSet<u32> = guest
        .layout
        .cells
        .iter()
        .flat_map(|cell| cell.pins.clone())
        .collect();
    let nodes: Vec<NumaNode> = guest.host.numa.sockets().map(|node| node.id).collect();
    let mut cells = Vec::new();
    for node in nodes {
        let cores = guest.cores(node, |cpu| pod.contains(&cpu));
        let (whole, parts): (Vec<Vec<u32>>, Vec<Vec<u32>>) =
            cores.into_iter().partition(|core| core.len() >= threads);
        let pins: Vec<u32> = whole.into_iter().chain(parts).flatten().collect();
        if !pins.is_empty() {
            cells.push(Cell {
                node,
                pins,
                memory_kib: 0,
            });
        }
    }
    let count = cells.len() as u64;
    let pages = guest.domain.memory_kib / page;
    for (id, cell) in (0..).zip(&mut cells) {
        cell.memory_kib = (pages / count + u64::from(id < pages % count)) * page;
    }
    cells
}
