//! The host nodes of a guest: those of its devices, and the nearest others where these are full.

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::{NumaNode, RangeList};

use super::{LayoutInput, Other};
use crate::plan::{Note, association};
use domain::Domain;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// What a node has left for the guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Free {
    pub(super) node: NumaNode,
    /// Online CPUs that no other guest holds, in ascending order.
    pub(super) cpus: Vec<u32>,
    /// Memory that no other guest binds, in KiB.
    pub(super) memory_kib: u64,
}

/// What all nodes with CPUs have left, by id.
pub(super) struct Room(Vec<Free>);

impl Room {
    pub(super) fn of(input: &LayoutInput<'_>) -> Self {
        let held = RangeList::union(input.others.iter().map(Other::cpus));
        let free = input.host.numa.sockets().map(|node| {
            let is_online = |cpu: &u32| input.capacity.is_online(*cpu);
            let bound = input.others.iter().map(|other| other.memory_kib(node.id));
            let bound = bound.fold(0, u64::saturating_add);
            Free {
                node: node.id,
                cpus: node.cpus.without(&held).iter().filter(is_online).collect(),
                memory_kib: node.memory_kib.saturating_sub(bound),
            }
        });
        Self(free.collect())
    }

    /// Of one node; every chosen node is in the list.
    pub(super) fn at(&self, node: NumaNode) -> Option<&Free> {
        self.0.iter().find(|free| free.node == node)
    }

    fn sum(&self, nodes: &[NumaNode]) -> (usize, u64) {
        let all = nodes.iter().filter_map(|node| self.at(*node));
        all.fold((0, 0), |(cpus, memory), free| {
            (
                cpus + free.cpus.len(),
                memory.saturating_add(free.memory_kib),
            )
        })
    }
}

/// The guest's host devices with the node that they are on, and a note for each whose node is unknown.
pub(super) fn devices(
    input: &LayoutInput<'_>,
    domain: &Domain,
) -> (Vec<(PciAddress, NumaNode)>, Vec<Note>) {
    let all: BTreeSet<PciAddress> = domain.sources().collect();
    let (mut known, mut notes) = (Vec::new(), Vec::new());
    for address in all {
        let device = input.host.devices.get(&address);
        match device.and_then(|device| association::socket(&input.host.numa, device)) {
            Some(node) => known.push((address, node)),
            None => notes.push(Note {
                device: Some(address),
                ..Note::new(
                    Code::LayoutNoNode,
                    "the host does not show its NUMA node, so no cell is placed near it".to_owned(),
                )
            }),
        }
    }
    (known, notes)
}

/// The memory of the cells: all but that of DIMMs, in KiB.
pub(super) fn memory_kib(domain: &Domain) -> u64 {
    domain.memory_kib.saturating_sub(domain.memory_devices_kib)
}

/// The nodes of the cells, by id: those of the devices; without a device the single node that fits best. More are added, the
/// nearest first, until the guest fits.
pub(super) fn chosen(
    input: &LayoutInput<'_>,
    domain: &Domain,
    room: &Room,
    devices: &[(PciAddress, NumaNode)],
) -> Result<Vec<NumaNode>, Refusal> {
    let wanted = (domain.vcpus as usize, memory_kib(domain));
    let fits = |nodes: &[NumaNode]| {
        let (cpus, memory) = room.sum(nodes);
        cpus >= wanted.0 && memory >= wanted.1
    };
    let has_cpus = |node: &NumaNode| room.at(*node).is_some_and(|free| !free.cpus.is_empty());
    let at: BTreeSet<NumaNode> = devices.iter().map(|(_, node)| *node).collect();
    let mut nodes: Vec<NumaNode> = at.into_iter().filter(has_cpus).collect();
    let mut others: Vec<NumaNode> = room.0.iter().map(|free| free.node).collect();
    others.retain(|node| has_cpus(node) && !nodes.contains(node));
    if nodes.is_empty()
        && let Some(alone) = others.iter().find(|node| fits(&[**node]))
    {
        return Ok(vec![*alone]);
    }
    // Each cell has a vCPU: nodes with most devices first.
    let devices_on = |node: &NumaNode| devices.iter().filter(|(_, at)| at == node).count();
    nodes.sort_by_key(|node| (std::cmp::Reverse(devices_on(node)), *node));
    nodes.truncate(wanted.0.max(1));
    while !fits(&nodes) {
        let distance = |to: NumaNode| -> u32 {
            let all = nodes.iter().map(|from| input.host.numa.distance(*from, to));
            all.map(|distance| u32::from(distance.unwrap_or(u8::MAX)))
                .sum()
        };
        let nearest = others
            .iter()
            .copied()
            .min_by_key(|node| (distance(*node), *node));
        let Some(nearest) = nearest.filter(|_| nodes.len() < wanted.0) else {
            return Err(no_room(input, room, domain));
        };
        others.retain(|node| *node != nearest);
        nodes.push(nearest);
    }
    nodes.sort_unstable();
    Ok(nodes)
}

/// The refusal with what the guest wants and what the host has, and the guests that hold the rest.
fn no_room(input: &LayoutInput<'_>, room: &Room, domain: &Domain) -> Refusal {
    let nodes: Vec<NumaNode> = room.0.iter().map(|free| free.node).collect();
    let (cpus, memory) = room.sum(&nodes);
    let holders = |holds: &dyn Fn(&Other) -> bool| {
        let all = input.others.iter().filter(|other| holds(other));
        let names: Vec<String> = all.map(|other| format!("'{}'", other.name)).collect();
        match names.len() {
            0 => String::new(),
            1..=3 => format!(" ({} hold the rest)", names.join(", ")),
            more => format!(
                " ({} and {} more hold the rest)",
                names[..3].join(", "),
                more - 3
            ),
        }
    };
    let wanted = memory_kib(domain);
    let (reason, what) = match cpus < domain.vcpus as usize {
        true => {
            let all = RangeList::union(input.host.numa.sockets().map(|node| &node.cpus));
            let who = holders(&|other| !all.and(other.cpus()).is_empty());
            let wanted = domain.vcpus;
            (
                format!("the guest has {wanted} vCPUs, and {cpus} CPUs of the host are free{who}"),
                "reduce <vcpu>",
            )
        }
        false => {
            let who = holders(&|other| nodes.iter().any(|node| other.memory_kib(*node) > 0));
            let (wanted, memory) = (wanted >> 10, memory >> 10);
            (
                format!(
                    "the guest has {wanted} MiB of memory, and {memory} MiB of the host's nodes are free{who}"
                ),
                "reduce <memory>",
            )
        }
    };
    let command = domain::hint::line(["virsh", "edit", &domain.name]);
    let hint = Hint::with("{}", command).after(&format!("{what} with "));
    Refusal::new(Code::LayoutNoRoom, reason, hint)
}
