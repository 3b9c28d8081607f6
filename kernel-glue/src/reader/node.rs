//! Reads NUMA nodes from `/sys/devices/system/node`.
//!
//! Follows drivers/base/node.c and Documentation/ABI/stable/sysfs-devices-node.

use super::Reader;
use crate::numa::{Node, Numa, NumaNode, RangeList};

const NODES: &str = "sys/devices/system/node";

impl Reader<'_> {
    pub(super) fn numa(&mut self) -> Numa {
        let online = self.online();
        let nodes = online.iter().map(|id| self.node(*id, online.len()));
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
        let path = format!("{NODES}/has_generic_initiator");
        let text = self.optional_text(&path)?;
        self.known(&path, text.parse().ok(), &text)
    }

    fn node(&mut self, id: NumaNode, online: usize) -> Node {
        let dir = format!("{NODES}/node{id}");
        Node {
            id,
            cpus: self.cpus(&format!("{dir}/cpulist")),
            memory_kib: self.memory(&format!("{dir}/meminfo")),
            distances: self.distances(&format!("{dir}/distance"), online),
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

    fn distances(&mut self, path: &str, online: usize) -> Vec<u8> {
        let Some(text) = self.text(path) else {
            return Vec::new();
        };
        let distances = Numa::parse_distances(&text, online);
        self.known(path, distances, &text).unwrap_or_default()
    }
}

/// The KiB in the line `Node N MemTotal: K kB` of `meminfo`.
fn memory_total(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find(|line| line.contains(" MemTotal:"))?;
    let (_, amount) = line.split_once("MemTotal:")?;
    amount.trim().strip_suffix(" kB")?.parse().ok()
}
