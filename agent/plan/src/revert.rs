//! Reverts exactly what was added to a definition, by its mark. Pure.
//!
//! Later changes of the user are kept: a cell that got memory, an address that was moved, a root port with another device. For an
//! unchanged definition the result is the original XML, byte for byte.
//!
//! A hostdev can have another source than when it was completed, because the user exchanged the GPU. So an address, nodeset or
//! alias is recognised by its value: the port, cell or name that the mark records.

use crate::layout;
use crate::plan::smmu::iommufd;
use crate::plan::{
    alias, cells, command_line, driver, egm, expander, link, mark as plan_mark, numa, placement,
    table, window,
};
use crate::removed::Removed;
use domain::code::Code;
use domain::edit::{self, Edit};
use domain::refusal::Refusal;
use domain::{Definition, Domain, Hostdev, Mark, Marked};

/// The definition without the added elements; unchanged if it has no mark.
///
/// # Errors
/// A refusal if the mark leads to overlapping edits.
pub fn revert(definition: &Definition) -> Result<String, Refusal> {
    let text = pieces(definition)?;
    if definition.domain().layout.is_none() {
        return Ok(text);
    }
    // The pieces were planned for the definition with the layout, so the layout is removed last.
    let without = Definition::parse(text)?;
    applied(without.text(), &layout::undo(without.domain()))
}

/// What [`revert`] removed from a definition to get `after`.
#[must_use]
pub fn removed(definition: &Definition, after: &str) -> Removed {
    let (text, domain) = (definition.text(), definition.domain());
    let pieces = domain.mark.as_ref();
    let pieces = pieces.map_or_else(Vec::new, |mark| Undo { domain, mark }.edits());
    // The layout lies around the pieces: in the definition that has both it is where it is without them.
    let layout = domain.layout.as_ref().map(|_| layout::undo(domain));
    Removed::of(text, after, pieces.iter().chain(layout.iter().flatten()))
}

/// The same with a NUMA layout that was added.
pub(crate) fn pieces(definition: &Definition) -> Result<String, Refusal> {
    let (text, domain) = (definition.text(), definition.domain());
    let Some(mark) = &domain.mark else {
        return Ok(text.to_owned());
    };
    let undo = Undo { domain, mark };
    applied(text, &undo.edits())
}

fn applied(text: &str, edits: &[Edit]) -> Result<String, Refusal> {
    edit::apply(text, edits).map_err(|error| {
        let hint = "please report this with the definition";
        Refusal::new(
            Code::XmlValue,
            format!("internal error: overlapping edits while reverting: {error}"),
            hint,
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
        let (domain, mark) = (self.domain, self.mark);
        let is_leaving = |hostdev: &Hostdev| self.entry(hostdev, placement::is_carried).is_some();
        edits.extend(expander::undo(domain, mark, is_leaving));
        edits.extend(iommufd::undo(domain, mark));
        edits.extend(egm::undo(domain, mark));
        edits.extend(link::undo(domain, mark));
        edits.extend(table::undo(domain, mark));
        edits.extend(command_line::undo(domain, mark));
        let is_ours = |hostdev: &Hostdev| self.entry(hostdev, numa::is_carried).is_some();
        edits.extend(cells::undo(domain, mark, is_ours));
        edits.extend(window::undo(domain, mark));
        edits.push(plan_mark::undo(domain, mark));
        edits
    }

    /// Reverts nodeset, alias, driver and address of a device, if they are ours.
    fn device(&self, hostdev: &Hostdev) -> Vec<Edit> {
        let nodeset = self.entry(hostdev, numa::is_carried);
        let alias = self.entry(hostdev, alias::is_carried);
        let port = self.entry(hostdev, placement::is_carried);
        let known = self.of_any(hostdev).zip(hostdev.driver.as_ref());
        let nodeset = nodeset.and_then(|marked| numa::undo(marked, hostdev));
        let alias = alias.and_then(|marked| alias::undo(marked, hostdev));
        let driver = known.map(|(marked, known)| driver::undo(marked, known));
        let address = port.and_then(|marked| placement::undo(marked, hostdev));
        let edits = nodeset.into_iter().chain(alias);
        let edits = edits.chain(driver.into_iter().flatten());
        edits.chain(address).collect()
    }

    /// The mark's entry whose pieces a hostdev has.
    fn of_any(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let carried = self.entry(hostdev, placement::is_carried);
        carried
            .or_else(|| self.entry(hostdev, numa::is_carried))
            .or_else(|| self.entry(hostdev, alias::is_carried))
            .or_else(|| self.of_driver(hostdev))
            .or_else(|| self.own(hostdev))
    }

    /// The mark's entry for a hostdev's device.
    fn own(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let mut devices = self.mark.devices.iter();
        devices.find(|marked| marked.address == hostdev.source)
    }

    /// The mark's entry whose `<driver>` a hostdev has. Two devices of one recipe have the same driver, so each keeps its own entry:
    /// the user may have written the driver for one of them.
    fn of_driver(&self, hostdev: &Hostdev) -> Option<&Marked> {
        let own = self.own(hostdev);
        if own.is_some_and(|own| driver::is_carried(own, hostdev)) {
            return own;
        }
        let carried = self.entry(hostdev, driver::is_carried);
        carried.filter(|marked| own.is_none_or(|own| own.recipe != marked.recipe))
    }

    /// The mark's entry of which a hostdev has a piece. If the entry's own device has the piece as well, the user wrote it for the
    /// other device; otherwise the user exchanged the two devices.
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
}

#[cfg(test)]
mod tests;
