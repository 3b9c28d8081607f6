//! Link speed and width of a device's root port, if the recipe asks: those of the slowest link on the host's path.
//!
//! QEMU's root ports report 16 GT/s and 32 lanes, so a guest driver that tunes itself by them gets wrong values. libvirt has no
//! element for the link; `<qemu:override>` (libvirt 8.2) sets it.

use kernel_glue::config::Express;

use super::fragment::Fragment;
use super::{Assigned, Change, Note, Part, Placed, PlanInput};
use crate::stack::{Feature, Stack};
use domain::code::Code;
use domain::edit::Edit;
use domain::{Controller, Domain, Mark, Override, Piece, QEMU_NAMESPACE};

/// QEMU's `x-speed` by the number of a link speed (PCIExpLinkSpeed, qapi/common.json).
const SPEEDS: [&str; 6] = ["2_5", "5", "8", "16", "32", "64"];

/// QEMU's `x-width` (PCIExpLinkWidth, qapi/common.json).
const WIDTHS: [u32; 7] = [1, 2, 4, 8, 12, 16, 32];

/// Plans the links of new and known root ports.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    placed: &Placed,
) -> Part {
    let mut part = Part::default();
    let mut wanted = Vec::new();
    for one in assigned.iter().filter(|one| one.recipe.placement.link) {
        let Some(port) = port(domain, one, placed) else {
            // Only QEMU's root ports have these properties (hw/pci-bridge/gen_pcie_root_port.c).
            part.notes.push(Note {
                code: Code::LinkUnknown,
                device: Some(one.hostdev.source),
                text: "it is not on a root port, and QEMU's other ports have no configurable link"
                    .to_owned(),
            });
            continue;
        };
        let link = slowest(input, one).zip(Some(port));
        match link {
            Some(((speed, width), port)) => {
                wanted.push(set(port, "x-speed", speed.to_owned()));
                wanted.push(set(port, "x-width", width.to_string()));
            }
            None => part.notes.push(Note {
                code: Code::LinkUnknown,
                device: Some(one.hostdev.source),
                text: "the speed and width of its path on the host cannot be read: run as root"
                    .to_owned(),
            }),
        }
    }
    let ours = domain
        .mark
        .as_ref()
        .is_some_and(|mark| mark.added.has(&Piece::Override));
    match &domain.overrides {
        Some(known) if known.properties == wanted => {}
        Some(known) if ours => part.set(known.element.replace(&print(&wanted))),
        Some(_) if !wanted.is_empty() => part.notes.push(Note {
            code: Code::LinkUnknown,
            device: None,
            text: "the definition has its own <qemu:override>, so link speed and width are not set"
                .to_owned(),
        }),
        None if !wanted.is_empty() => part.set(domain.after_devices(&print(&wanted))),
        _ => {}
    }
    part
}

/// Removes `<qemu:override>` if it sets only links.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Option<Edit> {
    let overrides = domain.overrides.as_ref();
    let overrides = overrides.filter(|_| mark.added.has(&Piece::Override))?;
    let mut properties = overrides.properties.iter();
    properties
        .all(|property| matches!(property.name.as_str(), "x-speed" | "x-width"))
        .then(|| overrides.element.remove())
}

fn set(port: u32, name: &str, value: String) -> Override {
    Override {
        // libvirt's own alias of a PCI controller (src/qemu/qemu_alias.c).
        alias: format!("pci.{port}"),
        name: name.to_owned(),
        value,
    }
}

/// The lowest speed and width on the path from the root to the device; `None` if a link is not readable.
fn slowest(input: &PlanInput<'_>, one: &Assigned<'_>) -> Option<(&'static str, u32)> {
    let ancestors = one.device.ancestors.iter();
    let bridges = ancestors.map(|address| input.host.devices.get(address));
    let path = bridges.chain([Some(one.device)]);
    let links: Vec<&Express> = path
        .map(|device| device?.config.express())
        .collect::<Option<_>>()?;
    let speed = links.iter().map(|link| link.link_speed()).min()?;
    // A QEMU before 9.0 exits at a speed that it does not know.
    let speed = speed.min(fastest(&input.target.stack));
    let width = links.iter().map(|link| link.link_width()).min()?;
    let speed = SPEEDS.get(usize::try_from(speed.checked_sub(1)?).ok()?)?;
    WIDTHS.contains(&width).then_some((*speed, width))
}

/// The fastest link of QEMU's ports: 64 or 16 GT/s.
fn fastest(stack: &Stack) -> u32 {
    if stack.has(Feature::FastLink) { 6 } else { 4 }
}

/// The device's root port: the planned one, else the one of its address.
fn port(domain: &Domain, one: &Assigned<'_>, placed: &Placed) -> Option<u32> {
    let new = placed.ports.get(&one.hostdev.source).copied();
    let own = || {
        let bus = u32::from(one.hostdev.address?.at.bus());
        let is_root_port = |port: &Controller| port.model == "pcie-root-port";
        domain
            .controller(bus)
            .is_none_or(is_root_port)
            .then_some(bus)
    };
    new.or_else(own)
}

fn print(wanted: &[Override]) -> String {
    let device = |set: &Override| {
        let property = Fragment::new("qemu:property")
            .with("name", &set.name)
            // libvirt requires a type, and QEMU parses its enums from strings.
            .with("type", "string")
            .with("value", &set.value);
        let frontend = Fragment::new("qemu:frontend").child(property);
        Fragment::new("qemu:device")
            .with("alias", &set.alias)
            .child(frontend)
    };
    Fragment::new("qemu:override")
        .with("xmlns:qemu", QEMU_NAMESPACE)
        .children(wanted.iter().map(device))
        .print()
}

impl Part {
    fn set(&mut self, edit: Edit) {
        self.added.insert(Piece::Override);
        self.changes.push(Change {
            code: Code::LinkMissing,
            device: None,
            path: "/domain/qemu:override".to_owned(),
            reason: "root ports that show the speed and width of the devices' links on the host"
                .to_owned(),
            edits: vec![edit],
        });
    }
}
