//! QEMU's rules: at which guest addresses it passes the host's widths on.
//!
//! Follows vfio_pci_enable_rp_atomics (hw/vfio/pci.c) of QEMU 8.1 to 11.1. A predicted address is checked like one of the
//! definition.

use super::answer::{Answer, Finding, Judgement};
use super::place::{Bus, Place};
use crate::target::Version;
use domain::code::Code;

/// First QEMU that passes widths on.
const FIRST: Version = Version::new(8, 1, 0);
/// A rule on the guest address: whether it prevents passing widths on.
type Rule = fn(&Place, Version) -> Option<Answer>;

/// The bus is first; the version is last, because a newer QEMU does not fix the address.
const RULES: [Rule; 6] = [machine, bus, function, multifunction, taken, version];

/// Whether QEMU passes the host's widths on at this address, with every rule that fails.
pub(super) fn judge(place: &Place, qemu: Version) -> Judgement {
    Judgement::of(RULES.iter().filter_map(|rule| rule(place, qemu)))
}

fn no(code: Code, reason: impl Into<String>) -> Option<Answer> {
    Some(Answer::No(Finding::new(code, reason)))
}

fn version(_: &Place, qemu: Version) -> Option<Answer> {
    let reason = || format!("QEMU {qemu} does not pass AtomicOps on; {FIRST} and newer do");
    (qemu < FIRST).then(|| no(Code::AtomicsQemu, reason()))?
}

fn machine(place: &Place, _: Version) -> Option<Answer> {
    match &place.bus {
        Bus::Conventional(what) => no(
            Code::AtomicsGuestMachine,
            format!("it is on {what}, where it is not a PCI Express device"),
        ),
        _ => None,
    }
}

fn bus(place: &Place, _: Version) -> Option<Answer> {
    match &place.bus {
        Bus::RootPort(_) | Bus::SomeRootPort | Bus::Conventional(_) => None,
        Bus::Root(index) => no(
            Code::AtomicsGuestRootBus,
            format!(
                "bus {index} is a root bus: without a root port above it, it is an integrated endpoint"
            ),
        ),
        Bus::Switch(index) => no(
            Code::AtomicsGuestBehind,
            format!("bus {index} is a port of a switch; only a root port directly above it counts"),
        ),
        Bus::Other(_, model) => no(
            Code::AtomicsGuestBehind,
            format!("it is on a {model}; only a root port directly above it counts"),
        ),
        Bus::NoFreePort => no(
            Code::AtomicsGuestNoPort,
            "no port of the guest is free, and a running guest cannot get a new one",
        ),
        Bus::Unknown(why) => Some(Answer::Open(Finding::new(
            Code::AtomicsGuestUnknown,
            why.clone(),
        ))),
    }
}

fn function(place: &Place, _: Version) -> Option<Answer> {
    let (slot, function) = place.slot;
    let reason =
        || format!("it is function {function} of slot {slot}, it must be function 0 of slot 0");
    // On another bus a rule above fails already, and where libvirt chooses the port it also chooses slot 0.
    let behind = matches!(place.bus, Bus::RootPort(_));
    (behind && (slot, function) != (0, 0)).then(|| no(Code::AtomicsGuestFunction, reason()))?
}

fn multifunction(place: &Place, _: Version) -> Option<Answer> {
    let why = place.multifunction.as_ref()?;
    let reason = format!("{why}: QEMU passes no AtomicOps on there");
    no(Code::AtomicsGuestMultifunction, reason)
}

fn taken(place: &Place, _: Version) -> Option<Answer> {
    let other = place.shared_with?;
    no(
        Code::AtomicsGuestPortTaken,
        format!("'{other}' is on the same root port, which has the widths of one device only"),
    )
}
