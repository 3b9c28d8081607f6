//! The guest's NUMA cells and the devices to which they belong: existing ones, and those to add.

use std::collections::BTreeSet;

use kernel_glue::numa::{Numa, NumaNode, RangeList};

use super::distance::{Place, Projection};
use super::{Assigned, Differing, binding, virsh};
use crate::recipe::Initiators;
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Cell, Domain};

/// The cells of the completed guest: existing ones, and those to add.
pub(super) struct Layout<'a> {
    pub(super) domain: &'a Domain,
    pub(super) places: Vec<Place>,
    pub(super) added: Vec<u32>,
    /// libvirt has elements for initiators and their cells; otherwise they are QEMU arguments.
    elements: bool,
}

impl<'a> Layout<'a> {
    pub(super) fn of(numa: &Numa, domain: &'a Domain, elements: bool) -> Self {
        let mut places: Vec<Place> = domain
            .cells
            .iter()
            .map(|cell| place(numa, domain, cell.id))
            .collect();
        if places.is_empty() {
            places.push(place(numa, domain, 0));
        }
        Self {
            domain,
            places,
            added: Vec::new(),
            elements,
        }
    }

    /// The cells of a device: of its nodeset, else of its mark, else new ones.
    pub(super) fn give(
        &mut self,
        one: &Assigned<'_>,
        rules: Initiators,
        host_nodes: &[NumaNode],
    ) -> Result<RangeList, Refusal> {
        let cells = match &one.hostdev.nodeset {
            Some(nodeset) if self.elements => self.named(one, nodeset, host_nodes.len())?,
            _ => self.marked_or_new(one, host_nodes.len()),
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

    /// The cells of the nodeset. `rule` checks that they exist and do not belong to another device.
    fn named(
        &self,
        one: &Assigned<'_>,
        nodeset: &RangeList,
        count: usize,
    ) -> Result<RangeList, Refusal> {
        let why = if nodeset.len() != count {
            format!("names {} cells, the recipe needs {count}", nodeset.len())
        } else if let Some(cell) = nodeset
            .iter()
            .find(|id| self.domain.cell(*id).is_some_and(|c| !c.is_empty()))
        {
            format!("names cell {cell}, which has CPUs or memory")
        } else {
            return Ok(nodeset.clone());
        };
        let reason = format!("its <acpi nodeset='{nodeset}'> {why}");
        let name = &self.domain.name;
        let hint = virsh::edit(self.domain, "remove the <acpi> element");
        let hint = hint.then(&format!(" and run 'variantctl prepare {name}'"));
        Err(Refusal::new(Code::NodesetWrong, reason, hint)
            .of(one.hostdev.source)
            .at("/domain/devices/hostdev/acpi"))
    }

    fn marked_or_new(&mut self, one: &Assigned<'_>, count: usize) -> RangeList {
        let marks = self.domain.mark.iter().flat_map(|mark| &mark.devices);
        let marked = marks
            .filter(|marked| marked.address == one.hostdev.source)
            .flat_map(|marked| marked.cells.iter());
        let taken = self.taken(one);
        let usable = |id: &u32| match self.domain.cell(*id) {
            Some(cell) => self.elements && cell.is_empty(),
            None => !self.elements,
        };
        let free = |id: &u32| usable(id) && !taken.contains(id);
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
    /// True when the definition gives distances from a cell to initiators, or the other way.
    pub(super) fn has_distances(&self, cell: u32) -> bool {
        let all = self.domain.cells.iter().flat_map(|from| self.distant(from));
        let mut ours = all.filter(|(from, to)| from.initiator.or(to.initiator).is_some());
        ours.any(|(from, to)| from.cell != to.cell && [from.cell, to.cell].contains(&cell))
    }

    /// Distances of the definition that differ from the host's. Only between cells that are bound to one host node (others have no
    /// value on the host), and not between two cells with CPUs, where the value is the user's choice.
    pub(super) fn differing(&self, projection: &Projection<'_>) -> Vec<Differing> {
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
            match (have, projection.between(&from, &to)) {
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

    /// A cell paired with each cell to which it has a distance.
    fn distant(&self, cell: &Cell) -> Vec<(Place, Place)> {
        let place = |id: u32| self.places.iter().find(|place| place.cell == id).copied();
        let others = cell.distances.keys().filter_map(|id| place(*id));
        let pairs = others.filter_map(|to| Some((place(cell.id)?, to)));
        pairs.collect()
    }
}

/// A cell with the host node to which it is bound.
fn place(numa: &Numa, domain: &Domain, cell: u32) -> Place {
    Place {
        cell,
        node: binding::node(numa, domain, cell),
        initiator: None,
    }
}
