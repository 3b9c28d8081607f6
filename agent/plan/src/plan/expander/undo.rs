//! Whether our ports, expander buses and switches are in use, and how they are taken back.

use std::collections::BTreeSet;

use crate::plan::smmu;
use domain::edit::Edit;
use domain::{Controller, Domain, Hostdev, Mark, Piece};

/// True when each port, expander bus and switch of ours is there and has something on it.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    ours(mark)
        .into_iter()
        .all(|index| domain.controller(index).is_some() && domain.devices_on(index) > 0)
}

/// Takes back our PCI controllers on which nothing else is left, and our SMMUs in front of these and of the user's.
/// `is_leaving` says of a hostdev on one of our ports that it gets another address.
pub(crate) fn undo(
    domain: &Domain,
    mark: &Mark,
    is_leaving: impl Fn(&Hostdev) -> bool,
) -> Vec<Edit> {
    let unused = unused(domain, mark, is_leaving);
    let controllers = domain.controllers.iter();
    let controllers = controllers.filter(|controller| unused.contains(&controller.index));
    let mut edits: Vec<Edit> = controllers
        .map(|controller| controller.element.remove())
        .collect();
    edits.extend(smmu::undo(domain, mark, &unused));
    edits
}

/// The indexes of our controllers.
fn ours(mark: &Mark) -> BTreeSet<u32> {
    let ports = mark.devices.iter().flat_map(|marked| marked.added.ports());
    let others = mark.added.iter().filter_map(|piece| match piece {
        Piece::Expander(index) | Piece::Switch(index) => Some(*index),
        _ => None,
    });
    ports.chain(others).collect()
}

/// From the leaves up: a controller is unused once everything on it goes.
fn unused(domain: &Domain, mark: &Mark, is_leaving: impl Fn(&Hostdev) -> bool) -> BTreeSet<u32> {
    let ours = ours(mark);
    let mut unused = BTreeSet::new();
    loop {
        let is_unused = |index: &u32| {
            let going = going(domain, *index, &unused, &is_leaving);
            !unused.contains(index) && domain.devices_on(*index) == going
        };
        match ours.iter().find(|index| is_unused(index)) {
            Some(index) => unused.insert(*index),
            None => return unused,
        };
    }
}

/// How many of the devices and controllers on a bus go.
fn going(
    domain: &Domain,
    index: u32,
    unused: &BTreeSet<u32>,
    is_leaving: impl Fn(&Hostdev) -> bool,
) -> usize {
    let leaves = |hostdev: &&Hostdev| hostdev.is_on(index) && is_leaving(hostdev);
    let devices = domain.hostdevs.iter().filter(leaves).count();
    let on = |c: &&Controller| c.address.is_some_and(|a| u32::from(a.at.bus()) == index);
    let controllers = domain.controllers.iter().filter(on);
    devices + controllers.filter(|c| unused.contains(&c.index)).count()
}
