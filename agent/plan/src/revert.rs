//! Takes back exactly what was added to a definition, by its mark. Pure.
//!
//! What the user changed since stays: a cell that was given memory, an address that was moved, a root port
//! that another device sits on. Of an untouched definition the text from before comes back, byte for byte.
//!
//! A hostdev can have another source than when it was completed, because the user exchanged the GPU. So an address, nodeset or
//! alias is ours by what it is: on a port, in a cell or of a name that the mark records.

use std::collections::BTreeSet;

use kernel_glue::numa::RangeList;

use crate::plan::{command_line, driver as plan_driver, width, window};
use domain::code::Code;
use domain::edit::{self, Edit, Element};
use domain::refusal::Refusal;
use domain::{
    AcpiTable, Added, Cell, Controller, Definition, Domain, Driver, Hostdev, Mark, Marked, Opened,
    Piece, Sibling,
};

/// The definition without what was added; the text itself when it has no mark.
///
/// # Errors
/// A refusal where the mark contradicts itself.
pub fn revert(definition: &Definition) -> Result<String, Refusal> {
    let (text, domain) = (definition.text(), definition.domain());
    let Some(mark) = &domain.mark else {
        return Ok(text.to_owned());
    };
    let undo = Undo { domain, mark };
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
        let hostdevs = self.domain.hostdevs.iter();
        let mut edits: Vec<Edit> = hostdevs.flat_map(|hostdev| self.device(hostdev)).collect();
        edits.extend(self.controllers());
        edits.extend(self.iommufd());
        edits.extend(self.overrides());
        edits.extend(self.tables());
        edits.extend(self.command_line());
        edits.extend(self.cpu());
        edits.extend(self.window());
        edits.push(self.metadata());
        edits
    }

    fn added(&self) -> &Added {
        &self.mark.added
    }

    /// Nodeset, alias, driver and address of a device, where they are ours.
    fn device(&self, hostdev: &Hostdev) -> Vec<Edit> {
        let mut edits = Vec::new();
        if let Some(marked) = self.of_cells(hostdev) {
            if marked.added.opened(Opened::Nodeset) {
                let attribute = hostdev.nodeset_attribute.clone();
                edits.extend(attribute.map(Edit::removal));
            } else {
                edits.extend(hostdev.acpi_element.as_ref().map(Element::remove));
            }
        }
        if let Some(marked) = self.of_alias(hostdev) {
            let alias = hostdev.alias_element.as_ref();
            edits.extend(alias.map(|alias| back(alias, marked.alias.as_ref())));
        }
        let known = self.of_any(hostdev).zip(hostdev.driver.as_ref());
        edits.extend(
            known
                .into_iter()
                .flat_map(|(marked, known)| driver(marked, known)),
        );
        let port = self.of_port(hostdev);
        edits.extend(port.and_then(|marked| address(marked, hostdev)));
        edits
    }

    /// The entry whose pieces a hostdev carries.
    fn of_any(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let carried = self.of_port(hostdev).or_else(|| self.of_cells(hostdev));
        carried
            .or_else(|| self.of_alias(hostdev))
            .or_else(|| self.of_driver(hostdev))
            .or_else(|| self.own(hostdev))
    }

    /// The entry of a hostdev's device.
    fn own(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let mut devices = self.mark.devices.iter();
        devices.find(|marked| marked.address == hostdev.source)
    }

    /// The entry whose `<driver>` a hostdev carries. Of two devices of one recipe each has its own: they need the same driver, and
    /// the user may have named it for one of them.
    fn of_driver(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let own = self.own(hostdev);
        if own.is_some_and(|own| has_driver(own, hostdev)) {
            return own;
        }
        let carried = self.entry(hostdev, has_driver);
        carried.filter(|marked| own.is_none_or(|own| own.recipe != marked.recipe))
    }

    /// The entry whose root port a hostdev is on.
    fn of_port(&self, hostdev: &Hostdev) -> Option<&Marked> {
        self.entry(hostdev, |marked, hostdev| {
            let mut ports = marked.added.ports();
            ports.any(|port| is_on(hostdev, port))
        })
    }

    /// The entry whose cells a hostdev's nodeset names.
    fn of_cells(&self, hostdev: &Hostdev) -> Option<&Marked> {
        self.entry(hostdev, |marked, hostdev| {
            let mut cells = hostdev.nodeset.iter().flat_map(RangeList::iter);
            marked.added.has(&Piece::Nodeset) && cells.any(|cell| marked.cells.contains(cell))
        })
    }

    /// The entry that gave a hostdev its alias.
    fn of_alias(&self, hostdev: &Hostdev) -> Option<&Marked> {
        self.entry(hostdev, |marked, hostdev| {
            let ours = command_line::alias_of(marked.address);
            marked.added.has(&Piece::Alias) && hostdev.alias.as_ref() == Some(&ours)
        })
    }

    /// The entry of which a hostdev has a piece. Where the device of that entry has it as well, another one has it by the user's
    /// own choice; else the user exchanged the two.
    fn entry(
        &self,
        hostdev: &Hostdev,
        has_piece: impl Fn(&Marked, &Hostdev) -> bool,
    ) -> Option<&Marked> {
        let kept = |marked: &Marked| {
            let mut hostdevs = self.domain.hostdevs.iter();
            hostdevs.any(|own| own.source == marked.address && has_piece(marked, own))
        };
        self.mark.devices.iter().find(|marked| {
            has_piece(marked, hostdev) && (marked.address == hostdev.source || !kept(marked))
        })
    }

    /// Our PCI controllers on which nothing else is left, and our SMMUs in front of these and of the user's.
    fn controllers(&self) -> Vec<Edit> {
        let unused = self.unused();
        let controllers = self.domain.controllers.iter();
        let controllers = controllers.filter(|controller| unused.contains(&controller.index));
        let added = self.added();
        let is_going = |bus: &u32| unused.contains(bus) || !added.has(&Piece::Expander(*bus));
        let smmus = self.domain.platform.iommus.iter().filter(|iommu| {
            let bus = iommu.bus.filter(is_going);
            bus.is_some_and(|bus| added.has(&Piece::Smmu(bus)))
        });
        let elements = controllers.map(|controller| &controller.element);
        elements
            .chain(smmus.map(|iommu| &iommu.element))
            .map(Element::remove)
            .collect()
    }

    /// From the leaves up: a controller is unused once everything on it goes.
    fn unused(&self) -> BTreeSet<u32> {
        let ports = self
            .mark
            .devices
            .iter()
            .flat_map(|marked| marked.added.ports());
        let mut ours: BTreeSet<u32> = ports.collect();
        ours.extend(self.added().iter().filter_map(|piece| match piece {
            Piece::Expander(index) | Piece::Switch(index) => Some(*index),
            _ => None,
        }));
        let mut unused = BTreeSet::new();
        loop {
            let next = ours.iter().find(|index| {
                !unused.contains(*index)
                    && self.domain.devices_on(**index) == self.going(**index, &unused)
            });
            match next {
                Some(index) => unused.insert(*index),
                None => return unused,
            };
        }
    }

    /// How many of the devices and controllers on a bus go.
    fn going(&self, index: u32, unused: &BTreeSet<u32>) -> usize {
        let leaves = |hostdev: &&Hostdev| is_on(hostdev, index) && self.of_port(hostdev).is_some();
        let devices = self.domain.hostdevs.iter().filter(leaves).count();
        let on = |c: &&Controller| c.address.is_some_and(|a| u32::from(a.at.bus()) == index);
        let controllers = self.domain.controllers.iter().filter(on);
        devices + controllers.filter(|c| unused.contains(&c.index)).count()
    }

    /// `<iommufd>` of the domain.
    fn iommufd(&self) -> Option<Edit> {
        let iommufd = self.domain.platform.iommufd.as_ref();
        let iommufd = iommufd.filter(|_| self.added().has(&Piece::Iommufd))?;
        Some(iommufd.element.remove())
    }

    /// `<qemu:override>`, while it says nothing but links.
    fn overrides(&self) -> Option<Edit> {
        let overrides = self.domain.overrides.as_ref();
        let overrides = overrides.filter(|_| self.added().has(&Piece::Override))?;
        let mut names = overrides
            .properties
            .iter()
            .map(|property| property.name.as_str());
        names
            .all(|name| matches!(name, "x-speed" | "x-width"))
            .then(|| overrides.element.remove())
    }

    /// Our ACPI tables, or the element around them where we made it and nothing else is in it.
    fn tables(&self) -> Vec<Edit> {
        let ours = |table: &&AcpiTable| self.added().has(&Piece::Table(table.path.clone()));
        let platform = &self.domain.platform;
        let going: Vec<&AcpiTable> = platform.acpi_tables.iter().filter(ours).collect();
        let all = going.len() == platform.acpi_tables.len();
        match &platform.os_acpi {
            Some(acpi) if all && self.added().has(&Piece::Acpi) => vec![acpi.remove()],
            _ => going
                .into_iter()
                .map(|table| table.element.remove())
                .collect(),
        }
    }

    /// NUMA cells and address width: the whole `<cpu>` where nothing else was in it.
    fn cpu(&self) -> Vec<Edit> {
        let mut edits = self.numa();
        let width = self.domain.platform.address_width_element.as_ref();
        let width = width.filter(|_| width::is_ours(self.domain, self.mark));
        edits.extend(width.map(Element::remove));
        let whole = self.domain.numa.is_none() || self.whole_numa_goes();
        let empty = whole && edits.len() == self.domain.cpu_children;
        match self.domain.cpu.as_ref().filter(|_| empty) {
            Some(cpu) if self.added().opened(Opened::Cpu) => vec![cpu.collapse()],
            Some(cpu) if self.added().has(&Piece::Cpu) && self.domain.cpu_is_bare => {
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
        if self.added().has(&Piece::Cells) && self.only_first_left(&gone) {
            gone.insert(0);
            if let (true, Some(numa)) = (self.added().opened(Opened::Numa), &self.domain.numa) {
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
        let is_ours = self.added().has(&Piece::Cpu) || self.added().has(&Piece::Numa);
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
                .any(|hostdev| self.of_cells(hostdev).is_none())
        };
        let empty = |id: &u32| self.domain.cell(*id).is_some_and(Cell::is_empty);
        ours.flat_map(|marked| marked.cells.iter())
            .filter(|id| empty(id) && !foreign(id))
            .collect()
    }

    /// Distances of a cell that stays, to cells that go.
    fn distances(&self, cell: &Cell, gone: &BTreeSet<u32>) -> Vec<Edit> {
        let added = self.added();
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

    /// Our arguments of QEMU, or the element around them where we made it and nothing else is in it.
    fn command_line(&self) -> Vec<Edit> {
        let ours = command_line::ours(self.domain);
        match &self.domain.command_line {
            Some(line)
                if self.added().has(&Piece::CommandLine) && line.arguments.len() == ours.len() =>
            {
                vec![line.element.remove()]
            }
            _ => ours
                .into_iter()
                .map(|argument| argument.element.remove())
                .collect(),
        }
    }

    /// Our window, unless its size is another by now: then it is the user's.
    fn window(&self) -> Option<Edit> {
        let root = self.domain.controller(0)?;
        let hole = root.hole64_element.as_ref()?;
        root.hole64_kib
            .filter(|kib| window::is_ours(self.mark, *kib))?;
        let added = self.added();
        if added.has(&Piece::Root) {
            Some(root.element.remove())
        } else if added.opened(Opened::Root) {
            Some(root.element.collapse())
        } else {
            Some(hole.remove())
        }
    }

    fn metadata(&self) -> Edit {
        match &self.domain.metadata {
            Some(metadata)
                if self.added().has(&Piece::Metadata) && self.domain.metadata_is_ours =>
            {
                metadata.remove()
            }
            Some(metadata)
                if self.added().opened(Opened::Metadata) && self.domain.metadata_is_ours =>
            {
                metadata.collapse()
            }
            _ => self.mark.element.remove(),
        }
    }
}

/// True for a `<driver>` as an entry recorded it.
fn has_driver(marked: &Marked, hostdev: &Hostdev) -> bool {
    let (Some(ours), Some(driver)) = (&marked.driver, &hostdev.driver) else {
        return false;
    };
    let model = driver.model.as_deref().unwrap_or(plan_driver::PLAIN);
    let through = !marked.added.has(&Piece::Iommufd) || driver.iommufd == Some(true);
    plan_driver::same(model, ours) && through
}

fn is_on(hostdev: &Hostdev, bus: u32) -> bool {
    hostdev
        .address
        .is_some_and(|a| u32::from(a.at.bus()) == bus)
}

/// The address goes, or the one from before comes back.
fn address(marked: &Marked, hostdev: &Hostdev) -> Option<Edit> {
    let address = hostdev.address_element.as_ref()?;
    Some(back(address, marked.replaced.as_ref()))
}

/// An element goes, or the one from before comes back as it stood there.
fn back(element: &Element, before: Option<&String>) -> Edit {
    match before {
        Some(before) => Edit {
            span: element.span.clone(),
            text: before.clone(),
        },
        None => element.remove(),
    }
}

/// `<driver>`, while it says no more than we wrote; else the attributes that we gave it.
fn driver(marked: &Marked, driver: &Driver) -> Vec<Edit> {
    let added = &marked.added;
    let (whole, iommufd) = (added.has(&Piece::Driver), added.has(&Piece::Iommufd));
    let theirs = driver.iommufd.is_some() && !iommufd;
    if whole && driver.is_bare && !theirs {
        return vec![driver.element.remove()];
    }
    let model = driver.model_attribute.clone();
    let model = model.filter(|_| whole || added.has(&Piece::Model));
    let through = driver.iommufd_attribute.clone();
    let through = through.filter(|_| iommufd && driver.iommufd == Some(true));
    model
        .into_iter()
        .chain(through)
        .map(Edit::removal)
        .collect()
}

#[cfg(test)]
mod tests;
