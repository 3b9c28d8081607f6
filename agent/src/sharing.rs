//! Devices that other definitions assign as well: legal, but only one of the guests can run.

use crate::code::Code;
use crate::domain::Domain;
use crate::libvirt::{DomainRef, Libvirt};
use crate::plan::{Note, Plan};

/// A note for each device of a plan and each other domain that has it; what cannot be read is left out.
pub(crate) fn notes(libvirt: &dyn Libvirt, domain: &DomainRef, plan: &Plan) -> Vec<Note> {
    let others = libvirt.defined().unwrap_or_default().into_iter();
    let others = others.filter(|other| other.uuid != domain.uuid);
    let others = others.filter_map(|other| read(libvirt, &other));
    others.flat_map(|other| shared(&other, plan)).collect()
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
            "domain '{}' is assigned it too: only one of the two can run",
            other.name
        ),
    };
    shared.map(|device| note(device.address)).collect()
}
