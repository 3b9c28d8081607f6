//! Which host nodes are a device's generic initiators.
//!
//! The kernel does not say which node belongs to which device (it only prints the SRAT handle, drivers/acpi/numa/srat.c).
//! Sources, in this order:
//!
//! 1. SRAT itself;
//! 2. a `numa_node` that is the first node of a group;
//! 3. the groups on the device's socket, if every assignment of groups to devices gives the same distances.
//!
//! Position alone never decides.

use kernel_glue::device::Device;
use kernel_glue::numa::{Node, Numa, NumaNode};

use super::PlanInput;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// The `count` host nodes of `device`, in cell order.
pub(super) fn nodes(
    input: &PlanInput<'_>,
    device: &Device,
    count: usize,
) -> Result<Vec<NumaNode>, Refusal> {
    let host = input.host;
    if let Some(nodes) = host
        .srat
        .as_ref()
        .and_then(|srat| srat.initiators.get(&device.address))
    {
        return from_srat(device, nodes, count);
    }
    // Firmware gives the initiators of one GPU consecutive proximity domains, and Linux gives those consecutive nodes.
    let groups = groups(&host.numa, count)
        .ok_or_else(|| unknown(device, count, "their number is not a multiple of that"))?;
    if let Some(node) = device
        .numa_node
        .filter(|node| has_no_cpus(&host.numa, *node))
    {
        let own = groups.iter().find(|group| group.first() == Some(&node));
        return own.cloned().ok_or_else(|| {
            unknown(
                device,
                count,
                &format!("node {node} is not the first of a group"),
            )
        });
    }
    from_socket(input, device, &groups)
}

fn from_srat(device: &Device, nodes: &[NumaNode], count: usize) -> Result<Vec<NumaNode>, Refusal> {
    if nodes.len() == count {
        return Ok(nodes.to_vec());
    }
    let reason = format!(
        "the firmware's SRAT has {} generic initiators for it, the recipe needs {count}",
        nodes.len()
    );
    let hint = "check the firmware's version, or override the recipe's 'cells'";
    Err(Refusal::new(Code::InitiatorsUnknown, reason, hint).of(device.address))
}

/// Groups of `count` initiator nodes with consecutive ids; `None` when they do not divide evenly.
fn groups(numa: &Numa, count: usize) -> Option<Vec<Vec<NumaNode>>> {
    let nodes: Vec<NumaNode> = initiators(numa).map(|node| node.id).collect();
    let even = count > 0 && !nodes.is_empty() && nodes.len().is_multiple_of(count);
    even.then(|| nodes.chunks(count).map(<[NumaNode]>::to_vec).collect())
}

/// Initiator nodes as the kernel lists them; before 5.10, where it does not, nodes without CPUs and memory.
fn initiators(numa: &Numa) -> impl Iterator<Item = &Node> {
    numa.nodes
        .iter()
        .filter(|node| match &numa.generic_initiators {
            Some(list) => list.contains(node.id.into()),
            None => node.cpus.is_empty() && node.memory_kib == 0,
        })
}

fn from_socket(
    input: &PlanInput<'_>,
    device: &Device,
    groups: &[Vec<NumaNode>],
) -> Result<Vec<NumaNode>, Refusal> {
    let numa = &input.host.numa;
    let count = groups.first().map_or(0, Vec::len);
    let socket = device
        .numa_node
        .ok_or_else(|| unknown(device, count, "its numa_node is not known"))?;
    let near: Vec<&Vec<NumaNode>> = groups
        .iter()
        .filter(|group| nearest(numa, group) == Some(socket))
        .collect();
    let peers: Vec<&Device> = peers(input, device, socket).collect();
    if near.len() != peers.len() {
        let why = format!(
            "socket {socket} has {} devices and {} groups",
            peers.len(),
            near.len()
        );
        return Err(unknown(device, count, &why));
    }
    if !interchangeable(numa, &near) {
        return Err(unknown(
            device,
            count,
            "the groups on its socket differ in their distances",
        ));
    }
    let position = peers.iter().position(|peer| peer.address == device.address);
    let own = position.and_then(|position| near.get(position));
    own.map(|group| (*group).clone())
        .ok_or_else(|| unknown(device, count, "it is not among its socket's devices"))
}

/// The node with CPUs that a device is at: its `numa_node`, or the one nearest to that.
pub(crate) fn socket(numa: &Numa, device: &Device) -> Option<NumaNode> {
    let node = device.numa_node?;
    if has_no_cpus(numa, node) {
        nearest(numa, &[node])
    } else {
        Some(node)
    }
}

/// Devices of the same recipe on the same socket, by address.
fn peers<'a>(
    input: &PlanInput<'a>,
    device: &Device,
    socket: NumaNode,
) -> impl Iterator<Item = &'a Device> {
    let recipe = input.recipes.for_device(device).map(|recipe| &recipe.name);
    let recipes = input.recipes;
    input.host.devices.values().filter(move |peer| {
        peer.numa_node == Some(socket) && recipes.for_device(peer).map(|r| &r.name) == recipe
    })
}

/// The CPU node nearest to a group; `None` when two are equally near.
fn nearest(numa: &Numa, group: &[NumaNode]) -> Option<NumaNode> {
    let head = *group.first()?;
    let mut by_distance: Vec<(u8, NumaNode)> = numa
        .sockets()
        .filter_map(|node| Some((numa.distance(node.id, head)?, node.id)))
        .collect();
    by_distance.sort_unstable();
    match by_distance[..] {
        // Equally near sockets decide nothing; a guess could give the guest the memory of another GPU.
        [(first, _), (second, _), ..] if first == second => None,
        [(_, node), ..] => Some(node),
        [] => None,
    }
}

/// True when swapping any two groups changes no distance to any node outside them.
fn interchangeable(numa: &Numa, groups: &[&Vec<NumaNode>]) -> bool {
    let Some((first, rest)) = groups.split_first() else {
        return false;
    };
    rest.iter()
        .all(|other| profile(numa, first, groups) == profile(numa, other, groups))
}

/// Distances of a group's members to all nodes outside the groups, and to one another.
fn profile(numa: &Numa, group: &[NumaNode], groups: &[&Vec<NumaNode>]) -> Vec<Vec<Option<u8>>> {
    let outside = |node: &&Node| !groups.iter().any(|group| group.contains(&node.id));
    let others: Vec<NumaNode> = numa
        .nodes
        .iter()
        .filter(outside)
        .map(|node| node.id)
        .collect();
    let row = |member: &NumaNode| {
        others
            .iter()
            .chain(group)
            .map(|node| numa.distance(*member, *node))
            .collect()
    };
    group.iter().map(row).collect()
}

fn has_no_cpus(numa: &Numa, node: NumaNode) -> bool {
    numa.node(node).is_some_and(|node| node.cpus.is_empty())
}

fn unknown(device: &Device, count: usize, why: &str) -> Refusal {
    let reason = format!(
        "cannot tell which {count} generic-initiator nodes of the host belong to it: {why}"
    );
    let sentence = "run as root so that /sys/firmware/acpi/tables/SRAT can be read, and see {}";
    let hint = Hint::with(sentence, "variantctl topology");
    Refusal::new(Code::InitiatorsUnknown, reason, hint).of(device.address)
}
