//! Reads NUMA nodes from `/sys/devices/system/node`.
//!
//! Follows drivers/base/node.c and Documentation/ABI/stable/sysfs-devices-node.

use super::Reader;
use crate::numa::{Node, Numa, NumaNode, RangeList};

const NODES: &str = "sys/devices/system/node";

/// With more nodes, the two lists of [`Have`] save more than they cost.
const FEW: usize = 4;

/// The nodes that have something; `None` if that is unknown. On a Grace host most nodes are of generic initiators and have
/// neither, so that two of their three files are only read for a recording.
#[derive(Default)]
struct Have {
    /// `has_cpu` (N_CPU, mm/vmstat.c): each node with an online CPU.
    cpus: Option<RangeList>,
    /// `has_memory` (N_MEMORY, mm/mm_init.c and mm/memory_hotplug.c): each node with present pages, of which `MemTotal` counts the
    /// managed ones.
    memory: Option<RangeList>,
}

impl Reader<'_> {
    pub(super) fn numa(&mut self) -> Numa {
        let online = self.online();
        let have = match online.len() > FEW {
            true => Have {
                cpus: self.nodes_in("has_cpu"),
                memory: self.nodes_in("has_memory"),
            },
            false => Have::default(),
        };
        let nodes = online.iter().map(|id| self.node(*id, online.len(), &have));
        Numa {
            nodes: nodes.collect(),
            generic_initiators: self.generic_initiators(),
        }
    }

    fn online(&mut self) -> Vec<NumaNode> {
        let path = format!("{NODES}/online");
        let Some(text) = self.text(&path) else {
            return Vec::new();
        };
        let list = text.parse().ok();
        let nodes = list.and_then(|list: RangeList| {
            let node = |id| NumaNode::try_from(id).ok();
            list.iter().map(node).collect()
        });
        self.known(&path, nodes, &text).unwrap_or_default()
    }

    /// `None` if there is no such file (before Linux 5.10), which differs from an empty one.
    fn generic_initiators(&mut self) -> Option<RangeList> {
        self.nodes_in("has_generic_initiator")
    }

    /// The nodes in a list; `None` if the kernel has no such file.
    fn nodes_in(&mut self, name: &str) -> Option<RangeList> {
        let path = format!("{NODES}/{name}");
        let text = self.optional_text(&path)?;
        self.known(&path, text.parse().ok(), &text)
    }

    fn node(&mut self, id: NumaNode, online: usize, have: &Have) -> Node {
        let dir = format!("{NODES}/node{id}");
        let path = |name: &str| format!("{dir}/{name}");
        let has = |nodes: &Option<RangeList>| {
            nodes.as_ref().is_none_or(|nodes| nodes.contains(id.into()))
        };
        let (mut cpus, mut memory_kib) = (RangeList::default(), 0);
        let (has_cpus, has_memory) = (has(&have.cpus), has(&have.memory));
        match has_cpus {
            true => cpus = self.cpus(&path("cpulist")),
            false => self.tree.tap(&dir, &["cpulist"]),
        }
        match has_memory {
            true => memory_kib = self.memory(&path("meminfo")),
            false => self.tree.tap(&dir, &["meminfo"]),
        }
        let distance = path("distance");
        let row = match has_cpus || has_memory {
            true => self.text(&distance),
            false => self.text_alone(&distance),
        };
        Node {
            id,
            cpus,
            memory_kib,
            distances: self.distances(&distance, row, online),
        }
    }

    fn cpus(&mut self, path: &str) -> RangeList {
        let text = self.text(path);
        let list = text.and_then(|text| self.known(path, text.parse().ok(), &text));
        list.unwrap_or_default()
    }

    fn memory(&mut self, path: &str) -> u64 {
        let text = self.text(path);
        let size = text.and_then(|text| self.known(path, memory_total(&text), &text));
        size.unwrap_or_default()
    }

    fn distances(&mut self, path: &str, row: Option<String>, online: usize) -> Vec<u8> {
        let distances = row.and_then(|row| {
            let distances = Numa::parse_distances(&row, online);
            self.known(path, distances, &row)
        });
        distances.unwrap_or_default()
    }
}

/// The KiB in the line `Node N MemTotal: K kB` of `meminfo`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.contains(" MemTotal:"))?;
    let (_, amount) = line.split_once("MemTotal:")?;
    amount.trim().strip_suffix(" kB")?.parse().ok()
}
