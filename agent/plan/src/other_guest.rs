//! What other guests hold of a host: the CPUs that they are pinned to and the memory that they bind.

use std::collections::BTreeMap;

use kernel_glue::numa::{Numa, NumaNode, RangeList};

use domain::Domain;

/// Another guest, from its definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Other {
    /// Its name.
    pub name: String,
    /// Host CPUs that its vCPUs, emulator threads or iothreads are pinned to.
    cpus: RangeList,
    /// Memory that is bound to one node, in KiB.
    memory: BTreeMap<NumaNode, u64>,
}

impl Other {
    /// Reads a definition. A list that covers all CPUs of a host node leaves the threads to the scheduler, so it holds none; neither
    /// does memory that may be on several nodes.
    #[must_use]
    pub fn of(numa: &Numa, domain: &Domain) -> Self {
        let binding = &domain.binding;
        let covers = |list: &&RangeList| {
            let mut sockets = numa.sockets();
            sockets.any(|node| node.cpus.without(list).is_empty())
        };
        let pins = binding.pins.values().chain(&binding.cpuset);
        let threads = binding.iothreads.values().chain(&binding.emulator);
        let held = pins.chain(threads).filter(|list| !covers(list));
        Self {
            name: domain.name.clone(),
            cpus: RangeList::union(held),
            memory: memory(domain),
        }
    }

    /// The guests among `all` that are not `domain`: with another UUID, or where one has none another name.
    #[must_use]
    pub fn beside<'a>(
        numa: &Numa,
        domain: &Domain,
        all: impl IntoIterator<Item = &'a Domain>,
    ) -> Vec<Self> {
        let is_other = |one: &&Domain| match (&one.uuid, &domain.uuid) {
            (Some(one), Some(own)) => one != own,
            _ => one.name != domain.name,
        };
        let others = all.into_iter().filter(is_other);
        others.map(|one| Self::of(numa, one)).collect()
    }

    /// What it holds: CPUs, and memory in KiB by node.
    pub(crate) fn facts(&self) -> (&RangeList, &BTreeMap<NumaNode, u64>) {
        (&self.cpus, &self.memory)
    }

    /// The CPUs that it is pinned to.
    #[must_use]
    pub fn cpus(&self) -> &RangeList {
        &self.cpus
    }

    /// Memory that it binds to this node, in KiB.
    #[must_use]
    pub fn memory_kib(&self, node: NumaNode) -> u64 {
        self.memory.get(&node).copied().unwrap_or_default()
    }
}

fn memory(domain: &Domain) -> BTreeMap<NumaNode, u64> {
    let one = |nodes: &RangeList| {
        let first = nodes.iter().next().filter(|_| nodes.len() == 1)?;
        NumaNode::try_from(first).ok()
    };
    let everything = domain.binding.memory.as_ref().and_then(one);
    let mut memory = BTreeMap::new();
    let mut add = |node: Option<NumaNode>, kib: u64| {
        if let Some(node) = node {
            let sum: &mut u64 = memory.entry(node).or_default();
            *sum = sum.saturating_add(kib);
        }
    };
    if domain.cells.is_empty() {
        add(everything, domain.memory_kib);
    }
    for cell in &domain.cells {
        let own = domain.memory_nodes.iter().find(|node| node.cell == cell.id);
        let node = own.map_or(everything, |own| one(&own.nodes));
        add(node, cell.memory_kib);
    }
    memory
}
