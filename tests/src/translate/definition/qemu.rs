//! The parts of a definition that libvirt passes to QEMU unchecked: `<qemu:commandline>` and `<qemu:override>`.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use roxmltree::Node;

use super::Definition;
use super::hostdev::Hostdev;
use crate::translate::argument;
use crate::translate::found::{self, Places};
use crate::translate::piece::Piece;

const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

impl Definition<'_> {
    /// `<qemu:commandline>`; its initiators name hostdevs by their aliases.
    pub(super) fn by_arguments(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
        let named = |one: &Hostdev| Some((one.alias.clone()?, one.at.clone()));
        let places: Places = hostdevs.iter().filter_map(named).collect();
        let values = self
            .written
            .descendants()
            .filter(|node| node.has_tag_name((QEMU, "arg")));
        let words: Vec<String> = values
            .filter_map(|argument| argument.attribute("value").map(str::to_owned))
            .collect();
        let arguments = argument::pair(&words).context("cannot read <qemu:commandline>")?;
        // a device of the command line has only the properties in its text
        let mut pieces = found::pieces(&arguments, &places)?;
        pieces.retain(|piece| !matches!(piece, Piece::Property { .. }));
        Ok(pieces)
    }

    /// `<qemu:override>`, whose devices have libvirt's ids.
    pub(super) fn overridden(&self) -> Result<BTreeSet<Piece>> {
        let properties = self.written.descendants();
        let properties = properties.filter(|node| node.has_tag_name((QEMU, "property")));
        let read = |property: Node<'_, '_>| {
            let device = property
                .ancestors()
                .find_map(|node| node.attribute("alias"));
            let value = match property.attribute("value")? {
                "true" => "on",
                "false" => "off",
                other => other,
            };
            Some(Piece::Property {
                device: device?.to_owned(),
                name: property.attribute("name")?.to_owned(),
                value: value.to_owned(),
            })
        };
        let read = |property| read(property).context("cannot read <qemu:override>");
        properties.map(read).collect()
    }
}
