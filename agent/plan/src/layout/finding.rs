//! What in a definition's own layout performs badly: notes, because the guest runs.

use std::collections::BTreeSet;

use kernel_glue::numa::{NumaNode, RangeList};

use super::LayoutInput;
use super::check::running;
use crate::plan::{Note, association, binding};
use domain::code::Code;
use domain::{Controller, Domain, Hostdev};

/// Controllers from a device to the root, at most: a definition may have a loop of buses.
const MAX_DEPTH: usize = 256;

pub(super) fn notes(input: &LayoutInput<'_>, domain: &Domain) -> Vec<Note> {
    let mut notes = partly_offline(input, domain);
    notes.extend(domain.memory_nodes.iter().filter_map(|bound| {
        let sockets = on_sockets(input, &bound.nodes);
        let text = format!(
            "<memnode> of cell {} spans nodes {}, so its memory is near no single one",
            bound.cell, bound.nodes
        );
        (sockets.len() > 1).then(|| Note::new(Code::LocalityWrong, text))
    }));
    notes.extend(
        domain
            .hostdevs
            .iter()
            .filter_map(|one| expander(input, domain, one)),
    );
    notes.extend(far_pins(input, domain));
    notes
}

fn partly_offline(input: &LayoutInput<'_>, domain: &Domain) -> Vec<Note> {
    let pins = domain.binding.pins.iter();
    let notes = pins.filter_map(|(vcpu, list)| {
        let online = running(input, list)?;
        let off: RangeList = list.iter().filter(|cpu| !online.contains(*cpu)).collect();
        let text = format!("vCPU {vcpu} is pinned to CPUs {off} too, which are not online");
        (!off.is_empty()).then(|| Note::new(Code::LocalityWrong, text))
    });
    notes.collect()
}

/// The sockets among some nodes.
fn on_sockets(input: &LayoutInput<'_>, nodes: &RangeList) -> Vec<NumaNode> {
    let sockets = input.host.numa.sockets().map(|node| node.id);
    sockets.filter(|id| nodes.contains((*id).into())).collect()
}

fn socket(input: &LayoutInput<'_>, hostdev: &Hostdev) -> Option<NumaNode> {
    let device = input.host.devices.get(&hostdev.source)?;
    association::socket(&input.host.numa, device)
}

/// A device below an expander bus whose cell is bound to another host node than the device's.
fn expander(input: &LayoutInput<'_>, domain: &Domain, hostdev: &Hostdev) -> Option<Note> {
    let cell = above(domain, hostdev)?.cell?;
    let bound = binding::node(&input.host.numa, domain, cell)?;
    let socket = socket(input, hostdev)?;
    let text = format!(
        "its expander bus is at cell {cell}, bound to node {bound}, and the device is on node {socket}"
    );
    (bound != socket).then(|| Note {
        device: Some(hostdev.source),
        ..Note::new(Code::LocalityWrong, text)
    })
}

/// The expander bus above a device.
fn above<'a>(domain: &'a Domain, hostdev: &Hostdev) -> Option<&'a Controller> {
    let mut bus = u32::from(hostdev.address?.at.bus());
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
fn far_pins(input: &LayoutInput<'_>, domain: &Domain) -> Vec<Note> {
    let binding = &domain.binding;
    let may_run = |vcpu: u32| binding.pins.get(&vcpu).or(binding.cpuset.as_ref());
    let Some(lists) = (0..domain.vcpus).map(may_run).collect::<Option<Vec<_>>>() else {
        return Vec::new();
    };
    let cpus: BTreeSet<u32> = lists.into_iter().flat_map(RangeList::iter).collect();
    let near = |node: NumaNode| {
        let node = input.host.numa.node(node);
        node.is_some_and(|node| node.cpus.iter().any(|cpu| cpus.contains(&cpu)))
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
