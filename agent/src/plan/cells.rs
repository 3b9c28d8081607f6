//! Writes the cells that a layout adds, and the distances that are missing.

use std::collections::BTreeSet;

use kernel_glue::numa::RangeList;

use super::distance::{Place, Projection};
use super::fragment::{Fragment, print_all};
use super::layout::Layout;
use super::{Change, Plan};
use crate::code::Code;
use crate::domain::{Cell, Domain};
use crate::edit::Edit;
use crate::refusal::Refusal;

impl Layout<'_> {
    pub(super) fn write(
        &self,
        projection: &Projection<'_>,
        plan: &mut Plan,
    ) -> Result<(), Refusal> {
        let added = self.added_cells(projection)?;
        if self.domain.cells.is_empty() {
            plan.changes.push(self.new_numa(projection, added)?);
            self.record_new_numa(plan);
            return Ok(());
        }
        for cell in &self.domain.cells {
            if let Some(change) = self.complete(projection, cell)? {
                plan.changes.push(change);
                self.record_distances(cell, plan);
            }
        }
        if let (Some(last), false) = (self.domain.cells.last(), added.is_empty()) {
            let edit = last.element.insert_after(&print_all(added));
            plan.changes
                .push(cells_change(self.added.len(), vec![edit]));
        }
        Ok(())
    }

    fn added_cells(&self, projection: &Projection<'_>) -> Result<Vec<Fragment>, Refusal> {
        let cell = |id: &u32| {
            let cell = Fragment::new("cell")
                .with("id", id)
                .with("memory", 0)
                .with("unit", "KiB");
            Ok(cell.child(self.distances(projection, *id, &BTreeSet::new())?))
        };
        self.added.iter().map(cell).collect()
    }

    /// `<numa>` for a guest that has none: cell 0 with all CPUs and memory, then the added ones.
    fn new_numa(
        &self,
        projection: &Projection<'_>,
        added: Vec<Fragment>,
    ) -> Result<Change, Refusal> {
        let distances = self.distances(projection, 0, &BTreeSet::new())?;
        let first = first(self.domain).child(distances);
        let edit = numa(self.domain, std::iter::once(first).chain(added));
        Ok(cells_change(self.added.len(), vec![edit]))
    }

    fn record_new_numa(&self, plan: &mut Plan) {
        match (&self.domain.numa, &self.domain.cpu) {
            (Some(_), _) => plan.added.insert("cells"),
            (None, Some(cpu)) => {
                plan.added.insert("numa");
                if cpu.is_self_closed() {
                    plan.added.insert("open:cpu");
                }
            }
            (None, None) => plan.added.insert("cpu"),
        }
    }

    fn record_distances(&self, cell: &Cell, plan: &mut Plan) {
        let id = cell.id;
        if cell.distances_element.is_none() {
            plan.added.insert(format!("distances:{id}"));
            if cell.element.is_self_closed() {
                plan.added.insert(format!("open:cell:{id}"));
            }
            return;
        }
        let others = self.domain.cells.iter().map(|other| other.id);
        for other in others.filter(|other| !cell.distances.contains_key(other)) {
            plan.added.insert(format!("sibling:{id}:{other}"));
        }
    }

    /// The siblings that an existing cell does not name yet.
    fn complete(
        &self,
        projection: &Projection<'_>,
        cell: &Cell,
    ) -> Result<Option<Change>, Refusal> {
        let named: BTreeSet<u32> = cell.distances.keys().copied().collect();
        if self.places.iter().all(|place| named.contains(&place.cell)) {
            return Ok(None);
        }
        let edit = match &cell.distances_element {
            Some(element) => {
                element.append(&print_all(self.siblings(projection, cell.id, &named)?))
            }
            None => cell
                .element
                .append(&self.distances(projection, cell.id, &named)?.print()),
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
        named: &BTreeSet<u32>,
    ) -> Result<Fragment, Refusal> {
        Ok(Fragment::new("distances").children(self.siblings(projection, cell, named)?))
    }

    fn siblings(
        &self,
        projection: &Projection<'_>,
        cell: u32,
        named: &BTreeSet<u32>,
    ) -> Result<Vec<Fragment>, Refusal> {
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
            .filter(|place| !named.contains(&place.cell));
        let sibling = |to: &Place| {
            // A distance that its owner gave in one direction is meant for both.
            let back = self
                .domain
                .cell(to.cell)
                .and_then(|cell| cell.distances.get(&from.cell));
            let value = back.map_or_else(|| projection.between(from, *to), |back| Ok(*back))?;
            Ok(Fragment::new("sibling")
                .with("id", to.cell)
                .with("value", value))
        };
        missing.map(sibling).collect()
    }
}

/// Cell 0 with all CPUs and memory.
fn first(domain: &Domain) -> Fragment {
    let cpus = RangeList::from(0..domain.vcpus);
    Fragment::new("cell")
        .with("id", 0)
        .with("cpus", cpus)
        .with("memory", domain.memory_kib)
        .with("unit", "KiB")
}

/// `<numa>` with these cells, in a `<cpu>` where there is none.
fn numa(domain: &Domain, cells: impl Iterator<Item = Fragment>) -> Edit {
    match (&domain.numa, &domain.cpu) {
        (Some(numa), _) => numa.append(&print_all(cells)),
        (None, Some(cpu)) => cpu.append(&Fragment::new("numa").children(cells).print()),
        (None, None) => {
            let numa = Fragment::new("numa").children(cells);
            let cpu = Fragment::new("cpu").child(numa).print();
            domain.heading.insert_after(&cpu)
        }
    }
}

/// Gives a guest without cells one that holds CPUs and memory; the others come another way.
pub(super) fn first_cell(layout: &Layout<'_>, plan: &mut Plan) {
    let edit = numa(layout.domain, std::iter::once(first(layout.domain)));
    plan.changes.push(Change {
        reason: "one cell with all CPUs and memory, beside which the initiators' nodes can be"
            .to_owned(),
        ..cells_change(0, vec![edit])
    });
    layout.record_new_numa(plan);
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
