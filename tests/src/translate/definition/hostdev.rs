//! Host devices: their guest addresses, the nodes of their initiators, and the plan in the mark.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use super::element::{child, elements, integer};
use super::{Definition, port};
use crate::translate::piece::{Piece, Place};

const MARK: &str = "urn:variantd:1";

/// One hostdev.
pub(super) struct Hostdev {
    host: String,
    pub(super) at: Place,
    pub(super) alias: Option<String>,
    through_iommufd: bool,
}

impl Definition<'_> {
    /// All PCI hostdevs, in the order of the definition.
    pub(super) fn hostdevs(&self) -> Result<Vec<Hostdev>> {
        let completed: BTreeMap<String, Place> = pci_hostdevs(self.completed)
            .filter_map(|hostdev| Some((source(hostdev)?, self.place(hostdev)?)))
            .collect();
        let enabled = elements(self.written, &["iommufd"])
            .any(|iommufd| iommufd.attribute("enabled") == Some("yes"));
        let read = |hostdev: Node<'_, '_>| {
            let host = source(hostdev).context("a hostdev has no source address")?;
            let at = self
                .place(hostdev)
                .or_else(|| completed.get(&host).cloned());
            let driver = child(hostdev, "driver").and_then(|driver| driver.attribute("iommufd"));
            let alias = child(hostdev, "alias").and_then(|alias| alias.attribute("name"));
            anyhow::Ok(Hostdev {
                at: at.with_context(|| format!("hostdev '{host}' has no address"))?,
                alias: alias.map(str::to_owned),
                through_iommufd: driver.map_or(enabled, |word| word == "yes"),
                host,
            })
        };
        pci_hostdevs(self.written).map(read).collect()
    }

    /// The pieces of their elements.
    pub(super) fn assigned(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
        let mut pieces = BTreeSet::new();
        for (element, hostdev) in pci_hostdevs(self.written).zip(hostdevs) {
            let at = || hostdev.at.clone();
            let host = (!hostdev.through_iommufd).then(|| hostdev.host.clone());
            pieces.insert(Piece::Hostdev { at: at(), host });
            if hostdev.through_iommufd {
                pieces.extend([Piece::Iommufd, Piece::Through { at: at() }]);
            }
            let nodeset = child(element, "acpi").and_then(|acpi| acpi.attribute("nodeset"));
            pieces.extend(initiators(&hostdev.at, nodeset.unwrap_or_default())?);
        }
        Ok(pieces)
    }

    /// The pieces in the mark: initiators of each device, which is alone on a root port at slot 0, function 0.
    pub(super) fn marked(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
        let devices = self
            .written
            .descendants()
            .filter(|node| node.has_tag_name((MARK, "device")));
        let mut pieces = BTreeSet::new();
        for device in devices {
            let host = device.attribute("address").unwrap_or_default();
            let hostdev = hostdevs.iter().find(|hostdev| hostdev.host == host);
            let hostdev =
                hostdev.with_context(|| format!("no hostdev for the planned '{host}'"))?;
            let at = Place {
                bus: hostdev.at.bus.clone(),
                addr: "0x0".to_owned(),
            };
            pieces.extend(initiators(
                &at,
                device.attribute("cells").unwrap_or_default(),
            )?);
            pieces.insert(self.port_of(&at));
            pieces.insert(Piece::Hostdev { at, host: None });
        }
        Ok(pieces)
    }

    /// The port of a planned device.
    fn port_of(&self, at: &Place) -> Piece {
        let mut controllers = elements(self.written, &["devices", "controller"]);
        let port = controllers.find_map(|controller| {
            let index = controller.attribute("index")?;
            let model = controller.attribute("model")?;
            let is_it = self.bus(index) == at.bus;
            port(model, at.bus.clone(), None).filter(|_| is_it)
        });
        port.unwrap_or_else(|| Piece::Port {
            id: at.bus.clone(),
            bus: None,
        })
    }
}

fn initiators(device: &Place, nodeset: &str) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    for part in nodeset.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let wrong = || format!("'{nodeset}' is no list of nodes");
        let (first, last): (u32, u32) = (
            first.trim().parse().with_context(wrong)?,
            last.trim().parse().with_context(wrong)?,
        );
        pieces.extend((first..=last).map(|node| Piece::Initiator {
            device: device.clone(),
            node,
        }));
    }
    Ok(pieces)
}

fn pci_hostdevs<'a>(document: &'a Document<'_>) -> impl Iterator<Item = Node<'a, 'a>> {
    let hostdevs = elements(document, &["devices", "hostdev"])
        .filter(|hostdev| hostdev.attribute("mode") == Some("subsystem"))
        .filter(|hostdev| hostdev.attribute("type") == Some("pci"));
    let interfaces = elements(document, &["devices", "interface"])
        .filter(|interface| interface.attribute("type") == Some("hostdev"));
    hostdevs.chain(interfaces)
}

fn source(hostdev: Node<'_, '_>) -> Option<String> {
    let address = child(child(hostdev, "source")?, "address")?;
    let number = |name| address.attribute(name).map_or(Some(0), integer);
    Some(format!(
        "{:04x}:{:02x}:{:02x}.{:x}",
        number("domain")?,
        number("bus")?,
        number("slot")?,
        number("function")?
    ))
}
