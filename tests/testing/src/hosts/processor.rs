//! The processors and huge pages of a machine in sysfs.

use super::machine::Machine;
use super::node;
use super::tree::{Tree, line};

const DIR: &str = "sys/devices/system/cpu";

pub fn add(tree: &mut Tree, machine: &Machine) {
    let all: Vec<u32> = (0..machine.sockets)
        .flat_map(|node| node::cpus(machine, node))
        .collect();
    let is_offline = |cpu: &u32| machine.processors.offline.contains(cpu);
    let online = all.iter().copied().filter(|cpu| !is_offline(cpu));
    tree.insert(format!("{DIR}/online"), line(node::list(online)));
    let offline = all.iter().copied().filter(is_offline);
    tree.insert(format!("{DIR}/offline"), line(node::list(offline)));
    let active = u32::from(machine.processors.threads > 1);
    tree.insert(format!("{DIR}/smt/active"), line(active));
    for at in 0..machine.sockets {
        add_node(tree, machine, at);
    }
}

/// The files that are read of a host, as in a recording: one list for each core with siblings and each cache, at its first
/// online CPU.
fn add_node(tree: &mut Tree, machine: &Machine, at: u32) {
    let processors = machine.processors;
    let cpus = node::cpus(machine, at);
    let cores = machine.cpus / processors.threads;
    let cache_cores = match processors.cache_cores {
        0 => cores,
        count => count,
    };
    let is_online = |cpu: &u32| !processors.offline.contains(cpu);
    let mut add = |name: &str, wanted: &dyn Fn(u32) -> bool| {
        let here = (0..).zip(&cpus).filter(|(place, _)| wanted(place % cores));
        let here: Vec<u32> = here.map(|(_, cpu)| *cpu).filter(is_online).collect();
        if let Some(first) = here.first() {
            let list = line(node::list(here.iter().copied()));
            tree.insert(format!("{DIR}/cpu{first}/{name}"), list);
        }
    };
    for core in (0..cores).filter(|_| processors.threads > 1) {
        add("topology/core_cpus_list", &|other| other == core);
    }
    for cache in 0..cores.div_ceil(cache_cores) {
        let name = "cache/index3/shared_cpu_list";
        add(name, &|other| other / cache_cores == cache);
    }
    for (size, total, free) in processors.pages {
        let dir = format!("sys/devices/system/node/node{at}/hugepages/hugepages-{size}kB");
        tree.insert(format!("{dir}/nr_hugepages"), line(total));
        tree.insert(format!("{dir}/free_hugepages"), line(free));
    }
}
