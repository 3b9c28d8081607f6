//! Guest NUMA cells and their binding to host nodes.

use std::collections::BTreeMap;
use std::ops::Range;

use kernel_glue::numa::RangeList;

use crate::edit::{Edit, Element};

/// `<cpu><numa><cell>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// `id`; libvirt numbers cells without one by position.
    pub id: u32,
    /// `cpus`; empty for a cell without CPUs.
    pub cpus: RangeList,
    /// `memory` in KiB.
    pub memory_kib: u64,
    /// `<distances><sibling>`: distance by id of the other cell.
    pub distances: BTreeMap<u32, u8>,
    /// `<sibling>` in document order.
    pub siblings: Vec<Sibling>,
    /// `<distances>`, if present.
    pub distances_element: Option<Element>,
    /// The cell.
    pub element: Element,
}

impl Cell {
    /// True for a cell that can represent a generic initiator: no CPUs, no memory.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cpus.is_empty() && self.memory_kib == 0
    }
}

/// The guest's binding to the host, beside `<memnode>`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Binding {
    /// `<numatune><memory nodeset>`: host nodes of all memory without a `<memnode>`.
    pub memory: Option<RangeList>,
    /// `<cputune><vcpupin>`: host processors that a guest processor runs on.
    pub pins: BTreeMap<u32, RangeList>,
    /// `<vcpu cpuset>`: those of all other guest processors.
    pub cpuset: Option<RangeList>,
    /// `<cputune><emulatorpin>`.
    pub emulator: Option<RangeList>,
    /// `<cputune><iothreadpin>`, by the iothread's id.
    pub iothreads: BTreeMap<u32, RangeList>,
}

/// Assigns cell 0 the CPUs that no cell names, as libvirt does (qemuDomainDefNumaCPUsPostParse).
pub(super) fn give_rest(cells: &mut [Cell], vcpus: u32) {
    let named = RangeList::union(cells.iter().map(|cell| &cell.cpus));
    let rest = RangeList::from(0..vcpus).without(&named);
    if let Some(first) = cells.iter_mut().find(|cell| cell.id == 0) {
        first.cpus = RangeList::union([&first.cpus, &rest]);
    }
}

/// `<sibling>`: kept small because a guest has the square of its cells of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sibling {
    /// The other cell.
    pub id: u32,
    /// The distance.
    pub value: u8,
    start: u32,
    end: u32,
}

impl Sibling {
    /// Returns `None` for a span that no definition has.
    pub(super) fn new(id: u32, value: u8, span: Range<usize>) -> Option<Self> {
        Some(Self {
            id,
            value,
            start: u32::try_from(span.start).ok()?,
            end: u32::try_from(span.end).ok()?,
        })
    }

    /// Returns an edit that removes the element with the white space before it.
    #[must_use]
    pub fn remove(&self) -> Edit {
        Edit {
            span: self.start as usize..self.end as usize,
            text: String::new(),
        }
    }
}

/// `<numatune><memnode>`: the host nodes of a cell's memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryNode {
    /// `cellid`.
    pub cell: u32,
    /// `nodeset`: host nodes.
    pub nodes: RangeList,
}
