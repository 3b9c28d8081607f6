//! A guest as parts, as its definition says: cells, root and expander buses, ports, host devices; and their places on the host.

use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};

use super::{Kind, Part};
use domain::{Cell, Controller, Domain, Hostdev, ROOT_PORT};
use planner::plan::binding;
use planner::size::kib_in_units;

/// Where libvirt gives the address.
const BY_LIBVIRT: &str = "placed by libvirt";

/// A guest and the host that it is for.
#[derive(Clone, Copy)]
struct Guest<'a> {
    host: &'a Host,
    domain: &'a Domain,
}

/// The guest; buses without a cell of their own hang from it directly.
#[must_use]
pub(crate) fn parts(host: &Host, domain: &Domain) -> Part {
    let guest = Guest { host, domain };
    let arch = domain.arch.as_deref().unwrap_or_default();
    let machine = Part::new(Kind::Machine, domain.name.clone(), "guest")
        .fact(format!("{arch} {}", domain.family()).trim())
        .fact(format!(
            "{} CPUs, {} MiB",
            domain.vcpus,
            domain.memory_kib >> 10
        ))
        .fact(threads(domain));
    let sockets = with_cpus(domain).map(|cell| (cell.id, socket(guest, cell)));
    machine.with_sockets(sockets, buses(guest))
}

/// Where threads other than vCPUs run; empty if they are not pinned.
#[must_use]
pub(crate) fn threads(domain: &Domain) -> String {
    let emulator = domain.binding.emulator.as_ref();
    emulator.map_or(String::new(), |cpus| {
        format!("emulator threads on host CPUs {cpus}")
    })
}

fn with_cpus(domain: &Domain) -> impl Iterator<Item = &Cell> {
    domain.cells.iter().filter(|cell| !cell.cpus.is_empty())
}

fn socket(guest: Guest<'_>, cell: &Cell) -> Part {
    let node = guest.node(cell);
    let pages = match &guest.domain.tuning.page_kib[..] {
        [size] => format!(" in pages of {}", kib_in_units(*size)),
        _ => String::new(),
    };
    Part::new(Kind::Socket, format!("cell {}", cell.id), "")
        .fact(format!("CPUs {}", cell.cpus))
        .fact(pins(guest.domain, cell))
        .fact(node.map_or(String::new(), |node| format!("host node {node}")))
        .fact(format!("{}{pages}", super::memory(cell.memory_kib)))
        .fact(distances(guest.domain, cell))
}

/// The host CPUs that the vCPUs of a cell are pinned to.
fn pins(domain: &Domain, cell: &Cell) -> String {
    let pins = cell
        .cpus
        .iter()
        .filter_map(|cpu| domain.binding.pins.get(&cpu));
    let pins = RangeList::union(pins);
    match pins.is_empty() {
        true => String::new(),
        false => format!("on host CPUs {pins}"),
    }
}

/// From a cell to all with CPUs, in their order; empty for a single one, and if a distance is left to libvirt.
fn distances(domain: &Domain, cell: &Cell) -> String {
    let to = with_cpus(domain).map(|other| cell.distances.get(&other.id).copied());
    in_line(to.collect())
}

/// Distances as text; empty for a single one, and if one is not known.
fn in_line(distances: Vec<Option<u8>>) -> String {
    let known: Option<Vec<String>> = distances
        .into_iter()
        .map(|distance| distance.map(|distance| distance.to_string()))
        .collect();
    match known {
        Some(known) if known.len() > 1 => format!("distances {}", known.join(" ")),
        _ => String::new(),
    }
}

impl Guest<'_> {
    /// The host node of a cell.
    fn node(self, cell: &Cell) -> Option<NumaNode> {
        binding::node(&self.host.numa, self.domain, cell.id)
    }

    /// The host's distances from the nodes of all cells with CPUs to a device's.
    fn to_device(self, one: &Hostdev) -> String {
        let device = self.host.devices.get(&one.source);
        let node = device.and_then(|device| device.numa_node);
        let distance = |cell: &Cell| self.host.numa.distance(self.node(cell)?, node?);
        in_line(with_cpus(self.domain).map(distance).collect())
    }
}

/// The root bus and the expanders, each with its cell.
fn buses(guest: Guest<'_>) -> Vec<(Option<u32>, Part)> {
    let domain = guest.domain;
    let root = Part::new(Kind::Bus, "bus 0", "root bus");
    let mut root = filled(guest, 0, root);
    let unplaced = domain.hostdevs.iter().filter(|one| one.address.is_none());
    root.below.extend(unplaced.map(|one| device(guest, one)));
    let mut buses = vec![(None, root)];
    let expanders = domain.controllers.iter();
    let expanders = expanders.filter(|one| one.model == "pcie-expander-bus");
    buses.extend(expanders.map(|one| {
        let part = Part::new(Kind::Bus, format!("bus {}", one.index), "expander");
        let number = one.bus_number.map(|number| format!("number {number}"));
        (
            one.cell,
            filled(guest, one.index, part.fact(number.unwrap_or_default())),
        )
    }));
    buses.retain(|(cell, bus)| cell.is_some() || !bus.below.is_empty());
    buses
}

/// What sits on the bus of a controller.
fn filled(guest: Guest<'_>, index: u32, mut part: Part) -> Part {
    let domain = guest.domain;
    let ports = domain
        .controllers
        .iter()
        .filter(|one| is_port(one) && on(one, index));
    part.below = ports.map(|one| port(guest, one)).collect();
    let added = domain
        .added_buses()
        // libvirt puts the ports that it adds on the root bus.
        .filter(|added| index == 0 && domain.bus_model(*added).is_some());
    let added = added.map(|index| added_port(guest, index));
    part.below
        .extend(added.filter(|port| !port.below.is_empty()));
    let devices = domain.hostdevs.iter().filter(|one| is_on(one, index));
    part.below.extend(devices.map(|one| device(guest, one)));
    part
}

fn is_port(one: &Controller) -> bool {
    one.model.ends_with("-port") || one.model.ends_with("-bridge")
}

/// A port without an address goes onto the root bus, when libvirt gives it one.
fn on(one: &Controller, index: u32) -> bool {
    one.address.map_or(0, |address| u32::from(address.at.bus())) == index
}

fn is_on(one: &Hostdev, index: u32) -> bool {
    one.address
        .is_some_and(|address| u32::from(address.at.bus()) == index)
}

/// A port or bridge that libvirt adds for a device that is on a bus without one.
fn added_port(guest: Guest<'_>, index: u32) -> Part {
    let (kind, label) = kind(guest.domain.bus_model(index).unwrap_or_default());
    let part = Part::new(kind, BY_LIBVIRT.to_owned(), label);
    filled(guest, index, part.fact(format!("bus {index}")))
}

fn port(guest: Guest<'_>, one: &Controller) -> Part {
    let (kind, label) = kind(&one.model);
    let at = one.address.map(|address| address.at.to_string());
    let part = Part::new(kind, at.unwrap_or_else(|| BY_LIBVIRT.to_owned()), label);
    filled(guest, one.index, part.fact(format!("bus {}", one.index)))
}

fn kind(model: &str) -> (Kind, &str) {
    match model {
        ROOT_PORT => (Kind::RootPort, "root port"),
        "pcie-switch-upstream-port" => (Kind::Switch, "switch upstream port"),
        "pcie-switch-downstream-port" => (Kind::Switch, "switch downstream port"),
        bridge => (Kind::Switch, bridge),
    }
}

fn device(guest: Guest<'_>, one: &Hostdev) -> Part {
    let domain = guest.domain;
    let at = one.address.map(|address| address.at.to_string());
    let kind = match domain.is_marked(one.source) {
        true => Kind::Covered,
        false => Kind::Device,
    };
    let mut part = Part::new(
        kind,
        at.unwrap_or_else(|| BY_LIBVIRT.to_owned()),
        format!("host's {}", one.source),
    );
    part.device = Some(one.source);
    let initiators = initiators(domain, one);
    let initiators = initiators.map(|cells| format!("initiator cells {cells}"));
    part.fact(initiators.unwrap_or_default())
        .fact(guest.to_device(one))
}

/// The cells of its nodeset, or those of the mark if they are passed as QEMU arguments.
fn initiators(domain: &Domain, one: &Hostdev) -> Option<RangeList> {
    let marked = domain.mark.iter().flat_map(|mark| &mark.devices);
    let mut marked = marked.filter(|marked| marked.address == one.source);
    let cells = one
        .nodeset
        .clone()
        .or_else(|| Some(marked.next()?.cells.clone()));
    cells.filter(|cells| !cells.is_empty())
}
