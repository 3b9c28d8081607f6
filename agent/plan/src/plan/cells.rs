//! NUMA cells and distances that a layout adds. Order of the file: plan, recognise, revert.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::numa::RangeList;

use super::distance::{Place, Projection};
use super::fragment::{Fragment, push_number};
use super::layout::Layout;
use super::{Change, Part, width};
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Added, Cell, Domain, Hostdev, Mark, Opened, Piece, Sibling};

/// Bytes of a `<sibling>`, about.
const SIBLING: usize = 32;

impl Layout<'_> {
    pub(super) fn write(&self, projection: &Projection<'_>) -> Result<Part, Refusal> {
        let added = self.added_cells(projection)?;
        let mut part = Part {
            differing: self.differing(projection),
            ..Part::default()
        };
        if self.domain.cells.is_empty() {
            part.changes.push(self.new_numa(projection, added)?);
            part.added.extend(self.new_numa_pieces());
            return Ok(part);
        }
        for cell in &self.domain.cells {
            if let Some(change) = self.complete(projection, cell)? {
                part.changes.push(change);
                part.added.extend(self.distance_pieces(cell));
            }
        }
        if let (Some(last), false) = (self.domain.cells.last(), added.is_empty()) {
            let edit = last.element.insert_after(&added);
            part.changes
                .push(cells_change(self.added.len(), vec![edit]));
        }
        Ok(part)
    }

    /// The added cells, printed one below the other.
    fn added_cells(&self, projection: &Projection<'_>) -> Result<String, Refusal> {
        let none = BTreeMap::new();
        let mut printed = String::new();
        for id in &self.added {
            let cell = Fragment::new("cell")
                .with("id", id)
                .with("memory", 0)
                .with("unit", "KiB");
            let cell = cell.child(self.distances(projection, *id, &none)?);
            printed.push_str(&cell.print());
            printed.push('\n');
        }
        Ok(printed)
    }

    /// `<numa>` for a guest that has none: cell 0 with all CPUs and memory, then the added ones.
    fn new_numa(&self, projection: &Projection<'_>, added: String) -> Result<Change, Refusal> {
        let distances = self.distances(projection, 0, &BTreeMap::new())?;
        let first = first(self.domain).child(distances);
        let edit = numa(self.domain, first, added);
        Ok(cells_change(self.added.len(), vec![edit]))
    }

    /// The pieces that [`numa`] adds.
    fn new_numa_pieces(&self) -> Added {
        let mut added = Added::default();
        match (&self.domain.numa, &self.domain.cpu) {
            (Some(numa), _) => {
                added.insert(Piece::Cells);
                if numa.is_self_closed() {
                    added.insert(Piece::Open(Opened::Numa));
                }
            }
            (None, Some(cpu)) => {
                added.insert(Piece::Numa);
                if cpu.is_self_closed() {
                    added.insert(Piece::Open(Opened::Cpu));
                }
            }
            (None, None) => added.insert(Piece::Cpu),
        }
        added
    }

    /// The pieces that [`Self::complete`] adds to a cell.
    fn distance_pieces(&self, cell: &Cell) -> Added {
        let mut added = Added::default();
        let id = cell.id;
        let Some(distances) = &cell.distances_element else {
            added.insert(Piece::Distances(id));
            if cell.element.is_self_closed() {
                added.insert(Piece::Open(Opened::Cell(id)));
            }
            return added;
        };
        if distances.is_self_closed() {
            added.insert(Piece::Open(Opened::Distances(id)));
        }
        let others = self.domain.cells.iter().map(|other| other.id);
        for other in others.filter(|other| !cell.distances.contains_key(other)) {
            added.insert(Piece::Sibling {
                from: id,
                to: other,
            });
        }
        added
    }

    /// Adds the siblings that an existing cell does not name yet.
    fn complete(
        &self,
        projection: &Projection<'_>,
        cell: &Cell,
    ) -> Result<Option<Change>, Refusal> {
        let named = &cell.distances;
        if self
            .places
            .iter()
            .all(|place| named.contains_key(&place.cell))
        {
            return Ok(None);
        }
        let edit = match &cell.distances_element {
            Some(element) => element.append(&self.siblings(projection, cell.id, named)?),
            None => cell
                .element
                .append(&self.distances(projection, cell.id, named)?.print()),
        };
        Ok(Some(Change {
            code: Code::CellDistanceMissing,
            device: None,
            path: format!("/domain/cpu/numa/cell[@id='{}']/distances", cell.id),
            reason:
                "without distances between all cells the guest gets no SLIT and takes 10 and 20"
                    .to_owned(),
            edits: vec![edit],
        }))
    }

    fn distances(
        &self,
        projection: &Projection<'_>,
        cell: u32,
        named: &BTreeMap<u32, u8>,
    ) -> Result<Fragment, Refusal> {
        Ok(Fragment::new("distances").lines(self.siblings(projection, cell, named)?))
    }

    /// The siblings that a cell does not name yet, one per line. Built without [`Fragment`]: a guest has cells squared of them.
    fn siblings(
        &self,
        projection: &Projection<'_>,
        cell: u32,
        named: &BTreeMap<u32, u8>,
    ) -> Result<String, Refusal> {
        let unknown = Place {
            cell,
            node: None,
            initiator: None,
        };
        let from = *self
            .places
            .iter()
            .find(|place| place.cell == cell)
            .unwrap_or(&unknown);
        let missing = self
            .places
            .iter()
            .filter(|place| !named.contains_key(&place.cell));
        let mut lines = String::with_capacity(self.places.len() * SIBLING);
        for to in missing {
            // A distance that the user gave in one direction applies to both.
            let back = self
                .domain
                .cell(to.cell)
                .and_then(|cell| cell.distances.get(&from.cell));
            let value = back.map_or_else(|| projection.between(from, *to), |back| Ok(*back))?;
            lines.push_str("<sibling id='");
            push_number(&mut lines, to.cell);
            lines.push_str("' value='");
            push_number(&mut lines, value.into());
            lines.push_str("'/>\n");
        }
        Ok(lines)
    }
}

/// Cell 0 with all CPUs and memory.
fn first(domain: &Domain) -> Fragment {
    let cpus = RangeList::from(0..domain.vcpus);
    Fragment::new("cell")
        .with("id", 0)
        .with("cpus", cpus)
        .with(
            "memory",
            // <memory> includes the memory devices, which are not part of the own memory of a cell (libvirt, formatdomain).
            domain.memory_kib.saturating_sub(domain.memory_devices_kib),
        )
        .with("unit", "KiB")
}

/// `<numa>` with these cells; with `<cpu>` if there is none.
fn numa(domain: &Domain, first: Fragment, added: String) -> Edit {
    match (&domain.numa, &domain.cpu) {
        (Some(numa), _) => numa.append(&format!("{}\n{added}", first.print())),
        (None, Some(cpu)) => cpu.append(&Fragment::new("numa").child(first).lines(added).print()),
        (None, None) => {
            let numa = Fragment::new("numa").child(first).lines(added);
            let cpu = Fragment::new("cpu").child(numa).print();
            domain.heading.insert_after(&cpu)
        }
    }
}

/// Gives a guest without cells one with all CPUs and memory; the initiators' nodes are QEMU arguments.
pub(super) fn first_cell(layout: &Layout<'_>) -> Part {
    let edit = numa(layout.domain, first(layout.domain), String::new());
    let change = Change {
        reason: "one cell with all CPUs and memory, beside which the initiators' nodes can be"
            .to_owned(),
        ..cells_change(0, vec![edit])
    };
    Part {
        changes: vec![change],
        added: layout.new_numa_pieces(),
        ..Part::default()
    }
}

fn cells_change(count: usize, edits: Vec<Edit>) -> Change {
    Change {
        code: Code::CellsMissing,
        device: None,
        path: "/domain/cpu/numa/cell".to_owned(),
        reason: format!(
            "{count} cells without CPUs and memory: the guest's driver puts GPU memory into their nodes"
        ),
        edits,
    }
}

/// Removes our cells, distances and address width; removes the whole `<cpu>` if nothing else was in it. `is_ours` tells whether
/// the nodeset of a hostdev is ours.
pub(crate) fn undo(domain: &Domain, mark: &Mark, is_ours: impl Fn(&Hostdev) -> bool) -> Vec<Edit> {
    let undo = Undo {
        domain,
        mark,
        is_ours,
    };
    undo.edits()
}

/// True when the whole `<numa>` of a definition was added, so that [`undo`] removes it.
pub(crate) fn is_numa_ours(domain: &Domain) -> bool {
    domain.mark.as_ref().is_some_and(|mark| {
        let is_ours = |hostdev: &Hostdev| {
            let mut devices = mark.devices.iter();
            devices.any(|marked| super::numa::is_carried(marked, hostdev))
        };
        let undo = Undo {
            domain,
            mark,
            is_ours,
        };
        undo.whole_numa_goes()
    })
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
        // Each of these edits removes one child, so as many edits as children leave <cpu> empty.
        let empty = whole && edits.len() == self.domain.cpu_children;
        match self.domain.cpu.as_ref().filter(|_| empty) {
            Some(cpu) if self.mark.added.opened(Opened::Cpu) => vec![cpu.collapse()],
            Some(cpu) if self.mark.added.has(&Piece::Cpu) && self.domain.cpu_is_bare => {
                vec![cpu.remove()]
            }
            _ => edits,
        }
    }

    /// Removes cells that are still empty, and every reference to them.
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

    /// True when we added `<numa>` and only its first cell would be left.
    fn whole_numa_goes(&self) -> bool {
        let is_ours = self.mark.added.has(&Piece::Cpu) || self.mark.added.has(&Piece::Numa);
        is_ours && self.only_first_left(&self.gone())
    }

    fn only_first_left(&self, gone: &BTreeSet<u32>) -> bool {
        let cells = self.domain.cells.iter();
        let mut left = cells.filter(|cell| !gone.contains(&cell.id));
        left.next().is_some_and(|cell| cell.id == 0) && left.next().is_none()
    }

    /// Our cells without memory and CPUs that no other device names.
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

    /// Removes distances of a kept cell to removed cells.
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
