//! Host devices that the definition assigns past libvirt: named, and not judged.

use super::{Note, Plan};
use crate::code::Code;
use crate::domain::{Domain, Way};

/// Adds a note for each device that QEMU's own arguments assign.
pub(super) fn plan(domain: &Domain, plan: &mut Plan) {
    let arguments = domain
        .elsewhere
        .iter()
        .filter(|one| one.way == Way::Argument);
    plan.notes.extend(arguments.map(|one| Note {
        code: Code::DeviceUnjudged,
        device: Some(one.source),
        text: "QEMU's own arguments assign it ('-device vfio-pci'): it is neither completed nor checked, and its driver is left alone"
            .to_owned(),
    }));
}
