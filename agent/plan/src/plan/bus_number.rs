//! PCI bus numbers of a guest: the first number of each expander bus, and how many numbers it needs.
//!
//! Firmware numbers buses depth first. Each bridge below an expander takes one number, starting at the expander's own, and the
//! numbers must end before the next expander's (QEMU, hw/pci-bridge/pci_expander_bridge.c, `bus_nr`). QEMU does not check this:
//! firmware then gives two buses one number, or leaves devices out. libvirt gives an expander without `busNr` the number two
//! below the lowest (src/qemu/qemu_domain_address.c, `qemuDomainAddressFindNewBusNr`).

use std::collections::BTreeMap;

use super::virsh;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;
use domain::{Controller, Domain};

/// One more than the highest PCI bus number.
pub(super) const BUSES: u32 = 256;

/// The first bus number of each expander, by the controller's index.
pub fn expanders(domain: &Domain) -> BTreeMap<u32, u32> {
    let own = domain.controllers.iter().filter(|one| is_expander(one));
    let given = |one: &Controller| Some((one.index, u32::from(one.bus_number?)));
    let mut numbers: BTreeMap<u32, u32> = own.clone().filter_map(given).collect();
    for one in own.filter(|one| one.bus_number.is_none()) {
        let lowest = numbers.values().min().copied().unwrap_or(BUSES);
        numbers.insert(one.index, lowest.saturating_sub(2));
    }
    numbers
}

fn is_expander(one: &Controller) -> bool {
    one.model.ends_with("-expander-bus")
}

/// How many bus numbers the bridges below each root bus and expander take, by its index.
pub(super) fn needed(domain: &Domain) -> BTreeMap<u32, u32> {
    let controllers = domain.controllers.iter().map(|one| (one.index, one));
    let by_index: BTreeMap<u32, &Controller> = controllers.collect();
    let mut needed = BTreeMap::new();
    for one in &domain.controllers {
        // QEMU's conventional expander has a bridge of its own, on whose bus the devices are.
        if one.model == "pci-expander-bus" {
            *needed.entry(one.index).or_default() += 1;
        }
        if is_expander(one) || one.model.ends_with("-root") {
            continue;
        }
        *needed.entry(top(&by_index, one)).or_default() += 1;
    }
    let added = u32::try_from(domain.added_buses().count()).unwrap_or(BUSES);
    if added > 0 {
        *needed.entry(0).or_default() += added;
    }
    needed
}

/// The index of the expander above a bridge; 0 (the root bus) if it is below none or has no address yet.
fn top(by_index: &BTreeMap<u32, &Controller>, bridge: &Controller) -> u32 {
    let mut at = bridge;
    for _ in 0..by_index.len() {
        let above = at.address.map(|address| u32::from(address.at.bus()));
        match above.and_then(|index| by_index.get(&index)) {
            Some(expander) if is_expander(expander) => return expander.index,
            Some(other) => at = other,
            None => break,
        }
    }
    0
}

/// How many bus numbers are between `own` and the next expander's.
pub(super) fn room(numbers: &BTreeMap<u32, u32>, own: u32) -> u32 {
    let above = numbers.values().filter(|number| **number > own).min();
    above.copied().unwrap_or(BUSES) - own - 1
}

/// The first expander, or the root bus, that has fewer bus numbers than it needs.
pub fn check(domain: &Domain) -> Option<Refusal> {
    let numbers = expanders(domain);
    let needed = needed(domain);
    let mut starts: Vec<(u32, u32)> = numbers.iter().map(|(index, own)| (*own, *index)).collect();
    // The guest's root bus begins at number 0 and ends below the lowest expander.
    starts.push((0, 0));
    starts.sort_unstable();
    starts.iter().find_map(|(own, index)| {
        let twin = starts.iter().find(|(other, at)| other == own && at < index);
        let needs = needed.get(index).copied().unwrap_or(0);
        let has = room(&numbers, *own);
        match twin {
            Some((_, twin)) => Some(taken(domain, *index, *own, *twin)),
            None => (needs > has).then(|| too_few(domain, (*index, *own), needs, has)),
        }
    })
}

fn taken(domain: &Domain, index: u32, own: u32, twin: u32) -> Refusal {
    let reason = format!("expander buses {index} and {twin} both begin at bus number {own}");
    refusal(reason, virsh::edit(domain, "give it another 'busNr'"))
}

fn too_few(domain: &Domain, (index, own): (u32, u32), needs: u32, has: u32) -> Refusal {
    let end = own + has;
    let bus = match index {
        0 => "the guest's root bus".to_owned(),
        _ => format!("expander bus {index}, which begins at bus number {own},"),
    };
    let reason = format!(
        "{bus} needs {needs} bus numbers for the ports below it, but has {has} (up to {end})"
    );
    let lower = (end + 1).checked_sub(needs + 1).filter(|lower| *lower > 0);
    let what = match lower.filter(|_| index > 0) {
        Some(lower) => format!("set its 'busNr' to {lower} or less"),
        None => "remove ports, or give the expander above a higher 'busNr'".to_owned(),
    };
    refusal(reason, virsh::edit(domain, &what))
}

fn refusal(reason: String, hint: Hint) -> Refusal {
    Refusal::new(Code::GuestBusNumbers, reason, hint).at("/domain/devices/controller/target")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(expanders: &[&str], ports: &[&str]) -> Domain {
        let expanders = expanders.iter().enumerate().map(|(at, number)| {
            let target = match *number {
                "" => String::new(),
                number => format!("<target busNr='{number}'/>"),
            };
            format!(
                "<controller type='pci' index='{}' model='pcie-expander-bus'>{target}</controller>",
                at + 1
            )
        });
        let first = expanders.len() + 1;
        let ports = ports.iter().enumerate().map(|(at, bus)| {
            format!(
                "<controller type='pci' index='{}' model='pcie-root-port'>\
                 <address type='pci' bus='{bus}' slot='{at}' function='0'/></controller>",
                first + at
            )
        });
        let controllers: String = expanders.chain(ports).collect();
        Domain::parse(&format!(
            "<domain><name>g</name><memory>1</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{controllers}</devices></domain>"
        ))
        .expect("a domain")
    }

    #[test]
    fn every_expander_has_a_number_for_each_port_below_it() {
        for (expanders, ports, wanted) in [
            (&["254"][..], &["1"][..], None),
            (&["254"], &["1", "1"], Some("has 1 (up to 255)")),
            (&["253"], &["1", "1"], None),
            (&["100", "102"], &["1", "1", "2"], Some("has 1 (up to 101)")),
            (&["100", "103"], &["1", "1", "2"], None),
            (
                &["100", "100"],
                &["1", "2"],
                Some("both begin at bus number 100"),
            ),
            (&["255"], &[], None),
            (&["255"], &["1"], Some("set its 'busNr' to 254 or less")),
            (&["2"], &["0"], None),
            (&["2"], &["0", "0"], Some("the guest's root bus needs 2")),
            // What libvirt gives: 254, then 252.
            (&["", ""], &["1", "2"], None),
            (&[""], &["1", "1"], Some("begins at bus number 254")),
            // A port below a port of the expander counts.
            (&["254"], &["1", "2"], Some("needs 2 bus numbers")),
            // libvirt adds ports 3 and 4 below the root bus, for a port on bus 4.
            (&["3"], &["4"], Some("the guest's root bus needs 3")),
        ] {
            let printed = check(&guest(expanders, ports)).map(|refusal| refusal.to_string());
            match (printed, wanted) {
                (None, None) => {}
                (Some(printed), Some(words)) => assert!(printed.contains(words), "{printed}"),
                (printed, wanted) => {
                    unreachable!("{expanders:?} {ports:?}: {printed:?}, wanted {wanted:?}")
                }
            }
        }
    }
}
