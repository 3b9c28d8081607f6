//! The pieces that a definition asks for: by its elements, by the mark of what was planned, and by `<qemu:commandline>`.
//!
//! Reads the text by itself, without the agent's own reader, so that one fault cannot hide in both.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use roxmltree::{Document, Node};

use super::argument;
use super::found::{self, Places};
use super::piece::{Piece, Place};
use super::size;

const MARK: &str = "urn:variantd:1";
const QEMU: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// A definition as it was written, and as libvirt completed it.
pub struct Definition<'a> {
    written: &'a Document<'a>,
    completed: &'a Document<'a>,
}

/// One hostdev.
struct Hostdev {
    host: String,
    at: Place,
    aliases: Vec<String>,
    through_iommufd: bool,
}

impl<'a> Definition<'a> {
    /// From both texts; only addresses and bus numbers that were not written are taken from the second.
    pub fn new(written: &'a Document<'a>, completed: &'a Document<'a>) -> Self {
        Self { written, completed }
    }

    /// What it asks for.
    pub fn pieces(&self) -> Result<BTreeSet<Piece>> {
        let hostdevs = self.hostdevs()?;
        let mut pieces = BTreeSet::new();
        for (position, cell) in elements(self.written, &["cpu", "numa", "cell"]).enumerate() {
            pieces.extend(node(cell, position)?);
        }
        mirror(&mut pieces);
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

    fn hostdevs(&self) -> Result<Vec<Hostdev>> {
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
                aliases: alias.into_iter().map(str::to_owned).collect(),
                through_iommufd: driver.map_or(enabled, |word| word == "yes"),
                host,
            })
        };
        pci_hostdevs(self.written).map(read).collect()
    }

    fn assigned(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
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

    /// What the mark says was planned: initiators of each device, alone on a root port at slot 0, function 0.
    fn marked(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
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

    /// The port that a planned device is on.
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

    fn by_arguments(&self, hostdevs: &[Hostdev]) -> Result<BTreeSet<Piece>> {
        let places: Places = hostdevs
            .iter()
            .flat_map(|hostdev| {
                hostdev
                    .aliases
                    .iter()
                    .map(|alias| (alias.clone(), hostdev.at.clone()))
            })
            .collect();
        let values = self
            .written
            .descendants()
            .filter(|node| node.has_tag_name((QEMU, "arg")));
        let words: Vec<String> = values
            .filter_map(|argument| argument.attribute("value").map(str::to_owned))
            .collect();
        let arguments = argument::pair(&words).context("cannot read <qemu:commandline>")?;
        // what is by itself on the command line has no more properties than it says
        let mut pieces = found::pieces(&arguments, &places)?;
        pieces.retain(|piece| !matches!(piece, Piece::Property { .. }));
        Ok(pieces)
    }

    /// `<qemu:override>`, whose devices have the ids that libvirt gives them.
    fn overridden(&self) -> Result<BTreeSet<Piece>> {
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
                // QEMU has all but the bus under the same names
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

fn node(cell: Node<'_, '_>, position: usize) -> Result<Vec<Piece>> {
    let position = u32::try_from(position).context("too many cells")?;
    let number =
        |element: Node<'_, '_>, name| -> Option<u32> { element.attribute(name)?.parse().ok() };
    let node = number(cell, "id").unwrap_or(position);
    let memory = cell.attribute("memory").unwrap_or("0");
    let mut pieces = vec![Piece::Node {
        node,
        cpus: cell.attribute("cpus").unwrap_or_default().to_owned(),
        kib: size::scaled(memory, cell.attribute("unit")).context("a cell's memory is no size")?,
    }];
    let siblings = child(cell, "distances")
        .into_iter()
        .flat_map(|distances| distances.children());
    for sibling in siblings.filter(Node::is_element) {
        pieces.push(Piece::Distance {
            from: node,
            to: number(sibling, "id").context("a sibling has no id")?,
            value: number(sibling, "value").context("a sibling has no value")?,
        });
    }
    Ok(pieces)
}

/// A distance that is written in one direction is libvirt's for the other as well.
fn mirror(pieces: &mut BTreeSet<Piece>) {
    let distances = pieces.iter().filter_map(|piece| match piece {
        Piece::Distance { from, to, value } => Some(((*from, *to), *value)),
        _ => None,
    });
    let written: BTreeMap<(u32, u32), u32> = distances.collect();
    let one_way = written
        .iter()
        .filter(|((from, to), _)| !written.contains_key(&(*to, *from)));
    pieces.extend(one_way.map(|((from, to), value)| Piece::Distance {
        from: *to,
        to: *from,
        value: *value,
    }));
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

fn window(root: Node<'_, '_>) -> Result<Option<Piece>> {
    let Some(window) = child(root, "pcihole64") else {
        return Ok(None);
    };
    let kib = size::scaled(window.text().unwrap_or_default(), window.attribute("unit"));
    Ok(Some(Piece::Window {
        kib: kib.context("<pcihole64> is no size")?,
    }))
}

fn pci_hostdevs<'a>(document: &'a Document<'_>) -> impl Iterator<Item = Node<'a, 'a>> {
    elements(document, &["devices", "hostdev"])
        .filter(|hostdev| hostdev.attribute("mode") == Some("subsystem"))
        .filter(|hostdev| hostdev.attribute("type") == Some("pci"))
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

/// Elements at this path below the root.
fn elements<'a>(document: &'a Document<'_>, path: &[&str]) -> impl Iterator<Item = Node<'a, 'a>> {
    let mut found = vec![document.root_element()];
    for name in path {
        let below = found.iter().flat_map(Node::children);
        found = below.filter(|node| node.has_tag_name(*name)).collect();
    }
    found.into_iter()
}

fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

fn integer(text: &str) -> Option<u64> {
    text.strip_prefix("0x").map_or_else(
        || text.parse().ok(),
        |digits| u64::from_str_radix(digits, 16).ok(),
    )
}
