//! The values of variantd's layout.

use domain::{Controller, Domain};
use planner::size::kib_in_units;

use super::Items;
use super::guest::{self, Cell, Guest};

pub(super) fn items(guest: &Guest) -> Items {
    let layout = &guest.layout;
    let cells = layout.cells.iter().map(|cell| Cell {
        node: cell.node,
        pins: cell.pins.clone(),
        memory_kib: cell.memory_kib,
    });
    let cells: Vec<Cell> = cells.collect();
    let pages = layout
        .page_kib
        .map_or_else(|| "normal".to_owned(), kib_in_units);
    let mut items = Items::from([
        ("cells", guest::cells(&cells)),
        ("pins", guest::pins(&cells)),
        ("topology", guest::topology(layout.topology.values())),
        ("emulator threads", format!("CPUs {}", layout.emulator)),
        ("pages", pages),
    ]);
    // A guest with one cell has no distance to another.
    if cells.len() > 1 {
        items.insert("distances", distances(guest));
    }
    if guest.domain.family() == "q35" {
        items.insert("devices", devices(guest));
    }
    items
}

/// The distances from each cell.
fn distances(guest: &Guest) -> String {
    let cells = guest.layout.cells.iter();
    let row = |row: &[u8]| {
        row.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    };
    let rows: Vec<String> = cells.map(|cell| row(&cell.distances)).collect();
    rows.join("; ")
}

fn devices(guest: &Guest) -> String {
    let domain = &guest.completed;
    let cells = domain.hostdevs.iter().map(|one| {
        let bus = one.address?.at.bus().into();
        expander(domain, bus)?.cell
    });
    guest::expanders(cells.zip(guest.devices().map(|(_, kind)| kind)))
}

/// The expander bus above a bus.
fn expander(domain: &Domain, bus: u32) -> Option<&Controller> {
    let next = |one: &&Controller| domain.controller(one.address?.at.bus().into());
    let mut above = std::iter::successors(domain.controller(bus), next);
    above.find(|one| one.model == "pcie-expander-bus")
}
