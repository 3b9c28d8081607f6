//! Notes on host devices that are not checked: those in QEMU arguments, and those that libvirt chooses from a network at start.

use kernel_glue::address::PciAddress;

use super::{Note, Part, PlanInput};
use domain::code::Code;
use domain::{Domain, Usage};

/// A note for each device that QEMU arguments assign, and for each network whose interfaces assign a device or may do so.
pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, has_devices: bool) -> Part {
    let arguments = domain
        .elsewhere
        .iter()
        .filter(|one| one.usage == Usage::Argument);
    let arguments = arguments.map(|one| Note {
        code: Code::DeviceUnjudged,
        device: Some(one.source),
        text: "QEMU arguments assign it ('-device vfio-pci'): it is not completed or checked, and its driver is not changed"
            .to_owned(),
    });
    let interfaces = input.libvirt.interfaces(domain, has_devices);
    let interfaces = interfaces.map(|(sentence, devices)| Note {
        code: Code::DeviceUnjudged,
        device: None,
        text: sentence + &driver(input, devices).unwrap_or_default(),
    });
    Part::of_notes(arguments.chain(interfaces))
}

/// The driver that a recipe needs for devices of a pool. libvirt reads it from the network.
fn driver(input: &PlanInput<'_>, devices: &[PciAddress]) -> Option<String> {
    let mut known = devices.iter().filter_map(|one| input.host.devices.get(one));
    let recipe = known.find_map(|device| input.recipes.for_device(device))?;
    Some(format!(
        "; recipe '{}' needs <driver name='vfio' model='{}'/> in the network's <forward>",
        recipe.name, recipe.driver
    ))
}
