//! Devices that other definitions or a network's pool assign as well: legal, but only one of the guests can run.

use crate::libvirt::{DomainRef, Libvirt};
use domain::Domain;
use domain::code::Code;
use planner::from_libvirt::FromLibvirt;
use planner::plan::{Note, Plan};

/// A note for each device of a plan and each other domain or network that has it; skips what cannot be read.
pub(crate) fn notes(
    libvirt: &dyn Libvirt,
    domain: &DomainRef,
    plan: &Plan,
    printed: &FromLibvirt,
) -> Vec<Note> {
    let others = libvirt.defined().unwrap_or_default().into_iter();
    let others = others.filter(|other| other.uuid != domain.uuid);
    let others = others.filter_map(|other| read(libvirt, &other));
    let others = others.flat_map(|other| shared(&other, plan));
    others.chain(pooled(plan, printed)).collect()
}

/// libvirt assigns an interface of the network any device of its pool that no other interface has
/// (networkAllocatePort).
fn pooled(plan: &Plan, printed: &FromLibvirt) -> Vec<Note> {
    let networks = printed.networks.iter();
    let note = |address, network: &str| Note {
        code: Code::DeviceShared,
        device: Some(address),
        text: format!(
            "the host device pool of network '{network}' contains it, so a guest with an interface \
                of that network may get it first"
        ),
    };
    let of = |device: &planner::plan::Planned| {
        let pools = networks.clone().flat_map(|all| all.with(device.address));
        let notes = pools.map(|network| note(device.address, network));
        notes.collect::<Vec<_>>()
    };
    plan.devices.iter().flat_map(of).collect()
}

fn read(libvirt: &dyn Libvirt, other: &DomainRef) -> Option<Domain> {
    let xml = libvirt.inactive_xml(&other.uuid).ok()??;
    Domain::parse(&xml).ok()
}

fn shared(other: &Domain, plan: &Plan) -> Vec<Note> {
    let assigns = |address| other.uses(address);
    let shared = plan.devices.iter().filter(|device| assigns(device.address));
    let note = |address| Note {
        code: Code::DeviceShared,
        device: Some(address),
        text: format!(
            "domain '{}' also assigns it: only one of the two can run",
            other.name
        ),
    };
    shared.map(|device| note(device.address)).collect()
}
