//! NUMA cells and distances that a layout adds. Order of the file: plan, recognise, revert.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::numa::RangeList;

use super::distance::{Place, Projection};
use super::fragment::{Fragment, Margin, push_number};
use super::layout::Layout;
use super::{Change, Part, width};
use domain::code::Code;
use domain::edit::{Edit, Element};
use domain::refusal::Refusal;
use domain::{Added, Cell, Domain, Hostdev, Mark, Opened, Piece, Sibling};

/// Bytes of a `<sibling>`, about.
const SIBLING: usize = 32;
/// Digits of a distance.
const VALUE: usize = 3;
/// The end of a `<sibling>`.
const TAIL: &str = "'/>";

impl Layout<'_> {
    pub(super) fn write(&self, projection: &Projection<'_>) -> Result<Part, Refusal> {
        let mut part = Part {
            differing: self.differing(projection),
            ..Part::default()
        };
        let last = self.domain.cells.last().map(|cell| &cell.element);
        let base = last.and_then(Element::indentation);
        let added = self.added_cells(projection, base.unwrap_or_default())?;
        let Some(last) = last else {
            let added = added.strip_prefix('\n').unwrap_or_default();
            part.changes.push(self.new_numa(projection, added)?);
            part.added.extend(self.new_numa_pieces());
            return Ok(part);
        };
        for cell in &self.domain.cells {
            if let Some(change) = self.complete(projection, cell)? {
                part.changes.push(change);
                part.added.extend(self.distance_pieces(cell));
            }
        }
        if !added.is_empty() {
            let edit = match base {
                Some(_) => last.insert_lines_after(added),
                None => last.insert_after(&added),
            };
            part.changes
                .push(cells_change(self.added.len(), vec![edit]));
        }
        Ok(part)
    }

    /// The added cells, one below the other with this indentation, each with a line end before it. Nearly all of a plan's text are
    /// their distances, so these are written once, in their place.
    fn added_cells(&self, projection: &Projection<'_>, base: &str) -> Result<String, Refusal> {
        let rows = Rows::of(self, base);
        let mut printed = String::with_capacity(self.added.len() * rows.length());
        for id in &self.added {
            let cell = Fragment::new("cell")
                .with("id", id)
                .with("memory", 0)
                .with("unit", "KiB");
            let row = rows.row(projection, *id)?;
            let distances = Fragment::new("distances").indented(row);
            printed.push('\n');
            cell.child(distances)
                .write(&mut printed, Margin { base, depth: 0 });
        }
        Ok(printed)
    }

    /// `<numa>` for a guest that has none: cell 0 with all CPUs and memory, then the added ones.
    fn new_numa(&self, projection: &Projection<'_>, added: &str) -> Result<Change, Refusal> {
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
        let from = self.place(cell);
        let missing = self
            .places
            .iter()
            .filter(|place| !named.contains_key(&place.cell));
        let mut lines = String::with_capacity(self.places.len() * SIBLING);
        for to in missing {
            lines.push_str(&head(to));
            push_number(&mut lines, self.distance(projection, &from, to)?.into());
            lines.push_str(TAIL);
            lines.push('\n');
        }
        Ok(lines)
    }

    fn place(&self, cell: u32) -> Place {
        let known = self.places.iter().find(|place| place.cell == cell);
        known.copied().unwrap_or(Place {
            cell,
            node: None,
            initiator: None,
        })
    }

    fn distance(
        &self,
        projection: &Projection<'_>,
        from: &Place,
        to: &Place,
    ) -> Result<u8, Refusal> {
        // A distance that the user gave in one direction applies to both.
        let back = self
            .domain
            .cell(to.cell)
            .and_then(|cell| cell.distances.get(&from.cell));
        back.map_or_else(|| projection.between(from, to), |back| Ok(*back))
    }
}

/// The rows of distances of new cells, which name all cells.
struct Rows<'a> {
    layout: &'a Layout<'a>,
    /// What each row has before each value: a line end, the indentation, and the element up to its value.
    heads: Vec<String>,
}

impl<'a> Rows<'a> {
    /// With this indentation of their cells.
    fn of(layout: &'a Layout<'a>, base: &str) -> Self {
        let places = layout.places.iter();
        let heads = places.map(|place| format!("\n{base}    {}", head(place)));
        Self {
            layout,
            heads: heads.collect(),
        }
    }

    /// About as many bytes as a row.
    fn length(&self) -> usize {
        let heads = self.heads.iter().map(String::len);
        heads.map(|head| head + VALUE + TAIL.len()).sum()
    }

    /// The row of a cell.
    fn row(&self, projection: &Projection<'_>, cell: u32) -> Result<String, Refusal> {
        let from = self.layout.place(cell);
        let mut row = String::with_capacity(self.length());
        for (to, head) in self.layout.places.iter().zip(&self.heads) {
            row.push_str(head);
            let value = self.layout.distance(projection, &from, to)?;
            push_number(&mut row, value.into());
            row.push_str(TAIL);
        }
        Ok(row)
    }
}

/// A `<sibling>` up to its value.
fn head(to: &Place) -> String {
    let mut text = String::with_capacity(SIBLING);
    text.push_str("<sibling id='");
    push_number(&mut text, to.cell);
    text.push_str("' value='");
    text
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
fn numa(domain: &Domain, first: Fragment, added: &str) -> Edit {
    match (&domain.numa, &domain.cpu) {
        (Some(numa), _) => numa.append(&format!("{}\n{added}", first.print())),
        (None, Some(cpu)) => cpu.append(
            &Fragment::new("numa")
                .child(first)
                .lines(added.to_owned())
                .print(),
        ),
        (None, None) => {
            let numa = Fragment::new("numa").child(first).lines(added.to_owned());
            let cpu = Fragment::new("cpu").child(numa).print();
            domain.heading.insert_after(&cpu)
        }
    }
}

/// Gives a guest without cells one with all CPUs and memory; the initiators' nodes are QEMU arguments.
pub(super) fn first_cell(layout: &Layout<'_>) -> Part {
    let edit = numa(layout.domain, first(layout.domain), "");
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
