//! The guest address of a device: slot 0, function 0, alone on a root port.
//!
//! QEMU passes AtomicOp completer bits on only there (hw/vfio/pci.c, since 8.1), and NVIDIA's guest driver looks for generic
//! initiators only at slot 0, function 0.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;

use super::expander::{self, Buses, Port};
use super::fragment::print_all;
use super::{Assigned, Change, Note, Part, PlanInput, beside, switch};
use crate::recipe::{Need, Recipe};
use domain::code::Code;
use domain::edit::Edit;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Controller, Domain, GuestAddress, Hostdev, Marked, Piece};

/// Buses of the devices in the completed guest, for the parts that depend on them.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// The expander bus of each device that is behind one.
    pub(super) behind: BTreeMap<PciAddress, u32>,
    /// The bus of each device that gets a new address: the index of its new port.
    pub(super) ports: BTreeMap<PciAddress, u32>,
    /// The upstream port of the switch that each device with a new address is behind.
    pub(super) switched: BTreeMap<PciAddress, u32>,
}

/// Gives each device without an address a port of its own; refuses an address that contradicts the recipe.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<(Part, Placed), Refusal> {
    let mut buses = Buses::of(input, domain, assigned)?;
    let (mut part, mut ports) = (Part::default(), BTreeMap::new());
    let mut switched = BTreeMap::new();
    let beside = beside::devices(input, domain);
    for one in side_by_side(domain, assigned, &beside) {
        let device = one.hostdev.source;
        let (code, reason) = match verdict(input, domain, one)? {
            Verdict::Right => continue,
            Verdict::Kept(note) => {
                part.notes.push(note);
                continue;
            }
            Verdict::Moves(code, reason) => (code, reason),
        };
        let port = match buses.port(one) {
            // Its place is only better: the guest works without.
            Err(_) if beside::is_beside(one) => continue,
            port => port?,
        };
        part.changes.push(change(domain, one, &port, code, reason));
        part.add_for(device, Piece::Port(port.index));
        let old = one.hostdev.address_text.clone();
        // The mark keeps the user's address as text, so that `revert` restores exactly what was written.
        part.replaced.extend(old.map(|old| (device, old)));
        ports.insert(device, port.index);
        switched.extend(port.switch.map(|switch| (device, switch)));
        part.add(port.part);
    }
    let behind = buses.behind;
    let placed = Placed {
        behind,
        ports,
        switched,
    };
    Ok((part, placed))
}

/// The devices that get ports of their own, by address; in a mirrored layout by their path on the host, so that devices below one
/// switch get adjacent ports.
fn side_by_side<'a>(
    domain: &Domain,
    assigned: &'a [Assigned<'a>],
    beside: &'a [Assigned<'a>],
) -> Vec<&'a Assigned<'a>> {
    let all = assigned.iter().chain(beside);
    let own = all.filter(|one| one.recipe.own_root_port());
    let mut own: Vec<&Assigned<'_>> = own.collect();
    if domain.layout.is_some() {
        own.sort_by_key(|one| (&one.device.ancestors, one.hostdev.source));
    }
    own
}

/// True when a hostdev is on a port that a mark's entry records.
pub(crate) fn is_carried(marked: &Marked, hostdev: &Hostdev) -> bool {
    marked.added.ports().any(|port| hostdev.is_on(port))
}

/// True when a hostdev is on the port that was added for it.
pub(crate) fn is_intact(marked: &Marked, hostdev: &Hostdev) -> bool {
    marked.added.ports().next().is_none() || is_carried(marked, hostdev)
}

/// Removes the address, or restores the previous one.
pub(crate) fn undo(marked: &Marked, hostdev: &Hostdev) -> Option<Edit> {
    let address = hostdev.address_element.as_ref()?;
    Some(address.restore(marked.replaced.as_deref()))
}

/// Refuses an address at which the guest's driver does not find the device's initiators. libvirt chooses a valid one for a device
/// without an address.
pub(super) fn check(domain: &Domain, one: &Assigned<'_>) -> Result<(), Refusal> {
    let address = one.hostdev.address.filter(|_| one.recipe.own_root_port());
    let faults = address.map_or(Vec::new(), |address| broken_rules(domain, address));
    match faults.is_empty() {
        true => Ok(()),
        false => Err(refusal(domain, one, joined(faults))),
    }
}

/// What is planned for a device's address.
enum Verdict {
    /// It is what the recipe needs.
    Right,
    /// It is kept, although another one is better.
    Kept(Note),
    /// The device gets a new address, for this reason.
    Moves(Code, String),
}

/// Judges the address that a device has.
fn verdict(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> Result<Verdict, Refusal> {
    let Some(address) = one.hostdev.address else {
        let (code, reason) = match beside::is_beside(one) {
            true => (Code::GuestNoExpander, "a root port at its NUMA node"),
            false => (
                Code::GuestNoAddress,
                "a root port of its own, slot 0, function 0",
            ),
        };
        return Ok(Verdict::Moves(code, reason.to_owned()));
    };
    let faults = broken_rules(domain, address);
    let switched = switch::upstream(domain, one).is_some()
        // Below a switch this fault alone is expected; together with another one, the switch is no excuse.
        && matches!(faults[..], [(Code::GuestNotOnRootPort, _)]);
    if switched && one.recipe.placement.switch {
        return Ok(Verdict::Right);
    }
    if !faults.is_empty() {
        return match (input.replace, demand(one.recipe)) {
            (true, _) => {
                let (code, reason) = joined(faults);
                Ok(Verdict::Moves(code, reason))
            }
            (false, Demand::Nothing) => Ok(Verdict::Kept(kept(domain, one, faults))),
            (false, Demand::Port) if switched => Ok(Verdict::Kept(kept(domain, one, faults))),
            (false, _) => Err(refusal(domain, one, joined(faults))),
        };
    }
    if !expander::wanted(domain, one) || expander::expander_of(domain, one).is_some() {
        return Ok(Verdict::Right);
    }
    let reason = "its root port is not on an expander bus".to_owned();
    // In a definition that libvirt has formatted, libvirt may have chosen the address: until the first plan it expresses no wish of
    // the user.
    let first = input.formatted && !domain.is_marked(one.hostdev.source);
    if input.replace || first {
        return Ok(Verdict::Moves(Code::GuestNoExpander, reason));
    }
    let lost = match one.recipe.expander {
        Some(_) => "no NUMA node and no SMMU",
        None => "no NUMA node",
    };
    Ok(Verdict::Kept(Note {
        code: Code::GuestNoExpander,
        device: Some(one.hostdev.source),
        text: format!(
            "{reason}: the guest gets {lost} for it; 'variantctl prepare --replace {}' moves it",
            domain.name
        ),
    }))
}

/// What a recipe requires of a guest address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    /// A root port directly above it: for initiators, or for required AtomicOps.
    RootPort,
    /// A port of its own. A user's switch port is accepted, but the plan adds one only if the recipe says `switch`.
    Port,
    /// Nothing: a root port is only preferred.
    Nothing,
}

fn demand(recipe: &Recipe) -> Demand {
    if recipe.initiators.is_some() || recipe.atomics.need == Need::Require {
        Demand::RootPort
    } else if recipe.placement.own_root_port {
        Demand::Port
    } else {
        Demand::Nothing
    }
}

/// The note for an address that the recipe does not prefer but accepts.
fn kept(domain: &Domain, one: &Assigned<'_>, faults: Vec<(Code, String)>) -> Note {
    let switched = switch::upstream(domain, one).is_some();
    let (code, reason) = joined(faults);
    let accept = match switched {
        true => format!(
            "; placement.switch = true in recipe '{}' accepts it",
            one.recipe.name
        ),
        false => String::new(),
    };
    let reason = reason.replace("it must be", "recommended:");
    Note {
        code: Code::GuestPlaceKept,
        device: Some(one.hostdev.source),
        text: format!(
            "{reason} ({code}); kept because its recipe does not require it{accept}; \
             'variantctl prepare --replace {}' moves it to a root port of its own",
            domain.name
        ),
    }
}

/// All faults of an address as one, by the first one's code.
fn joined(faults: Vec<(Code, String)>) -> (Code, String) {
    let mut faults = faults.into_iter();
    let (code, first) = faults.next().expect("a fault");
    let others: String = faults
        .map(|(code, reason)| format!("; {reason} ({code})"))
        .collect();
    (code, first + &others)
}

/// The rules that a guest address breaks, with both values. The bus is first, because it decides what a slot means.
fn broken_rules(domain: &Domain, address: GuestAddress) -> Vec<(Code, String)> {
    let at = address.at;
    let bus = u32::from(at.bus());
    let model = domain.bus_model(bus).unwrap_or("missing");
    // A root port and a switch's downstream port have one slot. Any other bus has several, so its slot number is no fault.
    let one_slot = matches!(model, "pcie-root-port" | switch::DOWNSTREAM | "missing");
    let rules = [
        (
            model != "pcie-root-port",
            Code::GuestNotOnRootPort,
            format!("its guest bus {bus} is of model '{model}', it must be 'pcie-root-port'"),
        ),
        (
            one_slot && at.device() != 0,
            Code::GuestSlot,
            format!(
                "its guest address {at} is slot {}, it must be slot 0",
                at.device()
            ),
        ),
        (
            at.function() != 0,
            Code::GuestFunction,
            format!(
                "its guest address {at} is function {}, it must be function 0",
                at.function()
            ),
        ),
        (
            address.multifunction,
            Code::GuestMultifunction,
            format!("its guest address {at} has multifunction='on', it must be off"),
        ),
        (
            one_slot && domain.devices_on(bus) > 1,
            Code::GuestPortShared,
            format!("another device is on its port, bus {bus}"),
        ),
    ];
    let broken = rules.into_iter().filter(|(broken, ..)| *broken);
    broken.map(|(_, code, reason)| (code, reason)).collect()
}

fn change(domain: &Domain, one: &Assigned<'_>, port: &Port, code: Code, reason: String) -> Change {
    let behind = port.expander.map_or(String::new(), |index| {
        format!(", behind expander bus {index}")
    });
    Change {
        code,
        device: Some(one.hostdev.source),
        path: format!("{}/address", one.hostdev.path()),
        reason: format!("{reason}{behind}"),
        edits: edits(domain, one, port),
    }
}

fn edits(domain: &Domain, one: &Assigned<'_>, port: &Port) -> Vec<Edit> {
    let controllers = print_all(port.controllers.clone());
    let last: Option<&Controller> = domain.controllers.last();
    // After the last controller, so that the new ones follow those whose buses they are plugged into.
    let controllers = last.map_or_else(
        || domain.prepend_devices(&controllers),
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
    let hint = Hint::run(line(["variantctl", "prepare", "--replace", name])).then(&format!(
        ", or correct the address with 'virsh edit {name}'"
    ));
    Refusal::new(code, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/address")
}
