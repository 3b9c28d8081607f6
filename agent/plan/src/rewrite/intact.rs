//! Whether the elements that were added to a definition are unchanged.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;

use crate::plan::{alias, driver, egm, expander, numa, placement, smmu, width, window};
use domain::{Controller, Domain, Hostdev, Mark, Marked};

/// True when every device still has all pieces that the mark records.
pub(super) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    mark.devices.iter().all(|marked| has_pieces(domain, marked))
        && expander::is_intact(domain, mark)
        && smmu::is_intact(domain, mark)
        && egm::is_intact(domain, mark)
        && window::is_intact(domain, mark)
        && width::is_intact(domain, mark)
}

fn has_pieces(domain: &Domain, marked: &Marked) -> bool {
    let mut hostdevs = domain.hostdevs.iter();
    let Some(hostdev) = hostdevs.find(|hostdev| hostdev.source == marked.address) else {
        return false;
    };
    let checks = [
        placement::is_intact,
        numa::is_intact,
        alias::is_intact,
        driver::is_intact,
    ];
    checks.iter().all(|is_intact| is_intact(marked, hostdev))
}

/// True when both have the same distances, and each device behind an expander bus in both has the same cell there.
pub(super) fn has_same_values(one: &Domain, other: &Domain) -> bool {
    let (own, others) = (nodes(one), nodes(other));
    let same = |(device, cell): (&PciAddress, &Option<u32>)| {
        // A device that only one of them has behind an expander was moved by the user, which is not a difference in values.
        others.get(device).is_none_or(|other| other == cell)
    };
    distances(one) == distances(other) && own.iter().all(same)
}

fn distances(domain: &Domain) -> BTreeMap<u32, &BTreeMap<u32, u8>> {
    let cells = domain.cells.iter();
    cells.map(|cell| (cell.id, &cell.distances)).collect()
}

/// The cell of each device's expander bus, if it has one.
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
