//! Where the guest sees a device: slot 0, function 0, alone on a root port.
//!
//! QEMU passes AtomicOp completer bits on only there (hw/vfio/pci.c, since 8.1), and NVIDIA's guest
//! driver looks for generic initiators only at slot 0, function 0.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;

use super::expander::{self, Buses, Port};
use super::fragment::print_all;
use super::{Assigned, Change, Note, Plan, Setting, switch};
use crate::code::Code;
use crate::domain::{Controller, Domain, GuestAddress};
use crate::edit::Edit;
use crate::refusal::Refusal;

/// Gives each device that has none an address of its own; refuses one that contradicts. Returns the
/// expander bus of each device that is behind one.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<BTreeMap<PciAddress, u32>, Refusal> {
    let mut buses = Buses::of(setting, domain, assigned)?;
    for one in assigned.iter().filter(|one| one.recipe.own_root_port()) {
        let Some((code, reason)) = fault(setting, domain, one, plan)? else {
            continue;
        };
        let port = buses.port(one, plan)?;
        plan.changes.push(change(domain, one, &port, code, reason));
        let added = plan.added_for.entry(one.hostdev.source).or_default();
        added.insert(format!("port:{}", port.index));
        let old = one.hostdev.address_text.clone();
        plan.replaced
            .extend(old.map(|old| (one.hostdev.source, old)));
    }
    Ok(buses.behind)
}

/// Why a device needs a new address; `None` when the one it has is right.
fn fault(
    setting: &Setting<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
    plan: &mut Plan,
) -> Result<Option<(Code, String)>, Refusal> {
    let Some(address) = one.hostdev.address else {
        let reason = "a root port of its own, slot 0, function 0".to_owned();
        return Ok(Some((Code::GuestNoAddress, reason)));
    };
    let mirrored = switch::of(setting.host, one).is_some();
    if mirrored && switch::upstream(domain, one).is_some() && address.is_origin() {
        return Ok(None);
    }
    if let Some(rule) = broken_rule(domain, address) {
        return if setting.replace {
            Ok(Some(rule))
        } else {
            Err(refusal(domain, one, rule))
        };
    }
    if !expander::wanted(domain, one) || expander::expander_of(domain, one).is_some() {
        return Ok(None);
    }
    let reason = "its root port is on no expander bus".to_owned();
    let first = setting.formatted && !domain.is_marked(one.hostdev.source);
    if setting.replace || first {
        return Ok(Some((Code::GuestNoExpander, reason)));
    }
    plan.notes.push(Note {
        code: Code::GuestNoExpander,
        device: Some(one.hostdev.source),
        text: format!(
            "{reason}: the guest sees no NUMA node of it and no SMMU; 'variantctl prepare --replace {}' moves it",
            domain.name
        ),
    });
    Ok(None)
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

fn change(domain: &Domain, one: &Assigned<'_>, port: &Port, code: Code, reason: String) -> Change {
    let behind = port.expander.map_or(String::new(), |index| {
        format!(", behind expander bus {index}")
    });
    Change {
        code,
        device: Some(one.hostdev.source),
        path: format!(
            "/domain/devices/hostdev[source='{}']/address",
            one.hostdev.source
        ),
        reason: format!("{reason}{behind}"),
        edits: edits(domain, one, port),
    }
}

fn edits(domain: &Domain, one: &Assigned<'_>, port: &Port) -> Vec<Edit> {
    let controllers = print_all(port.controllers.clone());
    let last: Option<&Controller> = domain.controllers.last();
    let controllers = last.map_or_else(
        || domain.devices.prepend(&controllers),
        |last| last.element.insert_after(&controllers),
    );
    let address = expander::address(port.index, 0).print();
    let place = one.hostdev.address_element.as_ref();
    let address = place.map_or_else(
        || one.hostdev.element.append(&address),
        |old| old.replace(&address),
    );
    vec![controllers, address]
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
