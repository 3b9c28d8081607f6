//! Guest NUMA cells and their binding to host nodes.

use std::collections::BTreeMap;

use kernel_glue::numa::RangeList;

use crate::edit::Element;

/// `<cpu><numa><cell>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `id`; libvirt numbers cells without one by position.
    pub id: u32,
    /// `cpus`; empty for a cell without CPUs.
    pub cpus: RangeList,
    /// `memory` in KiB.
    pub memory_kib: u64,
    /// `<distances><sibling>`: value by the other cell's id.
    pub distances: BTreeMap<u32, u8>,
    /// `<sibling>` by the other cell's id.
    pub siblings: BTreeMap<u32, Element>,
    /// `<distances>`, when there is one.
    pub distances_element: Option<Element>,
    /// The cell.
    pub element: Element,
}

impl Cell {
    /// True for a cell that can be a generic initiator's: no CPUs, no memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.memory_kib == 0
    }
}

/// `<numatune><memnode>`: where a cell's memory comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNode {
    /// `cellid`.
    pub cell: u32,
    /// `nodeset`: host nodes.
    pub nodes: RangeList,
}
