//! Expander buses, root ports and switches: new ones, and the devices behind them. Order of the file: plan, recognise, revert.
//!
//! Expander buses get numbers from 255 downwards, because the buses of the guest's own root bus are numbered upwards. QEMU's
//! `bus_nr` is the first number of an expander (hw/pci-bridge/pci_expander_bridge.c); each root port on it takes one more.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::numa::NumaNode;

use super::bus_number::{self, BUSES};
use super::fragment::Fragment;
use super::{Assigned, Note, Part, PlanInput, association, binding, smmu, switch, virsh};
use crate::recipe::Per;
use domain::code::Code;
use domain::edit::Edit;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Controller, Domain, GuestAddress, Hostdev, Mark, Piece};

/// Slots of a PCI bus.
const SLOTS: u32 = 32;

/// A new port of a device, with what is above it.
pub(super) struct Port {
    /// The controllers to add.
    pub(super) controllers: Vec<Fragment>,
    /// Its index, which is the device's bus.
    pub(super) index: u32,
    /// The expander bus that it is on.
    pub(super) expander: Option<u32>,
    /// The upstream port of the switch that it belongs to.
    pub(super) switch: Option<u32>,
    /// Notes on it, and what the mark records of the controllers above it.
    pub(super) part: Part,
}

/// The PCI buses of the completed guest.
pub(super) struct Buses<'a> {
    input: &'a PlanInput<'a>,
    domain: &'a Domain,
    /// Index of the next new controller.
    next: u32,
    /// Lowest bus number of any expander.
    lowest: u32,
    /// Expander of each group.
    expanders: BTreeMap<String, Expander>,
    /// The guest's switch for each of the host's, by the upstream port.
    switches: BTreeMap<PciAddress, Switch>,
    /// Expander that each device is behind.
    pub(super) behind: BTreeMap<PciAddress, u32>,
}

#[derive(Clone, Copy, Debug)]
struct Expander {
    index: u32,
    /// Slot of the next port on it.
    slot: u32,
    /// Bus numbers in use below it.
    used: u32,
    /// Bus numbers available below it.
    room: u32,
}

/// A switch of the guest.
#[derive(Clone, Copy, Debug)]
struct Switch {
    /// Index of its upstream port.
    upstream: u32,
    /// Slot of the next downstream port on it.
    slot: u32,
    /// The expander bus that it is below.
    expander: Option<u32>,
}

impl<'a> Buses<'a> {
    /// The existing buses, with the devices on them.
    pub(super) fn of(
        input: &'a PlanInput<'a>,
        domain: &'a Domain,
        assigned: &[Assigned<'_>],
    ) -> Result<Self, Refusal> {
        let numbers = domain.controllers.iter().filter_map(|c| c.bus_number);
        let mut buses = Self {
            input,
            domain,
            next: domain.next_controller(),
            lowest: numbers.map(u32::from).min().unwrap_or(BUSES),
            expanders: BTreeMap::new(),
            switches: BTreeMap::new(),
            behind: BTreeMap::new(),
        };
        for one in assigned.iter().filter(|one| wanted(domain, one)) {
            buses.keep(one)?;
        }
        for one in assigned {
            let host = switch::of(input.host, one);
            if let Some((host, up)) = host.zip(switch::upstream(domain, one)) {
                let slot = buses.next_slot(up.index);
                let switch = Switch {
                    upstream: up.index,
                    slot,
                    expander: expander_of(domain, one).map(|expander| expander.index),
                };
                buses.switches.insert(host, switch);
            }
        }
        Ok(buses)
    }

    /// Records the expander above a device that has an address.
    fn keep(&mut self, one: &Assigned<'_>) -> Result<(), Refusal> {
        let Some(controller) = expander_of(self.domain, one) else {
            return Ok(());
        };
        let index = controller.index;
        let group = group(self.input, self.domain, one);
        let other = self
            .expanders
            .iter()
            .find(|(_, known)| known.index == index);
        let other = other.filter(|(other, _)| **other != group);
        if other.is_some() && !by_recipe(self.domain, one) {
            // A wrong locality is a note: `locality`.
            self.behind.insert(one.hostdev.source, index);
            return Ok(());
        }
        if let Some((other, _)) = other {
            return Err(shared(self.domain, one, index, other, &group));
        }
        let known = self.known(index);
        self.expanders.entry(group).or_insert(known);
        self.behind.insert(one.hostdev.source, index);
        Ok(())
    }

    /// An expander of the definition.
    fn known(&self, index: u32) -> Expander {
        let numbers = bus_number::expanders(self.domain);
        let needed = bus_number::needed(self.domain);
        Expander {
            index,
            slot: self.next_slot(index),
            used: needed.get(&index).copied().unwrap_or(0),
            room: numbers
                .get(&index)
                .map_or(1, |own| bus_number::room(&numbers, *own)),
        }
    }

    /// The definition's own expander for a device of a mirrored layout: at the device's cell, with room for one more port.
    fn own(&self, one: &Assigned<'_>) -> Option<Expander> {
        let cell = cell(self.input, self.domain, one)?;
        let controllers = self.domain.controllers.iter();
        let mut here = controllers.filter(|controller| {
            controller.model == "pcie-expander-bus" && controller.cell == Some(cell)
        });
        let has_room = |known: &Expander| known.used < known.room && known.slot < SLOTS;
        here.find_map(|controller| Some(self.known(controller.index)).filter(has_room))
            .filter(|_| !by_recipe(self.domain, one))
    }

    /// The first slot after the last one in use on the bus of a controller.
    fn next_slot(&self, index: u32) -> u32 {
        self.domain
            .last_slot(index)
            .map_or(0, |slot| u32::from(slot) + 1)
    }

    /// A new port for a device: behind a mirrored switch, on its group's expander, or on the root bus, by the recipe.
    pub(super) fn port(&mut self, one: &Assigned<'_>) -> Result<Port, Refusal> {
        if let Some(address) = self.domain.conventional().next() {
            return Err(conventional(self.domain, one, address));
        }
        if let Some(host) = switch::of(self.input.host, one) {
            let mut port = self.behind_switch(one, host)?;
            port.part.notes.push(switch::note(one, host));
            return self.numbered(one, port);
        }
        let port = self.root_port(one, 1)?;
        self.numbered(one, port)
    }

    /// A new root port that needs so many bus numbers: on the expander of the device's group if it wants one.
    fn root_port(&mut self, one: &Assigned<'_>, numbers: u32) -> Result<Port, Refusal> {
        if !wanted(self.domain, one) {
            return Ok(self.plain());
        }
        let has_room = |known: &Expander| known.used + numbers <= known.room && known.slot < SLOTS;
        let group = group(self.input, self.domain, one);
        let (mut controllers, mut part) = (Vec::new(), Part::default());
        let mut expander = match self.expanders.get(&group) {
            Some(known) if has_room(known) => *known,
            Some(_) if by_recipe(self.domain, one) => return Err(full(self.domain, one)),
            known => match self.own(one).filter(|own| known.is_none() && has_room(own)) {
                Some(own) => own,
                None => {
                    let (expander, controller, recorded) = self.expander(one)?;
                    controllers.push(controller);
                    part.add(recorded);
                    expander
                }
            },
        };
        let index = self.take();
        controllers.push(root_port(index).child(address(expander.index, expander.slot)));
        expander.slot += 1;
        expander.used += numbers;
        self.expanders.insert(group, expander);
        self.behind.insert(one.hostdev.source, expander.index);
        Ok(Port {
            controllers,
            index,
            expander: Some(expander.index),
            switch: None,
            part,
        })
    }

    /// Refuses a port whose index is not a valid bus number.
    fn numbered(&self, one: &Assigned<'_>, port: Port) -> Result<Port, Refusal> {
        match port.index < BUSES {
            true => Ok(port),
            false => Err(full(self.domain, one)),
        }
    }

    fn plain(&mut self) -> Port {
        let index = self.take();
        Port {
            controllers: vec![root_port(index)],
            index,
            expander: None,
            switch: None,
            part: Part::default(),
        }
    }

    /// A downstream port; with the switch and its root port if the guest does not have them yet.
    fn behind_switch(&mut self, one: &Assigned<'_>, host: PciAddress) -> Result<Port, Refusal> {
        let known = self.switches.get(&host).copied();
        let (mut above, switch) = match known {
            Some(known) => (self.above(one, known)?, known),
            None => self.switch(one)?,
        };
        let index = self.take();
        let at = address(switch.upstream, switch.slot);
        let port = controller(index, switch::DOWNSTREAM).child(at);
        above.controllers.push(port);
        let slot = switch.slot + 1;
        self.switches.insert(host, Switch { slot, ..switch });
        Ok(Port {
            index,
            switch: Some(switch.upstream),
            ..above
        })
    }

    /// A new switch on a root port of its own, with a bus number for its first downstream port.
    fn switch(&mut self, one: &Assigned<'_>) -> Result<(Port, Switch), Refusal> {
        let mut port = self.root_port(one, 3)?;
        let upstream = self.take();
        // The bus of a root port has only slot 0 (PCIe base specification 7.3.1).
        let at = address(port.index, 0);
        let up = controller(upstream, switch::UPSTREAM).child(at);
        port.controllers.push(up);
        port.part.added.insert(Piece::Switch(port.index));
        port.part.added.insert(Piece::Switch(upstream));
        let switch = Switch {
            upstream,
            slot: 0,
            expander: port.expander,
        };
        Ok((port, switch))
    }

    /// What is above a further downstream port of a switch: no new controller, and a bus number of its expander.
    fn above(&mut self, one: &Assigned<'_>, switch: Switch) -> Result<Port, Refusal> {
        let mut known = self.expanders.values_mut();
        let known = known.find(|known| Some(known.index) == switch.expander);
        if let Some(known) = known {
            if known.used >= known.room {
                return Err(full(self.domain, one));
            }
            known.used += 1;
            self.behind.insert(one.hostdev.source, known.index);
        }
        Ok(Port {
            controllers: Vec::new(),
            index: switch.upstream,
            expander: switch.expander,
            switch: None,
            part: Part::default(),
        })
    }

    fn take(&mut self) -> u32 {
        let index = self.next;
        self.next += 1;
        index
    }

    /// A new expander with bus numbers for every device of its group on the host.
    fn expander(&mut self, one: &Assigned<'_>) -> Result<(Expander, Fragment, Part), Refusal> {
        let room = self.members(one);
        let index = self.take();
        // One number for the expander's own bus, and one for each root port that may be added on it later.
        let number = self.lowest.checked_sub(1 + room);
        // Below are the buses of the guest's root bus: at most one for each controller.
        let number = number.filter(|number| *number > self.next + 1);
        let number = number.ok_or_else(|| full(self.domain, one))?;
        self.lowest = number;
        let mut part = Part::default();
        part.added.insert(Piece::Expander(index));
        let mut target = Fragment::new("target").with("busNr", number);
        match cell(self.input, self.domain, one) {
            Some(cell) => target = target.child(Fragment::new("node").text(cell)),
            None => part.notes.push(unknown_cell(one)),
        }
        let new = Expander {
            index,
            slot: 0,
            used: 0,
            room,
        };
        let controller = controller(index, "pcie-expander-bus").child(target);
        Ok((new, controller, part))
    }

    /// How many bus numbers the guest's devices at the same cell need.
    fn beside(&self, one: &Assigned<'_>) -> u32 {
        let here = cell(self.input, self.domain, one);
        let numa = &self.input.host.numa;
        let socket = |source: PciAddress| {
            let device = self.input.host.devices.get(&source)?;
            association::socket(numa, device)
        };
        let hostdevs = self.domain.hostdevs.iter();
        let sockets: Vec<Option<NumaNode>> = hostdevs.map(|one| socket(one.source)).collect();
        // Once for each node: a search goes through all cells and their vCPUs.
        let cells: BTreeMap<NumaNode, Option<u32>> = (sockets.iter().flatten())
            .collect::<BTreeSet<_>>()
            .into_iter()
            .map(|node| (*node, binding::cell_on(numa, self.domain, *node)))
            .collect();
        let is_here = |node: &&Option<NumaNode>| node.and_then(|node| cells[&node]) == here;
        let count = sockets.iter().filter(is_here).count();
        let hostdevs = self.domain.hostdevs.iter().zip(&sockets);
        let here = hostdevs.filter(|(_, socket)| is_here(socket));
        let switches = here.filter_map(|(hostdev, _)| self.switch_of(hostdev));
        // A switch has two ports of its own: its root port and its upstream port.
        let ports = count + 2 * switches.collect::<BTreeSet<_>>().len();
        u32::try_from(ports).unwrap_or(BUSES).max(1)
    }

    /// The host's switch above a device whose recipe mirrors switches.
    fn switch_of(&self, hostdev: &Hostdev) -> Option<PciAddress> {
        let device = self.input.host.devices.get(&hostdev.source)?;
        let recipe = self.input.recipes.for_device(device)?;
        let one = Assigned {
            hostdev,
            device,
            recipe,
        };
        switch::of(self.input.host, &one)
    }

    /// Devices of the same recipe behind the same IOMMU of the host; 1 for an expander per device.
    fn members(&self, one: &Assigned<'_>) -> u32 {
        let per_device = one
            .recipe
            .expander
            .as_ref()
            .is_some_and(|e| e.per == Per::Device);
        if !by_recipe(self.domain, one) {
            return self.beside(one);
        }
        let (Some(iommu), false) = (&one.device.iommu, per_device) else {
            return 1;
        };
        let recipes = self.input.recipes;
        let same = |device: &&kernel_glue::device::Device| {
            device.iommu.as_ref() == Some(iommu)
                && recipes.for_device(device).map(|r| &r.name) == Some(&one.recipe.name)
        };
        let count = self.input.host.devices.values().filter(same).count();
        u32::try_from(count).unwrap_or(BUSES).max(1)
    }
}

/// The guest cell at the device's socket: cell 0 of a guest without cells.
pub(super) fn cell(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> Option<u32> {
    let with_cpus = domain.cells.iter().filter(|cell| !cell.cpus.is_empty());
    let with_cpus: Vec<u32> = with_cpus.map(|cell| cell.id).collect();
    match with_cpus[..] {
        [] => return Some(0),
        [only] => return Some(only),
        _ => {}
    }
    let numa = &input.host.numa;
    let socket = association::socket(numa, one.device);
    socket.and_then(|node| {
        let here = |cell: &&u32| binding::node(numa, domain, **cell) == Some(node);
        with_cpus.iter().find(here).copied()
    })
}

fn unknown_cell(one: &Assigned<'_>) -> Note {
    Note {
        code: Code::ExpanderCellUnknown,
        device: Some(one.hostdev.source),
        text: "its expander bus has no NUMA node: no guest cell is bound to its socket (by <numatune>, <vcpupin> or <vcpu cpuset>)".to_owned(),
    }
}

/// True when the recipe wants an expander on the domain's machine.
pub(super) fn wanted(domain: &Domain, one: &Assigned<'_>) -> bool {
    by_recipe(domain, one) || is_mirrored(domain)
}

fn by_recipe(domain: &Domain, one: &Assigned<'_>) -> bool {
    let expander = one.recipe.expander.as_ref();
    expander.is_some_and(|expander| domain.family() == expander.machine)
}

/// True when the guest has a mirrored NUMA layout on `q35`: each device is then on an expander bus at its node. On `virt` the recipe
/// decides, because an expander bus is also what an SMMUv3 is in front of.
pub(super) fn is_mirrored(domain: &Domain) -> bool {
    domain.layout.is_some() && domain.family() == "q35"
}

/// The expander bus that a device's root port is on, or that of a switch which its recipe accepts.
pub(super) fn expander_of<'a>(domain: &'a Domain, one: &Assigned<'_>) -> Option<&'a Controller> {
    let switch = switch::upstream(domain, one).filter(|_| one.recipe.placement.switch);
    let bus = match switch {
        Some(upstream) => upstream.address?.at.bus(),
        None => one.hostdev.address?.at.bus(),
    };
    let port = domain.controller(bus.into())?;
    let above = domain.controller(port.address?.at.bus().into())?;
    (above.model == "pcie-expander-bus").then_some(above)
}

/// What a device shares its expander with: by the recipe, else the cell of its node.
fn group(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> String {
    if !by_recipe(domain, one) {
        return match cell(input, domain, one) {
            Some(cell) => format!("cell {cell}"),
            None => one.hostdev.source.to_string(),
        };
    }
    let per = one.recipe.expander.as_ref().map(|expander| expander.per);
    let iommu = one.device.iommu.clone().filter(|_| per == Some(Per::Iommu));
    iommu.unwrap_or_else(|| one.hostdev.source.to_string())
}

/// True when each port, expander bus and switch that we added exists and has a device on it.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    ours(mark)
        .into_iter()
        .all(|index| domain.controller(index).is_some() && domain.devices_on(index) > 0)
}

/// Removes our PCI controllers that are no longer used, and our SMMUs in front of them or of the user's controllers.
/// `is_leaving` tells whether a hostdev on one of our ports gets another address.
pub(crate) fn undo(
    domain: &Domain,
    mark: &Mark,
    is_leaving: impl Fn(&Hostdev) -> bool,
) -> Vec<Edit> {
    let unused = unused(domain, mark, is_leaving);
    let controllers = domain.controllers.iter();
    let controllers = controllers.filter(|controller| unused.contains(&controller.index));
    let mut edits: Vec<Edit> = controllers
        .map(|controller| controller.element.remove())
        .collect();
    edits.extend(smmu::undo(domain, mark, &unused));
    edits
}

/// The indexes of our controllers.
fn ours(mark: &Mark) -> BTreeSet<u32> {
    let ports = mark.devices.iter().flat_map(|marked| marked.added.ports());
    let others = mark.added.iter().filter_map(|piece| match piece {
        Piece::Expander(index) | Piece::Switch(index) => Some(*index),
        _ => None,
    });
    ports.chain(others).collect()
}

/// From the leaves up: a controller is unused when everything on it is removed or moves.
fn unused(domain: &Domain, mark: &Mark, is_leaving: impl Fn(&Hostdev) -> bool) -> BTreeSet<u32> {
    let ours = ours(mark);
    let mut unused = BTreeSet::new();
    loop {
        let is_unused = |index: &u32| {
            let going = going(domain, *index, &unused, &is_leaving);
            !unused.contains(index) && domain.devices_on(*index) == going
        };
        match ours.iter().find(|index| is_unused(index)) {
            Some(index) => unused.insert(*index),
            None => return unused,
        };
    }
}

/// How many devices and controllers on a bus are removed or move.
fn going(
    domain: &Domain,
    index: u32,
    unused: &BTreeSet<u32>,
    is_leaving: impl Fn(&Hostdev) -> bool,
) -> usize {
    let leaves = |hostdev: &&Hostdev| hostdev.is_on(index) && is_leaving(hostdev);
    let devices = domain.hostdevs.iter().filter(leaves).count();
    let on = |c: &&Controller| c.address.is_some_and(|a| u32::from(a.at.bus()) == index);
    let controllers = domain.controllers.iter().filter(on);
    devices + controllers.filter(|c| unused.contains(&c.index)).count()
}

fn controller(index: u32, model: &str) -> Fragment {
    Fragment::new("controller")
        .with("type", "pci")
        .with("index", index)
        .with("model", model)
}

fn root_port(index: u32) -> Fragment {
    controller(index, "pcie-root-port")
}

/// A guest address of function 0.
pub(super) fn address(bus: u32, slot: u32) -> Fragment {
    Fragment::new("address")
        .with("type", "pci")
        .with("domain", "0x0000")
        .with("bus", format!("{bus:#04x}"))
        .with("slot", format!("{slot:#04x}"))
        .with("function", "0x0")
}

fn shared(domain: &Domain, one: &Assigned<'_>, index: u32, other: &str, own: &str) -> Refusal {
    let reason = format!(
        "expander bus {index} already serves '{other}', and this device belongs to '{own}'"
    );
    let name = &domain.name;
    let hint = Hint::run(line(["variantctl", "prepare", "--replace", name]))
        .then(&format!(", or move its root port with 'virsh edit {name}'"));
    Refusal::new(Code::GuestExpanderShared, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/controller[@model='pcie-expander-bus']")
}

/// If a controller has a higher index, libvirt adds a root port and no bridge for a conventional device, and refuses the slot.
fn conventional(domain: &Domain, one: &Assigned<'_>, address: GuestAddress) -> Refusal {
    let (at, bus) = (address.at, address.at.bus());
    let reason = format!(
        "the guest address {at} is on bus {bus}, which has no controller; libvirt adds none, because the root port of this device has \
         a higher index"
    );
    let what = format!(
        "write a controller for bus {bus}, such as <controller type='pci' index='{bus}' model='pcie-to-pci-bridge'/>, or remove that \
         address,"
    );
    let hint = virsh::edit(domain, &what);
    Refusal::new(Code::XmlValue, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/*/address")
}

fn full(domain: &Domain, one: &Assigned<'_>) -> Refusal {
    let reason = "the guest has no free PCI bus number for its root port (limit: 256)";
    let what = "assign fewer devices, or give expander buses a lower 'busNr'";
    let hint = virsh::edit(domain, what);
    Refusal::new(Code::GuestBusNumbers, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/controller/target")
}
