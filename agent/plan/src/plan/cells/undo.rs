//! How our NUMA cells and distances are taken back.

use std::collections::BTreeSet;

use crate::plan::width;
use domain::edit::Edit;
use domain::{Cell, Domain, Hostdev, Mark, Opened, Piece, Sibling};

/// Takes back our cells, distances and address width: the whole `<cpu>` where nothing else was in it. `is_ours` says of a hostdev
/// that its nodeset is ours.
pub(crate) fn undo(domain: &Domain, mark: &Mark, is_ours: impl Fn(&Hostdev) -> bool) -> Vec<Edit> {
    let undo = Undo {
        domain,
        mark,
        is_ours,
    };
    undo.edits()
}

struct Undo<'a, F> {
    domain: &'a Domain,
    mark: &'a Mark,
    is_ours: F,
}

impl<F: Fn(&Hostdev) -> bool> Undo<'_, F> {
    fn edits(&self) -> Vec<Edit> {
        let mut edits = self.numa();
        edits.extend(width::undo(self.domain, self.mark));
        let whole = self.domain.numa.is_none() || self.whole_numa_goes();
        let empty = whole && edits.len() == self.domain.cpu_children;
        match self.domain.cpu.as_ref().filter(|_| empty) {
            Some(cpu) if self.mark.added.opened(Opened::Cpu) => vec![cpu.collapse()],
            Some(cpu) if self.mark.added.has(&Piece::Cpu) && self.domain.cpu_is_bare => {
                vec![cpu.remove()]
            }
            _ => edits,
        }
    }

    /// Cells that are still empty, and everything that speaks of them.
    fn numa(&self) -> Vec<Edit> {
        if let (true, Some(numa)) = (self.whole_numa_goes(), &self.domain.numa) {
            return vec![numa.remove()];
        }
        let mut gone = self.gone();
        if self.mark.added.has(&Piece::Cells) && self.only_first_left(&gone) {
            gone.insert(0);
            if let (true, Some(numa)) = (self.mark.added.opened(Opened::Numa), &self.domain.numa) {
                return vec![numa.collapse()];
            }
        }
        let (removed, left): (Vec<&Cell>, Vec<&Cell>) = self
            .domain
            .cells
            .iter()
            .partition(|cell| gone.contains(&cell.id));
        let mut edits: Vec<Edit> = removed.iter().map(|cell| cell.element.remove()).collect();
        edits.extend(
            left.into_iter()
                .flat_map(|cell| self.distances(cell, &gone)),
        );
        edits
    }

    /// True when we made `<numa>`, and nothing but its first cell would be left.
    fn whole_numa_goes(&self) -> bool {
        let is_ours = self.mark.added.has(&Piece::Cpu) || self.mark.added.has(&Piece::Numa);
        is_ours && self.only_first_left(&self.gone())
    }

    fn only_first_left(&self, gone: &BTreeSet<u32>) -> bool {
        let cells = self.domain.cells.iter();
        let mut left = cells.filter(|cell| !gone.contains(&cell.id));
        left.next().is_some_and(|cell| cell.id == 0) && left.next().is_none()
    }

    /// Our cells that nobody gave memory or CPUs, and that no other device names.
    fn gone(&self) -> BTreeSet<u32> {
        let ours = self
            .mark
            .devices
            .iter()
            .filter(|marked| marked.added.has(&Piece::Nodeset));
        let foreign = |id: &u32| {
            let named = |hostdev: &&Hostdev| {
                hostdev
                    .nodeset
                    .as_ref()
                    .is_some_and(|set| set.contains(*id))
            };
            self.domain
                .hostdevs
                .iter()
                .filter(named)
                .any(|hostdev| !(self.is_ours)(hostdev))
        };
        let empty = |id: &u32| self.domain.cell(*id).is_some_and(Cell::is_empty);
        ours.flat_map(|marked| marked.cells.iter())
            .filter(|id| empty(id) && !foreign(id))
            .collect()
    }

    /// Distances of a cell that stays, to cells that go.
    fn distances(&self, cell: &Cell, gone: &BTreeSet<u32>) -> Vec<Edit> {
        let added = &self.mark.added;
        if added.has(&Piece::Distances(cell.id)) {
            let only = cell
                .distances
                .keys()
                .all(|id| gone.contains(id) || self.domain.cell(*id).is_some());
            let opened = added.opened(Opened::Cell(cell.id));
            return match &cell.distances_element {
                Some(_) if only && opened => vec![cell.element.collapse()],
                Some(element) if only => vec![element.remove()],
                _ => Vec::new(),
            };
        }
        let is_ours = |one: &&Sibling| {
            let (from, to) = (cell.id, one.id);
            gone.contains(&to) || added.has(&Piece::Sibling { from, to })
        };
        let ours: Vec<&Sibling> = cell.siblings.iter().filter(is_ours).collect();
        let opened = added.opened(Opened::Distances(cell.id));
        match &cell.distances_element {
            Some(element) if opened && ours.len() == cell.siblings.len() => {
                vec![element.collapse()]
            }
            _ => ours.into_iter().map(Sibling::remove).collect(),
        }
    }
}
