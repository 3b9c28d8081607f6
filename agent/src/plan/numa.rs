//! Generic-initiator cells of each device, their distances, and the nodeset that names them.

use std::collections::BTreeSet;

use kernel_glue::numa::{NumaNode, RangeList};

use super::distance::{Place, Projection};
use super::fragment::{Fragment, print_all};
use super::{Assigned, Change, Note, Plan, Planned, Setting, association};
use crate::code::Code;
use crate::domain::{Cell, Domain};
use crate::recipe::Initiators;
use crate::refusal::Refusal;

/// Most nodes QEMU takes (MAX_NODES, include/sysemu/numa.h).
const MAX_CELLS: usize = 128;

/// Nodes that arm64 kernels take by default (NODES_SHIFT 4, arch/arm64/Kconfig).
const ARM64_NODES: usize = 16;

/// The cells of the finished guest: those there are, and those to add.
struct Layout<'a> {
    domain: &'a Domain,
    places: Vec<Place>,
    added: Vec<u32>,
}

/// Plans cells, distances and nodesets.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let mut layout = Layout::of(domain);
    for one in assigned {
        let (mut cells, mut host_nodes) = (RangeList::default(), Vec::new());
        if let Some(rules) = one.recipe.initiators {
            host_nodes = association::nodes(setting, one.device, rules.cells)?;
            cells = layout.give(one, rules, &host_nodes)?;
        }
        plan.devices.push(planned(one, cells, host_nodes));
    }
    if plan.devices.iter().all(|device| device.cells.is_empty()) {
        return Ok(());
    }
    limit(domain, &layout, plan)?;
    let numa = &setting.host.numa;
    layout.write(&Projection { numa }, plan)?;
    for one in assigned {
        name_cells(one, plan);
    }
    Ok(())
}

impl<'a> Layout<'a> {
    fn of(domain: &'a Domain) -> Self {
        let mut places: Vec<Place> = domain
            .cells
            .iter()
            .map(|cell| place(domain, cell))
            .collect();
        if places.is_empty() {
            places.push(Place {
                cell: 0,
                node: None,
                initiator: None,
            });
        }
        Self {
            domain,
            places,
            added: Vec::new(),
        }
    }

    /// The cells of a device: those its nodeset names, those its mark names, else new ones.
    fn give(
        &mut self,
        one: &Assigned<'_>,
        rules: Initiators,
        host_nodes: &[NumaNode],
    ) -> Result<RangeList, Refusal> {
        let cells = match &one.hostdev.nodeset {
            Some(nodeset) => self.named(one, nodeset, host_nodes.len())?,
            None => self.marked_or_new(one, host_nodes.len()),
        };
        for (cell, node) in cells.iter().zip(host_nodes) {
            let place = Place {
                cell,
                node: Some(*node),
                initiator: Some((one.hostdev.source, rules)),
            };
            match self.places.iter_mut().find(|place| place.cell == cell) {
                Some(known) => *known = place,
                None => self.places.push(place),
            }
        }
        Ok(cells)
    }

    fn named(
        &self,
        one: &Assigned<'_>,
        nodeset: &RangeList,
        count: usize,
    ) -> Result<RangeList, Refusal> {
        let why = if nodeset.len() != count {
            format!("names {} cells, the recipe wants {count}", nodeset.len())
        } else if let Some(cell) = nodeset.iter().find(|id| self.domain.cell(*id).is_none()) {
            format!("names cell {cell}, which does not exist")
        } else if let Some(cell) = nodeset
            .iter()
            .find(|id| self.domain.cell(*id).is_some_and(|c| !c.is_empty()))
        {
            format!("names cell {cell}, which has CPUs or memory")
        } else if let Some(cell) = self.taken(one).into_iter().find(|id| nodeset.contains(*id)) {
            format!("names cell {cell}, which is another device's")
        } else {
            return Ok(nodeset.clone());
        };
        let reason = format!("its <acpi nodeset='{nodeset}'> {why}");
        let mend = format!(
            "remove the <acpi> element with 'virsh edit {0}' and run 'variantctl prepare {0}'",
            self.domain.name
        );
        Err(Refusal::new(Code::NodesetWrong, reason, mend)
            .of(one.hostdev.source)
            .at("/domain/devices/hostdev/acpi"))
    }

    fn marked_or_new(&mut self, one: &Assigned<'_>, count: usize) -> RangeList {
        let marks = self.domain.mark.iter().flat_map(|mark| &mark.devices);
        let marked = marks
            .filter(|marked| marked.address == one.hostdev.source)
            .flat_map(|marked| marked.cells.iter());
        let taken = self.taken(one);
        let free =
            |id: &u32| self.domain.cell(*id).is_some_and(Cell::is_empty) && !taken.contains(id);
        let mut cells: BTreeSet<u32> = marked.filter(free).take(count).collect();
        let mut next = self
            .places
            .iter()
            .map(|place| place.cell + 1)
            .max()
            .unwrap_or(0);
        while cells.len() < count {
            cells.insert(next);
            self.added.push(next);
            next += 1;
        }
        cells.into_iter().collect()
    }

    /// Cells that other hostdevs name.
    fn taken(&self, one: &Assigned<'_>) -> BTreeSet<u32> {
        let others = self
            .domain
            .hostdevs
            .iter()
            .filter(|other| other.source != one.hostdev.source);
        others
            .filter_map(|other| other.nodeset.as_ref())
            .flat_map(RangeList::iter)
            .collect()
    }

    fn write(&self, projection: &Projection<'_>, plan: &mut Plan) -> Result<(), Refusal> {
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
        let domain = self.domain;
        let cpus: RangeList = (0..domain.vcpus).collect();
        let first = Fragment::new("cell")
            .with("id", 0)
            .with("cpus", cpus)
            .with("memory", domain.memory_kib)
            .with("unit", "KiB")
            .child(self.distances(projection, 0, &BTreeSet::new())?);
        let cells = std::iter::once(first).chain(added);
        let edit = match (&domain.numa, &domain.cpu) {
            (Some(numa), _) => numa.append(&print_all(cells)),
            (None, Some(cpu)) => cpu.append(&Fragment::new("numa").children(cells).print()),
            (None, None) => {
                let numa = Fragment::new("numa").children(cells);
                domain
                    .heading
                    .insert_after(&Fragment::new("cpu").child(numa).print())
            }
        };
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
            let value = projection.between(from, *to)?;
            Ok(Fragment::new("sibling")
                .with("id", to.cell)
                .with("value", value))
        };
        missing.map(sibling).collect()
    }
}

/// The host node of a cell: that of its `<memnode>`, when it is one node.
fn place(domain: &Domain, cell: &Cell) -> Place {
    let bound = domain.memory_nodes.iter().find(|node| node.cell == cell.id);
    let single = bound
        .filter(|bound| bound.nodes.len() == 1)
        .and_then(|bound| bound.nodes.iter().next());
    Place {
        cell: cell.id,
        node: single.and_then(|id| NumaNode::try_from(id).ok()),
        initiator: None,
    }
}

fn planned(one: &Assigned<'_>, cells: RangeList, host_nodes: Vec<NumaNode>) -> Planned {
    Planned {
        address: one.hostdev.source,
        recipe: one.recipe.name.clone(),
        label: one
            .recipe
            .member(one.device.id)
            .map(|member| member.label.clone())
            .unwrap_or_default(),
        driver: one.recipe.driver.clone(),
        cells,
        host_nodes,
    }
}

fn limit(domain: &Domain, layout: &Layout<'_>, plan: &mut Plan) -> Result<(), Refusal> {
    let count = layout.places.len();
    if count > MAX_CELLS {
        let reason = format!("the guest would have {count} NUMA cells, QEMU takes {MAX_CELLS}");
        return Err(Refusal::new(
            Code::TooManyCells,
            reason,
            "assign fewer devices to one guest",
        )
        .at("/domain/cpu/numa"));
    }
    if count > ARM64_NODES && domain.arch.as_deref() == Some("aarch64") {
        let text = format!(
            "the guest has {count} NUMA nodes; an arm64 kernel with CONFIG_NODES_SHIFT=4 takes {ARM64_NODES}: use one built with 6 or more"
        );
        plan.notes.push(Note {
            code: Code::GuestNodeLimit,
            device: None,
            text,
        });
    }
    let unbound = layout.places.iter().filter(|place| place.node.is_none());
    for place in unbound {
        let text = format!(
            "cell {} is bound to no single host node by <numatune><memnode>: its distances are those of the nearest socket",
            place.cell
        );
        plan.notes.push(Note {
            code: Code::CellUnbound,
            device: None,
            text,
        });
    }
    Ok(())
}

fn cells_change(count: usize, edits: Vec<crate::edit::Edit>) -> Change {
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

fn name_cells(one: &Assigned<'_>, plan: &mut Plan) {
    if one.hostdev.nodeset.is_some() {
        return;
    }
    let planned = plan
        .devices
        .iter()
        .find(|planned| planned.address == one.hostdev.source);
    let Some(cells) = planned.map(|planned| planned.cells.clone()) else {
        return;
    };
    let acpi = Fragment::new("acpi").with("nodeset", &cells).print();
    let place = one.hostdev.acpi_element.as_ref();
    let edit = place.map_or_else(
        || one.hostdev.element.append(&acpi),
        |old| old.replace(&acpi),
    );
    let added = plan.added_for.entry(one.hostdev.source).or_default();
    added.insert("nodeset");
    plan.changes.push(Change {
        code: Code::NodesetMissing,
        device: Some(one.hostdev.source),
        path: format!(
            "/domain/devices/hostdev[source='{}']/acpi",
            one.hostdev.source
        ),
        reason: "ACPI generic initiators: they tell the guest's driver which nodes are this GPU's"
            .to_owned(),
        edits: vec![edit],
    });
}
