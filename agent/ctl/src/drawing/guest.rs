//! A guest as parts, as its definition says: cells, root and expander buses, ports, host devices.

use kernel_glue::numa::RangeList;

use super::{Kind, Part};
use domain::{Cell, Controller, Domain, Hostdev, ROOT_PORT};

/// Where libvirt gives the address.
const BY_LIBVIRT: &str = "placed by libvirt";

/// The guest; buses without a cell of their own hang from it directly.
#[must_use]
pub(crate) fn parts(domain: &Domain) -> Part {
    let arch = domain.arch.as_deref().unwrap_or_default();
    let machine = Part::new(Kind::Machine, domain.name.clone(), "guest")
        .fact(format!("{arch} {}", domain.family()).trim())
        .fact(format!(
            "{} CPUs, {} MiB",
            domain.vcpus,
            domain.memory_kib >> 10
        ));
    let with_cpus = domain.cells.iter().filter(|cell| !cell.cpus.is_empty());
    let sockets = with_cpus.map(|cell| (cell.id, socket(cell)));
    machine.with_sockets(sockets, buses(domain))
}

fn socket(cell: &Cell) -> Part {
    Part::new(Kind::Socket, format!("cell {}", cell.id), "")
        .fact(format!("CPUs {}", cell.cpus))
        .fact(super::memory(cell.memory_kib))
}

/// The root bus and the expanders, each with its cell.
fn buses(domain: &Domain) -> Vec<(Option<u32>, Part)> {
    let root = Part::new(Kind::Bus, "bus 0", "root bus");
    let mut root = filled(domain, 0, root);
    let unplaced = domain.hostdevs.iter().filter(|one| one.address.is_none());
    root.below.extend(unplaced.map(|one| device(domain, one)));
    let mut buses = vec![(None, root)];
    let expanders = domain.controllers.iter();
    let expanders = expanders.filter(|one| one.model == "pcie-expander-bus");
    buses.extend(expanders.map(|one| {
        let part = Part::new(Kind::Bus, format!("bus {}", one.index), "expander");
        let number = one.bus_number.map(|number| format!("number {number}"));
        (
            one.cell,
            filled(domain, one.index, part.fact(number.unwrap_or_default())),
        )
    }));
    buses.retain(|(cell, bus)| cell.is_some() || !bus.below.is_empty());
    buses
}

/// What sits on the bus of a controller.
fn filled(domain: &Domain, index: u32, mut part: Part) -> Part {
    let ports = domain
        .controllers
        .iter()
        .filter(|one| is_port(one) && on(one, index));
    part.below = ports.map(|one| port(domain, one)).collect();
    let added = domain
        .added_buses()
        // libvirt puts the ports that it adds on the root bus.
        .filter(|added| index == 0 && domain.bus_model(*added).is_some());
    let added = added.map(|index| added_port(domain, index));
    part.below
        .extend(added.filter(|port| !port.below.is_empty()));
    let devices = domain.hostdevs.iter().filter(|one| is_on(one, index));
    part.below.extend(devices.map(|one| device(domain, one)));
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
fn added_port(domain: &Domain, index: u32) -> Part {
    let (kind, label) = kind(domain.bus_model(index).unwrap_or_default());
    let part = Part::new(kind, BY_LIBVIRT.to_owned(), label);
    filled(domain, index, part.fact(format!("bus {index}")))
}

fn port(domain: &Domain, one: &Controller) -> Part {
    let (kind, label) = kind(&one.model);
    let at = one.address.map(|address| address.at.to_string());
    let part = Part::new(kind, at.unwrap_or_else(|| BY_LIBVIRT.to_owned()), label);
    filled(domain, one.index, part.fact(format!("bus {}", one.index)))
}

fn kind(model: &str) -> (Kind, &str) {
    match model {
        ROOT_PORT => (Kind::RootPort, "root port"),
        "pcie-switch-upstream-port" => (Kind::Switch, "switch upstream port"),
        "pcie-switch-downstream-port" => (Kind::Switch, "switch downstream port"),
        bridge => (Kind::Switch, bridge),
    }
}

fn device(domain: &Domain, one: &Hostdev) -> Part {
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
    match initiators(domain, one) {
        Some(cells) => part.fact(format!("initiator cells {cells}")),
        None => part,
    }
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
