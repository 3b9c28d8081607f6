//! The nodes of a machine in sysfs: CPUs, memory and distances.

use super::machine::Machine;
use super::tree::{Tree, line};

const DIR: &str = "sys/devices/system/node";

pub fn add(tree: &mut Tree, machine: &Machine) {
    let last = machine.nodes() - 1;
    tree.insert(format!("{DIR}/online"), line(format!("0-{last}")));
    let initiators = if last < machine.sockets {
        String::new()
    } else {
        format!("{}-{last}", machine.sockets)
    };
    tree.insert(format!("{DIR}/has_generic_initiator"), line(initiators));
    for node in 0..=last {
        add_node(tree, machine, node);
    }
}

fn add_node(tree: &mut Tree, machine: &Machine, node: u32) {
    let dir = format!("{DIR}/node{node}");
    let distances = (0..machine.nodes()).map(|to| distance(machine, node, to).to_string());
    let distances: Vec<String> = distances.collect();
    let memory = memory_kib(machine, node);
    let meminfo = format!("Node {node} MemTotal:       {memory} kB");
    tree.insert(format!("{dir}/cpulist"), line(cpus(machine, node)));
    tree.insert(format!("{dir}/meminfo"), line(meminfo));
    tree.insert(format!("{dir}/distance"), line(distances.join(" ")));
}

fn cpus(machine: &Machine, node: u32) -> String {
    if node >= machine.sockets {
        return String::new();
    }
    let first = node * machine.cpus;
    format!("{first}-{}", first + machine.cpus - 1)
}

/// If the host uses a device's memory, the node of its first initiator has that memory.
fn memory_kib(machine: &Machine, node: u32) -> u64 {
    let first = node.checked_sub(1).and_then(|before| machine.owner(before));
    match (machine.owner(node), first) {
        (None, _) => machine.socket_kib(node),
        (Some(own), Some(before)) if std::ptr::eq(own, before) => 0,
        (Some(own), _) => own.memory_kib,
    }
}

fn distance(machine: &Machine, from: u32, to: u32) -> u8 {
    if from == to {
        return 10;
    }
    match (machine.owner(from), machine.owner(to)) {
        (Some(a), Some(b)) if std::ptr::eq(a, b) => machine.same_device,
        (None, None) => machine.remote,
        (Some(_), Some(_)) => 40,
        (Some(own), None) if own.socket == to => 80,
        (None, Some(own)) if own.socket == from => 80,
        _ => 120,
    }
}
