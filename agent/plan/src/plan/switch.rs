//! Host switches mirrored in the guest, if the recipe asks: devices behind one upstream port stay together.
//!
//! This lets a guest's driver choose peer-to-peer paths. AtomicOps do not work behind it, because QEMU's switch ports
//! (hw/pci-bridge/xio3130_*.c) do not advertise AtomicOp routing.

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use super::{Assigned, Note};
use domain::code::Code;
use domain::{Controller, Domain};

/// Model of the port above a device behind a switch.
pub(super) const DOWNSTREAM: &str = "pcie-switch-downstream-port";

/// Model of the port above those.
pub(super) const UPSTREAM: &str = "pcie-switch-upstream-port";

/// The upstream port of the host's switch above a device, if its recipe mirrors switches.
pub(super) fn of(host: &Host, one: &Assigned<'_>) -> Option<PciAddress> {
    let above: Vec<&Device> = one
        .device
        .ancestors
        .iter()
        .filter_map(|a| host.devices.get(a))
        .collect();
    let kind = |device: &&Device| device.config.express().map(|express| express.port);
    let upstream = above
        .iter()
        .rev()
        .find(|device| kind(device) == Some(Port::UpstreamPort))?;
    one.recipe.placement.switch.then_some(upstream.address)
}

/// The guest's upstream port above a device that has an address.
pub(super) fn upstream<'a>(domain: &'a Domain, one: &Assigned<'_>) -> Option<&'a Controller> {
    let down = domain.controller(one.hostdev.address?.at.bus().into())?;
    let up = domain.controller(down.address?.at.bus().into())?;
    (down.model == DOWNSTREAM && up.model == UPSTREAM).then_some(up)
}

/// The note on the disadvantage of a mirrored switch.
pub(super) fn note(one: &Assigned<'_>, switch: PciAddress) -> Note {
    Note {
        code: Code::SwitchMirrored,
        device: Some(one.hostdev.source),
        text: format!(
            "it is behind a switch, as on the host (upstream port '{switch}'), so AtomicOps do not reach it in the guest"
        ),
    }
}
