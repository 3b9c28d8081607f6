//! Where libvirt plugs a device into a running guest. Pure.
//!
//! A running guest cannot get a port, so the device is judged at the address that libvirt will choose. The attach call itself is not
//! given that address: libvirt chooses when it handles the call.

use kernel_glue::address::PciAddress;

use crate::atomics::{self, Bus};
use crate::plan::{Note, PlanInput, host_device};
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Attachment, Definition, Hostdev, Joined};

/// The device with the address that it will have in the running guest; unchanged if its XML has one, or if the address cannot be
/// predicted.
///
/// # Errors
/// [`Code::AtomicsGuestNoPort`]: no port is free.
pub(super) fn placed(
    definition: &Definition,
    device: &Attachment,
    address: PciAddress,
    input: &PlanInput<'_>,
) -> Result<Attachment, Refusal> {
    let joined = device.join(definition)?;
    let Some(hostdev) = own(&joined).filter(|hostdev| hostdev.address.is_none()) else {
        return Ok(device.clone());
    };
    let host_device = host_device(input.host, address)?;
    let bus = match atomics::plugged(definition.domain(), host_device).bus {
        Bus::RootPort(bus) | Bus::Switch(bus) => bus,
        Bus::NoFreePort => return Err(no_port(address, &definition.domain().name)),
        _ => return Ok(device.clone()),
    };
    let place = format!("<address type='pci' domain='0' bus='{bus}' slot='0' function='0'/>");
    device.edited(&joined, [&hostdev.element.append(&place)])
}

/// The device without the address of [`placed`].
///
/// # Errors
/// The refusals of [`Attachment::join`].
pub(super) fn unplaced(
    definition: &Definition,
    device: &Attachment,
) -> Result<Attachment, Refusal> {
    let joined = device.join(definition)?;
    let place = own(&joined).and_then(|hostdev| hostdev.address_element.as_ref());
    let edit = place.map(|place| place.remove());
    device.edited(&joined, edit.as_ref())
}

/// The note for a device whose guest driver may use AtomicOps.
pub(super) fn note(address: PciAddress) -> Note {
    Note {
        code: Code::AtomicsHotplug,
        device: Some(address),
        text: atomics::PLUGGED.to_owned(),
    }
}

/// The hostdev of the device.
pub(super) fn own(joined: &Joined) -> Option<&Hostdev> {
    let mut hostdevs = joined.definition.domain().hostdevs.iter();
    hostdevs.find(|hostdev| hostdev.element.span == joined.element)
}

fn no_port(address: PciAddress, name: &str) -> Refusal {
    let reason = "no port of the guest is free, and a running guest cannot get a new one";
    let command = line(["virsh", "edit", name]);
    let hint = Hint::naming(
        "add <controller type='pci' model='pcie-root-port'/> with {}, then stop and start the guest",
        &command,
    );
    Refusal::new(Code::AtomicsGuestNoPort, reason, hint).of(address)
}
