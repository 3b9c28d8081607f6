//! The pieces of a definition: from its elements, from variantd's mark, and from `<qemu:commandline>`.
//!
//! It has its own parser instead of the agent's, so that a fault of the agent's parser is found.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use self::element::{child, elements, integer};
use super::piece::{Piece, Place};
use super::size;

mod cell;
mod element;
mod hostdev;
mod qemu;

/// A definition as given, and as libvirt completed it.
pub struct Definition<'a> {
    written: &'a Document<'a>,
    completed: &'a Document<'a>,
}

impl<'a> Definition<'a> {
    /// From both texts; only missing addresses and bus numbers come from the second.
    pub fn new(written: &'a Document<'a>, completed: &'a Document<'a>) -> Self {
        Self { written, completed }
    }

    /// Its pieces.
    pub fn pieces(&self) -> Result<BTreeSet<Piece>> {
        let hostdevs = self.hostdevs()?;
        let mut pieces = BTreeSet::new();
        for (position, cell) in elements(self.written, &["cpu", "numa", "cell"]).enumerate() {
            pieces.extend(cell::pieces(cell, position)?);
        }
        cell::mirror(&mut pieces);
        for controller in elements(self.written, &["devices", "controller"]) {
            pieces.extend(self.controller(controller)?);
        }
        for iommu in elements(self.written, &["devices", "iommu"]) {
            pieces.extend(self.iommu(iommu)?);
        }
        pieces.extend(self.assigned(&hostdevs)?);
        pieces.extend(self.marked(&hostdevs)?);
        pieces.extend(self.by_arguments(&hostdevs)?);
        pieces.extend(self.overridden()?);
        Ok(pieces)
    }

    fn controller(&self, controller: Node<'_, '_>) -> Result<Option<Piece>> {
        if controller.attribute("type") != Some("pci") {
            return Ok(None);
        }
        let index = controller.attribute("index").unwrap_or_default();
        Ok(match controller.attribute("model") {
            Some("pcie-root") => window(controller)?,
            Some("pcie-expander-bus") => Some(self.expander(controller, index)?),
            Some(model) => {
                let bus = self.place(controller).map(|place| place.bus);
                port(model, self.bus(index), bus)
            }
            None => None,
        })
    }

    fn expander(&self, controller: Node<'_, '_>, index: &str) -> Result<Piece> {
        let number = |controller| child(controller, "target")?.attribute("busNr");
        let written = number(controller).or_else(|| number(self.completed_controller(index)?));
        let node = child(controller, "target").and_then(|target| child(target, "node"));
        let node = node
            .and_then(|node| node.text())
            .map(|text| text.trim().parse());
        Ok(Piece::Expander {
            bus: self.bus(index),
            number: written
                .and_then(integer)
                .context("an expander has no bus number")?,
            node: node
                .transpose()
                .context("an expander's node is no number")?,
        })
    }

    fn iommu(&self, iommu: Node<'_, '_>) -> Result<Option<Piece>> {
        let driver = child(iommu, "driver");
        let attribute = |name| driver.and_then(|driver| driver.attribute(name));
        let kind = match iommu.attribute("model") {
            Some("smmuv3") => {
                let bus = attribute("pciBus").map(|index| self.bus(index));
                // QEMU has the same names except for the bus
                let others = driver.iter().flat_map(|driver| driver.attributes());
                let others = others.filter(|attribute| attribute.name() != "pciBus");
                return Ok(Some(Piece::Smmu {
                    bus: bus.unwrap_or_else(|| "machine".to_owned()),
                    attributes: others
                        .map(|attribute| {
                            (attribute.name().to_owned(), attribute.value().to_owned())
                        })
                        .collect(),
                }));
            }
            Some("intel") => "intel-iommu",
            Some("amd") => "amd-iommu",
            Some("virtio") => "virtio-iommu-pci",
            other => anyhow::bail!("an <iommu> has the unknown model {other:?}"),
        };
        Ok(Some(Piece::Iommu {
            kind: kind.to_owned(),
        }))
    }

    /// The id of the bus of the controller with this index: the user's alias or libvirt's.
    fn bus(&self, index: &str) -> String {
        let alias = |controller| child(controller, "alias")?.attribute("name");
        let own = self.completed_controller(index).and_then(alias);
        match own.filter(|alias| alias.starts_with("ua-")) {
            Some(alias) => alias.to_owned(),
            None if index == "0" => "pcie.0".to_owned(),
            None => format!("pci.{index}"),
        }
    }

    fn completed_controller(&self, index: &str) -> Option<Node<'a, 'a>> {
        elements(self.completed, &["devices", "controller"]).find(|controller| {
            controller.attribute("type") == Some("pci")
                && controller.attribute("index") == Some(index)
        })
    }

    fn place(&self, device: Node<'_, '_>) -> Option<Place> {
        let address = child(device, "address").filter(|a| a.attribute("type") == Some("pci"))?;
        let number = |name| address.attribute(name).and_then(integer);
        let function = number("function").filter(|function| *function != 0);
        let function = function.map_or_else(String::new, |function| format!(".{function:#x}"));
        Some(Place {
            bus: self.bus(&number("bus")?.to_string()),
            addr: format!("{:#x}{function}", number("slot")?),
        })
    }
}

fn port(model: &str, id: String, bus: Option<String>) -> Option<Piece> {
    match model {
        "pcie-root-port" => Some(Piece::Port { id, bus }),
        "pcie-switch-upstream-port" | "pcie-switch-downstream-port" => {
            Some(Piece::SwitchPort { id, bus })
        }
        _ => None,
    }
}

fn window(root: Node<'_, '_>) -> Result<Option<Piece>> {
    let Some(window) = child(root, "pcihole64") else {
        return Ok(None);
    };
    let kib = size::scaled(window.text().unwrap_or_default(), window.attribute("unit"));
    Ok(Some(Piece::Window {
        kib: kib.context("<pcihole64> is no size")?,
    }))
}
