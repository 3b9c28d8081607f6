//! The PCI bus numbers of a guest as its firmware gives them: depth first in the order of slots; an expander has its own.
//!
//! A root port without an address is taken where libvirt will put it: on the root bus, in the first slot that is free or holds
//! root ports alone and has a function left (libvirt, src/conf/domain_addr.c, virDomainPCIAddressFindUnusedFunctionOnBus). A bridge to
//! conventional PCI without an address is taken on the first free port, so its bus is numbered before those of later ports. Ports and
//! bridges that libvirt adds for devices without an address come behind all others and change no number of theirs.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use domain::{Controller, Domain, GuestAddress, ROOT_PORT};
use planner::plan::bus_number;

/// Slots of a bus, and functions of a slot.
const SLOTS: u8 = 32;
const FUNCTIONS: u8 = 8;
/// Slot of the primary video device on q35, unless another device has it.
const VIDEO: u8 = 1;

/// Bus numbers by the index of the PCI controller.
pub(super) struct Numbers {
    numbers: BTreeMap<u32, u32>,
    /// Ports whose place is libvirt's choice still to be made.
    predicted: BTreeSet<u32>,
}

/// A bridge of the guest.
#[derive(Clone, Copy)]
struct Bridge {
    index: u32,
    at: PciAddress,
}

impl Numbers {
    pub(super) fn of(domain: &Domain) -> Self {
        let mut bridges: Vec<Bridge> = domain.controllers.iter().filter_map(placed).collect();
        let chosen = chosen(domain);
        bridges.extend(&chosen);
        bridges.sort_by_key(|one| one.at);
        let mut numbers = BTreeMap::from([(0, 0)]);
        number(&bridges, 0, &mut 1, &mut numbers);
        for (index, own) in bus_number::expanders(domain) {
            numbers.insert(index, own);
            number(&bridges, index, &mut (own + 1), &mut numbers);
        }
        let predicted = chosen.iter().map(|one| one.index).collect();
        Self { numbers, predicted }
    }

    /// Where the guest sees a device at this address of its definition.
    pub(super) fn seen_at(&self, at: PciAddress) -> Option<PciAddress> {
        let bus = u8::try_from(*self.numbers.get(&u32::from(at.bus()))?).ok()?;
        PciAddress::new(at.domain(), bus, at.device(), at.function()).ok()
    }

    /// True when the number of a bus rests on what libvirt will choose.
    pub(super) fn is_predicted(&self, at: PciAddress) -> bool {
        let number = self.numbers.get(&u32::from(at.bus()));
        let first = self
            .predicted
            .iter()
            .filter_map(|index| self.numbers.get(index));
        // Numbers below that of the first predicted port do not depend on it.
        number.is_some_and(|number| first.min().is_some_and(|first| number >= first))
    }
}

fn is_bridge(one: &Controller) -> bool {
    one.model.contains("port") || one.model.ends_with("bridge")
}

fn placed(one: &Controller) -> Option<Bridge> {
    let at = one.address.filter(|_| is_bridge(one))?.at;
    let index = one.index;
    Some(Bridge { index, at })
}

/// Ports that take a bridge to conventional PCI, and that bridge.
const PORTS: [&str; 2] = [ROOT_PORT, "pcie-switch-downstream-port"];
const TO_CONVENTIONAL: &str = "pcie-to-pci-bridge";

/// Bridges without an address, where libvirt will put them.
fn chosen(domain: &Domain) -> Vec<Bridge> {
    let mut chosen = ports(domain);
    chosen.extend(to_conventional(domain));
    chosen
}

/// Each on the port with the lowest index that nothing is on.
fn to_conventional(domain: &Domain) -> Vec<Bridge> {
    let written = domain.controllers.iter().map(|one| one.index);
    let indexes: BTreeSet<u32> = written.chain(domain.added_buses()).collect();
    let is_port = |index: &u32| PORTS.contains(&domain.bus_model(*index).unwrap_or_default());
    let taken = domain.addresses().map(|GuestAddress { at, .. }| at);
    let taken: BTreeSet<u32> = taken
        .filter(|at| at.domain() == 0)
        .map(|at| at.bus().into())
        .collect();
    let mut free = indexes
        .iter()
        .filter(|index| is_port(index) && !taken.contains(index));
    let mut bridges: Vec<u32> = domain
        .controllers
        .iter()
        .filter(|one| one.model == TO_CONVENTIONAL && one.address.is_none())
        .map(|one| one.index)
        .collect();
    bridges.sort_unstable();
    let placed = bridges.into_iter().map_while(|index| {
        let bus = u8::try_from(*free.next()?).ok()?;
        Some(Bridge {
            index,
            at: PciAddress::new(0, bus, 0, 0).ok()?,
        })
    });
    placed.collect()
}

/// Root ports without an address, and those that libvirt adds.
fn ports(domain: &Domain) -> Vec<Bridge> {
    let mut slots = Slots::of(domain);
    let written = domain.controllers.iter();
    let written = written.filter(|one| one.model == ROOT_PORT && one.address.is_none());
    let added = domain
        .added_buses()
        .filter(|index| domain.bus_model(*index) == Some(ROOT_PORT));
    let indexes = written.map(|one| one.index).chain(added);
    indexes
        .map_while(|index| slots.take().map(|at| Bridge { index, at }))
        .collect()
}

/// What is taken on the root bus: by slot, its functions, or all of them if a device that is not a root port is in it.
struct Slots(BTreeMap<u8, u8>);

impl Slots {
    fn of(domain: &Domain) -> Self {
        let mut taken: BTreeMap<u8, u8> = BTreeMap::new();
        let here = |at: &PciAddress| at.domain() == 0 && at.bus() == 0;
        let ports = domain
            .controllers
            .iter()
            .filter(|one| one.model == ROOT_PORT);
        let ports: BTreeSet<PciAddress> = ports.filter_map(|one| Some(one.address?.at)).collect();
        for at in ports.iter().filter(|at| here(at)) {
            *taken.entry(at.device()).or_default() |= 1 << at.function();
        }
        let all = domain.addresses().map(|address| address.at);
        for at in all.filter(|at| here(at) && !ports.contains(at)) {
            taken.insert(at.device(), u8::MAX);
        }
        if domain.family() == "q35" && domain.video_is_unplaced {
            taken.entry(VIDEO).or_insert(u8::MAX);
        }
        Self(taken)
    }

    /// The next free function for a root port; slot 0 is the host bridge's.
    fn take(&mut self) -> Option<PciAddress> {
        let free = |slot: u8| {
            let taken = self.0.get(&slot).copied().unwrap_or_default();
            (0..FUNCTIONS).find(|function| taken & 1 << function == 0)
        };
        let (slot, function) = (1..SLOTS).find_map(|slot| Some((slot, free(slot)?)))?;
        *self.0.entry(slot).or_default() |= 1 << function;
        PciAddress::new(0, 0, slot, function).ok()
    }
}

fn number(bridges: &[Bridge], bus: u32, next: &mut u32, numbers: &mut BTreeMap<u32, u32>) {
    let here = bridges.iter().filter(|one| u32::from(one.at.bus()) == bus);
    for one in here {
        // Ends the recursion for a definition in which a bridge is on its own bus.
        if numbers.contains_key(&one.index) {
            continue;
        }
        numbers.insert(one.index, *next);
        *next += 1;
        number(bridges, one.index, next, numbers);
    }
}
