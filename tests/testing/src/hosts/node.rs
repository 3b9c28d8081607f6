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
    let with_cpu = (0..=last).filter(|node| !online_cpus(machine, *node).is_empty());
    tree.insert(format!("{DIR}/has_cpu"), line(list(with_cpu)));
    let with_memory = (0..=last).filter(|node| memory_kib(machine, *node) > 0);
    tree.insert(format!("{DIR}/has_memory"), line(list(with_memory)));
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
    let online = online_cpus(machine, node);
    tree.insert(format!("{dir}/cpulist"), line(list(online.into_iter())));
    tree.insert(format!("{dir}/meminfo"), line(meminfo));
    tree.insert(format!("{dir}/distance"), line(distances.join(" ")));
}

/// The kernel lists the online CPUs of a node (cpumask_of_node, drivers/base/node.c).
fn online_cpus(machine: &Machine, node: u32) -> Vec<u32> {
    let mut cpus = cpus(machine, node);
    cpus.retain(|cpu| !machine.processors.offline.contains(cpu));
    cpus
}

/// The CPUs of a node: of each thread of its cores, those of all nodes before it come first.
pub fn cpus(machine: &Machine, node: u32) -> Vec<u32> {
    if node >= machine.sockets {
        return Vec::new();
    }
    let cores = machine.cpus / machine.processors.threads;
    let threads = 0..machine.processors.threads;
    let first = |thread: u32| (thread * machine.sockets + node) * cores;
    threads
        .flat_map(|thread| first(thread)..first(thread) + cores)
        .collect()
}

/// Ascending numbers as the kernel prints them.
pub fn list(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let printed = ranges.iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    printed.collect::<Vec<_>>().join(",")
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
    let package = |node: u32| node / machine.processors.package_nodes;
    match (machine.owner(from), machine.owner(to)) {
        (Some(a), Some(b)) if std::ptr::eq(a, b) => machine.same_device,
        (None, None) if package(from) == package(to) => machine.processors.near,
        (None, None) => machine.remote,
        (Some(_), Some(_)) => 40,
        (Some(own), None) if own.socket == to => 80,
        (None, Some(own)) if own.socket == from => 80,
        _ => 120,
    }
}
