//! Takes back exactly what was added to a definition, by its mark. Pure.
//!
//! What somebody changed since stays: a cell that was given memory, an address that was moved, a root port
//! that another device sits on. Of an untouched definition the text from before comes back, byte for byte.

use std::collections::BTreeSet;

use crate::code::Code;
use crate::domain::{Added, Argument, Cell, Domain, Mark, Marked};
use crate::edit::{self, Edit, Element};
use crate::plan::command_line;
use crate::refusal::Refusal;

/// The definition without what was added; the text itself when it has no mark.
///
/// # Errors
/// The refusals of [`Domain::parse`].
pub fn revert(text: &str) -> Result<String, Refusal> {
    let domain = Domain::parse(text)?;
    let Some(mark) = &domain.mark else {
        return Ok(text.to_owned());
    };
    let undo = Undo {
        domain: &domain,
        mark,
    };
    edit::apply(text, &undo.edits()).map_err(|error| {
        let mend = "please report this with the definition";
        Refusal::new(
            Code::XmlValue,
            format!("taking back contradicts itself: {error}"),
            mend,
        )
    })
}

struct Undo<'a> {
    domain: &'a Domain,
    mark: &'a Mark,
}

impl Undo<'_> {
    fn edits(&self) -> Vec<Edit> {
        let mut edits: Vec<Edit> = self
            .mark
            .devices
            .iter()
            .flat_map(|marked| self.device(marked))
            .collect();
        edits.extend(self.command_line());
        edits.extend(self.numa());
        edits.extend(self.window());
        edits.push(self.metadata());
        edits
    }

    fn added(&self) -> &Added {
        &self.mark.added
    }

    /// Nodeset, address and root port of a device, where they are still as we left them.
    fn device(&self, marked: &Marked) -> Vec<Edit> {
        let mut edits = Vec::new();
        let hostdev = self
            .domain
            .hostdevs
            .iter()
            .find(|hostdev| hostdev.source == marked.address);
        let acpi = hostdev.filter(|hostdev| hostdev.nodeset.as_ref() == Some(&marked.cells));
        if let (true, Some(acpi)) = (
            marked.added.has("nodeset"),
            acpi.and_then(|h| h.acpi_element.as_ref()),
        ) {
            edits.push(acpi.remove());
        }
        let alias = hostdev.and_then(|hostdev| hostdev.alias_element.as_ref());
        edits.extend(
            alias
                .filter(|_| marked.added.has("alias"))
                .map(Element::remove),
        );
        for port in marked.added.numbers("port") {
            let own = hostdev.filter(|hostdev| {
                hostdev
                    .address
                    .is_some_and(|a| u32::from(a.at.bus()) == port)
            });
            edits.extend(
                own.and_then(|hostdev| hostdev.address_element.as_ref())
                    .map(Element::remove),
            );
            edits.extend(self.port(port, usize::from(own.is_some())));
        }
        edits
    }

    /// The root port with this index, unless more than `own` devices sit on it.
    fn port(&self, index: u32, own: usize) -> Option<Edit> {
        let controller = self
            .domain
            .controller(index)
            .filter(|c| c.model == "pcie-root-port");
        (self.domain.devices_on(index) <= own).then_some(controller?.element.remove())
    }

    /// Cells that are still empty, and everything that speaks of them.
    fn numa(&self) -> Vec<Edit> {
        let gone: BTreeSet<u32> = self.gone();
        let others = |cell: &&Cell| !gone.contains(&cell.id);
        let left: Vec<&Cell> = self.domain.cells.iter().filter(others).collect();
        let only_first = matches!(left[..], [cell] if cell.id == 0);
        if only_first && let Some(edit) = self.whole_numa() {
            return vec![edit];
        }
        let removed = self
            .domain
            .cells
            .iter()
            .filter(|cell| gone.contains(&cell.id));
        let mut edits: Vec<Edit> = removed.map(|cell| cell.element.remove()).collect();
        edits.extend(
            left.into_iter()
                .flat_map(|cell| self.distances(cell, &gone)),
        );
        edits
    }

    /// Our cells that nobody gave memory or CPUs, and that no other device names.
    fn gone(&self) -> BTreeSet<u32> {
        let ours = self
            .mark
            .devices
            .iter()
            .filter(|marked| marked.added.has("nodeset"));
        let foreign = |id: &u32| {
            let named = |hostdev: &&crate::domain::Hostdev| {
                hostdev
                    .nodeset
                    .as_ref()
                    .is_some_and(|set| set.contains(*id))
            };
            let is_marked =
                |hostdev: &crate::domain::Hostdev| self.domain.is_marked(hostdev.source);
            self.domain
                .hostdevs
                .iter()
                .filter(named)
                .any(|hostdev| !is_marked(hostdev))
        };
        let empty = |id: &u32| self.domain.cell(*id).is_some_and(Cell::is_empty);
        ours.flat_map(|marked| marked.cells.iter())
            .filter(|id| empty(id) && !foreign(id))
            .collect()
    }

    /// `<numa>`, or the `<cpu>` around it, where we made it.
    fn whole_numa(&self) -> Option<Edit> {
        let (cpu, numa) = (self.domain.cpu.as_ref()?, self.domain.numa.as_ref()?);
        let added = self.added();
        if added.has("cpu") && self.domain.cpu_is_bare {
            return Some(cpu.remove());
        }
        if !added.has("cpu") && !added.has("numa") {
            return None;
        }
        Some(if added.has("open:cpu") {
            cpu.collapse()
        } else {
            numa.remove()
        })
    }

    /// Distances of a cell that stays, to cells that go.
    fn distances(&self, cell: &Cell, gone: &BTreeSet<u32>) -> Vec<Edit> {
        let added = self.added();
        if added.numbers("distances").any(|id| id == cell.id) {
            let only = cell
                .distances
                .keys()
                .all(|id| gone.contains(id) || self.domain.cell(*id).is_some());
            let opened = added.has(&format!("open:cell:{}", cell.id));
            return match &cell.distances_element {
                Some(_) if only && opened => vec![cell.element.collapse()],
                Some(element) if only => vec![element.remove()],
                _ => Vec::new(),
            };
        }
        let ours = cell
            .siblings
            .iter()
            .filter(|(id, _)| gone.contains(id) || added.has(&format!("sibling:{}:{id}", cell.id)));
        ours.map(|(_, sibling)| sibling.remove()).collect()
    }

    /// Our arguments of QEMU, or the element around them where we made it and nothing else is in it.
    fn command_line(&self) -> Vec<Edit> {
        let ours: Vec<&Argument> = command_line::ours(self.domain).collect();
        match &self.domain.command_line {
            Some(line) if self.added().has("commandline") && line.arguments.len() == ours.len() => {
                vec![line.element.remove()]
            }
            _ => ours
                .into_iter()
                .map(|argument| argument.element.remove())
                .collect(),
        }
    }

    fn window(&self) -> Option<Edit> {
        let root = self.domain.controller(0)?;
        let hole = root.hole64_element.as_ref()?;
        let added = self.added();
        if added.has("root") {
            Some(root.element.remove())
        } else if added.has("open:root") {
            Some(root.element.collapse())
        } else {
            added.has("window").then(|| hole.remove())
        }
    }

    fn metadata(&self) -> Edit {
        match &self.domain.metadata {
            Some(metadata) if self.added().has("metadata") && self.domain.metadata_is_ours => {
                metadata.remove()
            }
            Some(metadata) if self.added().has("open:metadata") && self.domain.metadata_is_ours => {
                metadata.collapse()
            }
            _ => self.mark.element.remove(),
        }
    }
}

#[cfg(test)]
mod tests;
