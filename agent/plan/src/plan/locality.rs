//! What in a definition's own layout performs badly: notes, because the guest runs.

use std::collections::BTreeMap;

use kernel_glue::capacity::Capacity;
use kernel_glue::host::Host;
use kernel_glue::numa::{NumaNode, RangeList};

use super::{Note, PlanInput, association, binding};
use crate::size::kib_in_units;
use domain::code::Code;
use domain::{Controller, Domain, Hostdev};

/// Controllers from a device to the root, at most: a definition may have a loop of buses.
const MAX_DEPTH: usize = 256;

/// What a locality is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The host.
    pub host: &'a Host,
    /// Its CPUs and huge pages; `None` if they are not known: then all CPUs are online, and huge pages are not judged.
    pub capacity: Option<&'a Capacity>,
}

impl<'a> From<&PlanInput<'a>> for Facts<'a> {
    fn from(input: &PlanInput<'a>) -> Self {
        Self {
            host: input.host,
            capacity: input.numa.facts.map(|facts| facts.capacity),
        }
    }
}

/// A note for each part of a definition that contradicts the place of the guest's devices on the host.
#[must_use]
pub fn notes(input: &Facts<'_>, domain: &Domain) -> Vec<Note> {
    let mut notes: Vec<Note> = partly_offline(input, domain).into_iter().collect();
    notes.extend(domain.memory_nodes.iter().filter_map(|bound| {
        let sockets = on_sockets(input, &bound.nodes);
        let text = format!(
            "<memnode> of cell {} spans nodes {}, so its memory is near no single one",
            bound.cell, bound.nodes
        );
        (sockets.len() > 1).then(|| Note::new(Code::LocalityWrong, text))
    }));
    notes.extend(far_expanders(input, domain));
    notes.extend(far_pins(input, domain));
    notes.extend(short_pages(input, domain));
    notes
}

/// The host's online CPUs; `None` if it does not show its CPUs.
pub(crate) fn online(input: &Facts<'_>) -> Option<RangeList> {
    let nodes = &input.host.numa.nodes;
    let all = RangeList::union(nodes.iter().map(|node| &node.cpus));
    let online = match input.capacity.and_then(|capacity| capacity.online.as_ref()) {
        Some(online) => all.and(online),
        None => all,
    };
    (!nodes.is_empty()).then_some(online)
}

/// Nodes whose reserved huge pages are fewer than those of the cells that are bound to them. Free pages are not compared: the guest
/// itself may have them.
fn short_pages(input: &Facts<'_>, domain: &Domain) -> Vec<Note> {
    let ([size], Some(capacity)) = (&domain.tuning.page_kib[..], input.capacity) else {
        return Vec::new();
    };
    let numa = &input.host.numa;
    let mut needed: BTreeMap<NumaNode, u64> = BTreeMap::new();
    for cell in domain.cells.iter().filter(|cell| !cell.is_empty()) {
        if let Some(node) = binding::node(numa, domain, cell.id) {
            *needed.entry(node).or_default() += cell.memory_kib.div_ceil(*size);
        }
    }
    let notes = needed.into_iter().filter_map(|(node, pages)| {
        let reserved = capacity.pages(node).find(|one| one.size_kib == *size);
        let reserved = reserved.map_or(0, |one| one.total);
        let text = format!(
            "node {node} has {reserved} huge pages of {}, and the guest's cells there need {pages}",
            kib_in_units(*size)
        );
        (reserved < pages).then(|| Note::new(Code::LocalityWrong, text))
    });
    notes.collect()
}

fn partly_offline(input: &Facts<'_>, domain: &Domain) -> Option<Note> {
    let online = online(input)?;
    let pins = domain.binding.pins.iter();
    let off = pins.map(|(vcpu, list)| (*vcpu, list.without(&online)));
    let off: Vec<(u32, RangeList)> = off.filter(|(_, list)| !list.is_empty()).collect();
    let cpus = RangeList::union(off.iter().map(|(_, list)| list));
    let vcpus: RangeList = off.iter().map(|(vcpu, _)| *vcpu).collect();
    let who = match vcpus.len() {
        0 => return None,
        1 => format!("vCPU {vcpus} is"),
        _ => format!("vCPUs {vcpus} are"),
    };
    let text = format!("{who} pinned to CPUs {cpus} too, which are not online");
    Some(Note::new(Code::LocalityWrong, text))
}

/// The sockets among some nodes.
fn on_sockets(input: &Facts<'_>, nodes: &RangeList) -> Vec<NumaNode> {
    let sockets = input.host.numa.sockets().map(|node| node.id);
    sockets.filter(|id| nodes.contains((*id).into())).collect()
}

fn socket(input: &Facts<'_>, hostdev: &Hostdev) -> Option<NumaNode> {
    let device = input.host.devices.get(&hostdev.source)?;
    association::socket(&input.host.numa, device)
}

/// Devices below an expander bus whose cell is bound to another host node than the device's.
fn far_expanders(input: &Facts<'_>, domain: &Domain) -> Vec<Note> {
    // Once for each bus: a definition may have many devices, controllers and vCPUs.
    let mut buses: BTreeMap<u32, Option<(u32, NumaNode)>> = BTreeMap::new();
    let notes = domain.hostdevs.iter().filter_map(|hostdev| {
        let bus = u32::from(hostdev.address?.at.bus());
        let bound = buses.entry(bus).or_insert_with(|| {
            let cell = above(domain, bus)?.cell?;
            Some((cell, binding::node(&input.host.numa, domain, cell)?))
        });
        let (cell, bound) = (*bound)?;
        let socket = socket(input, hostdev)?;
        let text = format!(
            "its expander bus is at cell {cell}, bound to node {bound}, and the device is on node {socket}"
        );
        (bound != socket).then(|| Note {
            device: Some(hostdev.source),
            ..Note::new(Code::LocalityWrong, text)
        })
    });
    notes.collect()
}

/// The expander bus that a bus is on.
fn above(domain: &Domain, mut bus: u32) -> Option<&Controller> {
    for _ in 0..MAX_DEPTH {
        let controller = domain.controller(bus)?;
        if controller.model == "pcie-expander-bus" {
            return Some(controller);
        }
        bus = u32::from(controller.address?.at.bus());
    }
    None
}

/// The sockets of devices on which no vCPU may run, if all vCPUs are pinned.
fn far_pins(input: &Facts<'_>, domain: &Domain) -> Vec<Note> {
    let binding = &domain.binding;
    let pins = binding.pins.range(..domain.vcpus);
    let is_pinned = pins.clone().count() == domain.vcpus as usize;
    if !is_pinned && binding.cpuset.is_none() {
        return Vec::new();
    }
    let rest = binding.cpuset.as_ref().filter(|_| !is_pinned);
    let cpus = RangeList::union(pins.map(|(_, list)| list).chain(rest));
    let near = |node: NumaNode| {
        let node = input.host.numa.node(node);
        node.is_some_and(|node| !node.cpus.and(&cpus).is_empty())
    };
    let notes = domain.hostdevs.iter().filter_map(|hostdev| {
        let node = socket(input, hostdev).filter(|node| !near(*node))?;
        let text = format!("it is on node {node}, and all vCPUs are pinned to other nodes");
        Some(Note {
            device: Some(hostdev.source),
            ..Note::new(Code::LocalityWrong, text)
        })
    });
    notes.collect()
}
