//! Writes the cells that a layout adds, and the distances that are missing.

pub(crate) mod undo;

use std::collections::BTreeMap;

use kernel_glue::numa::RangeList;

use super::distance::{Place, Projection};
use super::fragment::{Fragment, push_number};
use super::layout::Layout;
use super::{Change, Differing, Part, binding};
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Added, Cell, Domain, Opened, Piece};

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
            part.added.extend(&self.new_numa_pieces());
            return Ok(part);
        }
        for cell in &self.domain.cells {
            if let Some(change) = self.complete(projection, cell)? {
                part.changes.push(change);
                part.added.extend(&self.distance_pieces(cell));
            }
        }
        if let (Some(last), false) = (self.domain.cells.last(), added.is_empty()) {
            let edit = last.element.insert_after(&added);
            part.changes
                .push(cells_change(self.added.len(), vec![edit]));
        }
        Ok(part)
    }

    /// True when the definition gives distances from a cell to initiators, or the other way.
    pub(super) fn has_distances(&self, cell: u32) -> bool {
        let all = self.domain.cells.iter().flat_map(|from| self.distant(from));
        let mut ours = all.filter(|(from, to)| from.initiator.or(to.initiator).is_some());
        ours.any(|(from, to)| from.cell != to.cell && [from.cell, to.cell].contains(&cell))
    }

    /// Distances that the definition has and the host does not. Only between cells that are on one node of the host, since those of
    /// others are nobody's fact, and not between cells with CPUs, where they are the user's choice.
    fn differing(&self, projection: &Projection<'_>) -> Vec<Differing> {
        let mut differing = Vec::new();
        let only = binding::only_socket(projection.numa);
        let on = |place: Place| Place {
            node: place.node.or(only),
            ..place
        };
        let all = self.domain.cells.iter().flat_map(|cell| self.distant(cell));
        for (from, to) in all.map(|(from, to)| (on(from), on(to))) {
            let initiator = from.initiator.or(to.initiator).is_some();
            let bound = from.node.is_some() && to.node.is_some();
            let have = self.domain.cell(from.cell);
            let have = have.and_then(|cell| cell.distances.get(&to.cell));
            match (have, projection.between(from, to)) {
                (Some(&have), Ok(want)) if initiator && bound && have != want => {
                    let (from, to) = (from.cell, to.cell);
                    differing.push(Differing {
                        from,
                        to,
                        have,
                        want,
                    });
                }
                _ => {}
            }
        }
        differing
    }

    /// A cell with each that it names a distance to.
    fn distant(&self, cell: &Cell) -> Vec<(Place, Place)> {
        let place = |id: u32| self.places.iter().find(|place| place.cell == id).copied();
        let others = cell.distances.keys().filter_map(|id| place(*id));
        let pairs = others.filter_map(|to| Some((place(cell.id)?, to)));
        pairs.collect()
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

    /// What [`numa`] adds.
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

    /// What [`Self::complete`] adds to a cell.
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

    /// The siblings that an existing cell does not name yet.
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

    /// The siblings that a cell does not name yet, one a line. There are as many as the square of the cells.
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
            // A distance that its owner gave in one direction is meant for both.
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
            domain.memory_kib.saturating_sub(domain.memory_devices_kib),
        )
        .with("unit", "KiB")
}

/// `<numa>` with these cells, in a `<cpu>` where there is none.
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

/// Gives a guest without cells one that holds CPUs and memory; the others come another way.
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
