//! Whether what was added to a definition is still as it was left there.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;

use crate::plan::command_line;
use crate::plan::{width, window};
use domain::{Controller, Domain, Hostdev, Mark, Marked, Piece};

/// True when every device has the pieces that the mark records, and nothing of them is missing or left over.
pub(super) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    mark.devices.iter().all(|marked| has_pieces(domain, marked))
        && has_controllers(domain, mark)
        && !has_lost_window(domain, mark)
        && has_own_window(domain, mark)
        && has_own_width(domain, mark)
}

fn has_pieces(domain: &Domain, marked: &Marked) -> bool {
    let mut hostdevs = domain.hostdevs.iter();
    let Some(hostdev) = hostdevs.find(|hostdev| hostdev.source == marked.address) else {
        return false;
    };
    let bus = hostdev.address.map(|address| u32::from(address.at.bus()));
    let mut ports = marked.added.ports().peekable();
    let placed = ports.peek().is_none() || ports.any(|port| Some(port) == bus);
    let named =
        !marked.added.has(&Piece::Nodeset) || hostdev.nodeset.as_ref() == Some(&marked.cells);
    let alias = command_line::alias_of(marked.address);
    let called = !marked.added.has(&Piece::Alias) || hostdev.alias.as_ref() == Some(&alias);
    let driven = !marked.added.has(&Piece::Driver) || hostdev.driver.is_some();
    placed && named && called && driven
}

/// Each port, expander bus and switch of ours is there and has something on it, and each SMMUv3 of ours is there.
fn has_controllers(domain: &Domain, mark: &Mark) -> bool {
    let devices = mark.devices.iter();
    let ports = devices.flat_map(|marked| marked.added.ports());
    let others = mark.added.iter().filter_map(|piece| match piece {
        Piece::Expander(index) | Piece::Switch(index) => Some(*index),
        _ => None,
    });
    let mut ours = ports.chain(others);
    let mut smmus = mark.added.iter().filter_map(|piece| match piece {
        Piece::Smmu(bus) => Some(*bus),
        _ => None,
    });
    let is_served = |bus: u32| {
        let mut iommus = domain.platform.iommus.iter();
        domain.controller(bus).is_some() && iommus.any(|iommu| iommu.bus == Some(bus))
    };
    ours.all(|index| domain.controller(index).is_some() && domain.devices_on(index) > 0)
        && smmus.all(is_served)
}

/// The window that we set has its size still.
fn has_own_window(domain: &Domain, mark: &Mark) -> bool {
    let hole = domain.controller(0).and_then(|root| root.hole64_kib);
    window::ours(mark).is_none_or(|kib| {
        hole == Some(kib)
            || command_line::ours(domain)
                .into_iter()
                .any(command_line::is_window)
    })
}

/// The address width that we set is there still.
fn has_own_width(domain: &Domain, mark: &Mark) -> bool {
    width::recorded(mark).is_none() || width::is_ours(domain, mark)
}

/// The window is an argument of the user's, by the mark, and he removed it.
fn has_lost_window(domain: &Domain, mark: &Mark) -> bool {
    let line = domain.command_line.iter();
    let mut arguments = line.flat_map(|line| &line.arguments);
    mark.added.has(&Piece::UsersWindow)
        && !arguments.any(|one| one.value.contains("highmem-mmio-size="))
}

/// True when both give the same distances, and each device that is behind an expander bus in both one at the same cell.
pub(super) fn has_same_values(one: &Domain, other: &Domain) -> bool {
    let (own, others) = (nodes(one), nodes(other));
    let same = |(device, cell): (&PciAddress, &Option<u32>)| {
        others.get(device).is_none_or(|other| other == cell)
    };
    distances(one) == distances(other) && own.iter().all(same)
}

fn distances(domain: &Domain) -> BTreeMap<u32, &BTreeMap<u32, u8>> {
    let cells = domain.cells.iter();
    cells.map(|cell| (cell.id, &cell.distances)).collect()
}

/// The cell of each device's expander bus, where it has one.
fn nodes(domain: &Domain) -> BTreeMap<PciAddress, Option<u32>> {
    let hostdevs = domain.hostdevs.iter();
    let node = |hostdev: &Hostdev| {
        let expander = expander(domain, hostdev)?;
        Some((hostdev.source, expander.cell))
    };
    hostdevs.filter_map(node).collect()
}

fn expander<'a>(domain: &'a Domain, hostdev: &Hostdev) -> Option<&'a Controller> {
    let port = domain.controller(hostdev.address?.at.bus().into())?;
    let above = domain.controller(port.address?.at.bus().into())?;
    (above.model == "pcie-expander-bus").then_some(above)
}
