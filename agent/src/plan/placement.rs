//! Where the guest sees a device: slot 0, function 0, alone on a root port.
//!
//! QEMU passes AtomicOp completer bits on only there (hw/vfio/pci.c, since 8.1), and NVIDIA's guest
//! driver looks for generic initiators only at slot 0, function 0.

use super::fragment::Fragment;
use super::{Assigned, Change, Plan, Setting};
use crate::code::Code;
use crate::domain::{Controller, Domain, GuestAddress};
use crate::edit::Edit;
use crate::refusal::Refusal;

/// Gives each device that has none an address of its own; refuses one that contradicts.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let mut next = domain
        .controllers
        .iter()
        .filter(|c| c.index < 255)
        .map(|c| c.index + 1)
        .max()
        .unwrap_or(1);
    for one in assigned
        .iter()
        .filter(|one| one.recipe.placement.own_root_port)
    {
        let broken = one
            .hostdev
            .address
            .and_then(|address| broken_rule(domain, address));
        let (code, reason) = match (one.hostdev.address, broken) {
            (Some(_), None) => continue,
            (Some(_), Some(rule)) if setting.replace => rule,
            (Some(_), Some(rule)) => return Err(refusal(domain, one, rule)),
            (None, _) => (
                Code::GuestNoAddress,
                "a root port of its own, slot 0, function 0".to_owned(),
            ),
        };
        let edits = own_port(domain, one, next);
        let added = plan.added_for.entry(one.hostdev.source).or_default();
        added.insert(format!("port:{next}"));
        next += 1;
        let path = format!(
            "/domain/devices/hostdev[source='{}']/address",
            one.hostdev.source
        );
        plan.changes.push(Change {
            code,
            device: Some(one.hostdev.source),
            path,
            reason,
            edits,
        });
    }
    Ok(())
}

/// The first rule that a guest address breaks, with both values.
fn broken_rule(domain: &Domain, address: GuestAddress) -> Option<(Code, String)> {
    let at = address.at;
    if at.device() != 0 {
        return Some((
            Code::GuestSlot,
            format!(
                "its guest address {at} is slot {}, it must be slot 0",
                at.device()
            ),
        ));
    }
    if at.function() != 0 {
        let reason = format!(
            "its guest address {at} is function {}, it must be function 0",
            at.function()
        );
        return Some((Code::GuestFunction, reason));
    }
    if address.multifunction {
        return Some((
            Code::GuestMultifunction,
            format!("its guest address {at} has multifunction='on', it must be single"),
        ));
    }
    let port = domain.controller(at.bus().into());
    let model = port.map_or("missing", |port| port.model.as_str());
    if model != "pcie-root-port" {
        let reason = format!(
            "its guest bus {} is of model '{model}', it must be 'pcie-root-port'",
            at.bus()
        );
        return Some((Code::GuestNotOnRootPort, reason));
    }
    (domain.devices_on(at.bus().into()) > 1).then(|| {
        (
            Code::GuestPortShared,
            format!("another device is on its root port, bus {}", at.bus()),
        )
    })
}

fn own_port(domain: &Domain, one: &Assigned<'_>, index: u32) -> Vec<Edit> {
    let controller = Fragment::new("controller")
        .with("type", "pci")
        .with("index", index)
        .with("model", "pcie-root-port")
        .print();
    let address = Fragment::new("address")
        .with("type", "pci")
        .with("domain", "0x0000")
        .with("bus", format!("{index:#04x}"))
        .with("slot", "0x00")
        .with("function", "0x0")
        .print();
    let last: Option<&Controller> = domain.controllers.last();
    let port = last.map_or_else(
        || domain.devices.prepend(&controller),
        |last| last.element.insert_after(&controller),
    );
    let place = one.hostdev.address_element.as_ref();
    let address = place.map_or_else(
        || one.hostdev.element.append(&address),
        |old| old.replace(&address),
    );
    vec![port, address]
}

fn refusal(domain: &Domain, one: &Assigned<'_>, (code, reason): (Code, String)) -> Refusal {
    let name = &domain.name;
    let mend = format!(
        "run 'variantctl prepare --replace {name}', or correct the address with 'virsh edit {name}'"
    );
    Refusal::new(code, reason, mend)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/address")
}
