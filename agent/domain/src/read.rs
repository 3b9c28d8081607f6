//! Parses domain XML into [`Domain`]; all definitions enter the program here.

use std::collections::BTreeMap;
use std::ops::Range;

use kernel_glue::numa::RangeList;
use roxmltree::{Document, Node, NodeId, ParsingOptions};

use super::number::{self, Base};
use super::outline::Outline;
use super::value::{
    below, cell_memory, child, children, decimal, element, is, list, memory, nodeset, number,
    optional, pci_address, property, property_node, required, required_decimal, text, text_number,
    uuid, value, window,
};
use super::{
    Argument, Binding, Cell, CommandLine, Controller, Domain, Driver, GuestAddress, Hostdev, Kind,
    Mark, Marked, MemoryNode, NAMESPACE, Options, QEMU_NAMESPACE, Sibling, cell, index, read_other,
};
use crate::code::Code;
use crate::edit::Element;
use crate::extension::extensions;
use crate::options::{self, OptionsElement};
use crate::refusal::Refusal;
use crate::shape;

/// Maximum size of a definition in bytes.
pub const MAX_BYTES: usize = 1 << 20;

/// Maximum number of XML nodes of a definition.
const MAX_NODES: u32 = 1 << 17;

/// Maximum number of guest processors; QEMU's machines have at most 4096.
pub(crate) const MAX_VCPUS: u32 = 1 << 16;

/// Maximum number of cells, and one more than the maximum cell id; QEMU supports 128.
const MAX_CELLS: usize = 1024;

/// Maximum length of any other list of a definition: controllers, hostdevs, other devices, memory nodes, arguments.
const MAX_ITEMS: usize = 4096;

impl Domain {
    /// Parses a definition.
    ///
    /// # Errors
    /// A refusal with a `VD-XML` code if the text is too large, has a document type declaration, is not well-formed, is
    /// not a domain, or has an invalid value.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        is_short(text)?;
        let outline = Outline::of(text);
        // The outline has no distances, which are most of a large text, and is read much faster.
        if !outline.is_whole()
            && let Ok(domain) = read(&outline)
        {
            return Ok(domain);
        }
        // Line numbers in a refusal refer to the whole text.
        read(&Outline::whole(text))
    }
}

/// Reads the parsed outline of a text.
pub(super) fn read(outline: &Outline<'_>) -> Result<Domain, Refusal> {
    let document = parsed(outline.parsed())?;
    let root = document.root_element();
    if !is(root, "domain") {
        return Err(no_domain(&format!(
            "the root element is <{}>",
            root.tag_name().name()
        )));
    }
    let domain = Reader { outline }.domain(root)?;
    crowded(&domain).map_or(Ok(domain), Err)
}

/// Parses XML of a definition or a device within the limits of a definition.
///
/// # Errors
/// As [`Domain::parse`], but for the content.
pub(super) fn document(text: &str) -> Result<Document<'_>, Refusal> {
    is_short(text)?;
    parsed(text)
}

fn is_short(text: &str) -> Result<(), Refusal> {
    match text.len() {
        0..=MAX_BYTES => Ok(()),
        size => Err(too_large(&format!("the definition has {size} bytes"))),
    }
}

fn parsed(text: &str) -> Result<Document<'_>, Refusal> {
    if let Some(excess) = shape::excess(text) {
        return Err(too_large(&format!(
            "the definition is too complex: {excess}"
        )));
    }
    let options = ParsingOptions {
        allow_dtd: false,
        // The parser's own limit: `shape` counts no nodes.
        nodes_limit: MAX_NODES,
        ..Default::default()
    };
    Document::parse_with_options(text, options).map_err(unparsable)
}

/// Refuses counts that no guest can have, and lists whose planning cost is quadratic.
fn crowded(domain: &Domain) -> Option<Refusal> {
    let cell = domain.cells.iter().map(|cell| cell.id as usize + 1).max();
    let arguments = domain
        .command_line
        .as_ref()
        .map_or(0, |line| line.arguments.len());
    let marked = domain.mark.as_ref().map_or(0, |mark| mark.devices.len());
    let in_cells = domain.cells.iter().map(|cell| cell.cpus.len()).sum();
    let counts = [
        ("processors", domain.vcpus as usize, MAX_VCPUS as usize),
        (
            "NUMA cells",
            domain.cells.len().max(cell.unwrap_or(0)),
            MAX_CELLS,
        ),
        // Cells that share vCPUs are refused by libvirt, so the sum is that of the vCPUs.
        ("processors in NUMA cells", in_cells, MAX_VCPUS as usize),
        ("<memnode>", domain.memory_nodes.len(), MAX_ITEMS),
        ("<vcpupin>", domain.binding.pins.len(), MAX_VCPUS as usize),
        ("iothreads", domain.tuning.iothreads as usize, MAX_ITEMS),
        ("<iothreadpin>", domain.binding.iothreads.len(), MAX_ITEMS),
        ("<page>", domain.tuning.page_kib.len(), MAX_CELLS),
        ("PCI controllers", domain.controllers.len(), MAX_ITEMS),
        ("PCI hostdevs", domain.hostdevs.len(), MAX_CELLS),
        ("NVMe disks", domain.elsewhere.len(), MAX_ITEMS),
        ("networks", domain.networks.len(), MAX_ITEMS),
        ("devices", domain.other_addresses.len(), MAX_ITEMS),
        ("EGM memory devices", domain.platform.egm.len(), MAX_CELLS),
        ("arguments for QEMU", arguments, MAX_ITEMS),
        ("marked devices", marked, MAX_CELLS),
    ];
    let over = counts.into_iter().find(|(_, count, limit)| count > limit);
    over.map(|(what, count, limit)| {
        let reason = format!("the definition has {count} {what}; the limit is {limit}");
        Refusal::new(
            Code::XmlTooLarge,
            reason,
            "pass the definition of one domain",
        )
    })
}

pub(super) struct Reader<'t> {
    outline: &'t Outline<'t>,
}

impl Reader<'_> {
    fn domain(&self, root: Node<'_, '_>) -> Result<Domain, Refusal> {
        let name = child(root, "name").map(text).unwrap_or_default();
        if name.is_empty() {
            return Err(no_domain("<name> is missing"));
        }
        let os_type = below(root, "os", "type").next();
        let cpu = child(root, "cpu");
        let numa = cpu.and_then(|cpu| child(cpu, "numa"));
        let metadata = child(root, "metadata");
        let options = options::node(metadata);
        let vcpus = child(root, "vcpu").map(|node| text_number(node, number::wrapping));
        // libvirt gives a guest without <vcpu> one processor.
        let vcpus = vcpus.transpose()?.unwrap_or(1);
        let cells = self.cells(numa, vcpus)?;
        let memory_devices_kib = memory_devices(root)?;
        let written = child(root, "memory").map(memory).transpose()?.flatten();
        Ok(Domain {
            name,
            uuid: child(root, "uuid").map(uuid).transpose()?,
            arch: os_type
                .and_then(|node| node.attribute("arch"))
                .map(str::to_owned),
            machine: os_type
                .and_then(|node| node.attribute("machine"))
                .map(str::to_owned),
            default_machine: None,
            memory_kib: total_memory(written.unwrap_or(0), &cells, memory_devices_kib),
            memory_devices_kib,
            vcpus,
            cpu: cpu.map(|node| self.element(node)),
            cpu_is_bare: cpu.is_some_and(|cpu| cpu.attributes().len() == 0),
            cpu_children: cpu.map_or(0, |cpu| cpu.children().filter(Node::is_element).count()),
            numa: numa.map(|node| self.element(node)),
            numbered: cells.iter().zip(0..).all(|(cell, place)| cell.id == place),
            memory_nodes: memory_nodes(root)?,
            binding: binding(root)?,
            tuning: self.tuning(root)?,
            controllers: self.controllers(root)?,
            hostdevs: self.hostdevs(root)?,
            elsewhere: read_other::elsewhere(root)?,
            lockers: read_other::lockers(root),
            networks: networks(root),
            video_is_unplaced: read_other::video_is_unplaced(root),
            other_addresses: other_addresses(root)?,
            devices: child(root, "devices").map(|node| self.element(node)),
            element: self.element(root),
            command_line: command_line(root).map(|node| self.command_line(node)),
            overrides: self.overrides(root),
            metadata: metadata.map(|node| self.element(node)),
            metadata_is_ours: metadata.is_some_and(is_bare),
            heading: self.element(heading(root)),
            platform: self.platform(root)?,
            extensions: extensions(root),
            options: Options::read(options)?,
            options_element: options.map(|node| OptionsElement {
                element: self.element(node),
                egm: self.attribute(node, "egm"),
                numa: self.attribute(node, "numa"),
            }),
            layout: metadata
                .map(|metadata| self.layout_record(root, metadata, &cells))
                .transpose()?
                .flatten(),
            cells,
            mark: metadata
                .and_then(mark_node)
                .map(|node| self.mark(node))
                .transpose()?,
        })
    }

    pub(super) fn element(&self, node: Node<'_, '_>) -> Element {
        Element::locate(self.outline.text, self.outline.span(node))
    }

    /// The span of an attribute, with the white space before it.
    fn attribute(&self, node: Node<'_, '_>, name: &str) -> Option<Range<usize>> {
        let attribute = property_node(node, name)?;
        Some(self.outline.attribute(attribute))
    }

    /// A node as written.
    fn written(&self, node: Node<'_, '_>) -> String {
        self.outline.text[self.outline.span(node)].to_owned()
    }

    fn cells(&self, numa: Option<Node<'_, '_>>, vcpus: u32) -> Result<Vec<Cell>, Refusal> {
        let nodes = numa.into_iter().flat_map(|numa| children(numa, "cell"));
        let cells = nodes
            .enumerate()
            .map(|(position, node)| self.cell(position, node));
        let mut cells: Vec<Cell> = cells.collect::<Result<_, _>>()?;
        cell::give_rest(&mut cells, vcpus.min(MAX_VCPUS));
        Ok(cells)
    }

    fn cell(&self, position: usize, node: Node<'_, '_>) -> Result<Cell, Refusal> {
        let distances = child(node, "distances");
        let siblings = distances.map(|node| self.siblings(node)).transpose()?;
        let siblings = siblings.unwrap_or_default();
        Ok(Cell {
            id: decimal(node, "id")?.unwrap_or(u32::try_from(position).unwrap_or(u32::MAX)),
            cpus: list(node, "cpus")?.unwrap_or_default(),
            memory_kib: cell_memory(node)?,
            distances: siblings.iter().map(|one| (one.id, one.value)).collect(),
            siblings,
            distances_element: distances.map(|node| self.element(node)),
            element: self.element(node),
        })
    }

    fn siblings(&self, distances: Node<'_, '_>) -> Result<Vec<Sibling>, Refusal> {
        if let Some(siblings) = self.outline.siblings(distances) {
            return Ok(siblings);
        }
        let sibling = |node: Node<'_, '_>| {
            let span = self.element(node).remove().span;
            let (id, distance) = (
                required_decimal(node, "id")?,
                required_decimal(node, "value")?,
            );
            let distance = u8::try_from(distance)
                .map_err(|_| value(node, "value", &format!("{distance} is above 255")))?;
            Sibling::new(id, distance, span)
                .ok_or_else(|| value(node, "", "its position exceeds the limit"))
        };
        children(distances, "sibling").map(sibling).collect()
    }

    fn controllers(&self, root: Node<'_, '_>) -> Result<Vec<Controller>, Refusal> {
        let pci: Vec<Node<'_, '_>> = below(root, "devices", "controller")
            .filter(is_pci)
            .collect();
        let decimal = |text: &str| number::signed(text, Base::Decimal);
        let written = pci.iter().map(|node| number(*node, "index", decimal));
        let indexes = index::assigned(&written.collect::<Result<Vec<_>, _>>()?);
        let pci = pci.into_iter().zip(indexes);
        pci.map(|(node, index)| self.controller(node, index))
            .collect()
    }

    fn controller(&self, node: Node<'_, '_>, index: u32) -> Result<Controller, Refusal> {
        let target = child(node, "target");
        let bus_number = target.map(bus_number).transpose()?.flatten();
        let model = property(node, "model").unwrap_or_default();
        // libvirt reads <pcihole64> of a root only.
        let hole64 = child(node, "pcihole64").filter(|_| matches!(model, "pcie-root" | "pci-root"));
        Ok(Controller {
            index,
            model: model.to_owned(),
            bus_number,
            cell: target.map(cell_of).transpose()?.flatten(),
            hotplug: target.and_then(|target| property(target, "hotplug")) != Some("off"),
            // An empty one counts as zero, because it hides any other.
            hole64_kib: hole64
                .map(window)
                .transpose()?
                .map(Option::unwrap_or_default),
            hole64_element: hole64.map(|node| self.element(node)),
            address: guest_address(node)?,
            element: self.element(node),
        })
    }

    fn hostdevs(&self, root: Node<'_, '_>) -> Result<Vec<Hostdev>, Refusal> {
        let networks = below(root, "devices", "interface");
        let networks = networks.filter(|node| kind(node).is_some());
        let hostdevs = below(root, "devices", "hostdev");
        // libvirt's own order: it parses interfaces before <hostdev>, and numbers the host devices of both together.
        let numbered: Vec<NodeId> = networks.chain(hostdevs).map(|node| node.id()).collect();
        let place = |node: &Node<'_, '_>| numbered.iter().position(|id| *id == node.id());
        let nodes = children(root, "devices").flat_map(|devices| devices.children());
        let assigned = nodes.filter_map(|node| Some((kind(&node)?, node)));
        assigned
            .map(|(kind, node)| self.hostdev(kind, place(&node).unwrap_or_default(), node))
            .collect()
    }

    fn hostdev(&self, kind: Kind, place: usize, node: Node<'_, '_>) -> Result<Hostdev, Refusal> {
        // libvirt assumes 0000:00:00.0 if there is no address: the host's root complex, which no user means.
        let source = child(node, "source")
            .and_then(|source| child(source, "address"))
            .ok_or_else(|| value(node, "source", "no <source><address>"))?;
        let (acpi, alias) = (child(node, "acpi"), child(node, "alias"));
        Ok(Hostdev {
            kind,
            place,
            source: pci_address(source)?,
            managed: property(node, "managed") == Some("yes"),
            driver: child(node, "driver").map(|node| self.driver(node)),
            alias: alias
                .and_then(|alias| alias.attribute("name"))
                .map(str::to_owned),
            alias_text: alias.map(|node| self.written(node)),
            alias_element: alias.map(|node| self.element(node)),
            nodeset: acpi.map(nodeset).transpose()?.flatten(),
            nodeset_attribute: acpi.and_then(|acpi| self.attribute(acpi, "nodeset")),
            acpi_element: acpi.map(|node| self.element(node)),
            address: guest_address(node)?,
            address_text: child(node, "address").map(|node| self.written(node)),
            address_element: child(node, "address").map(|node| self.element(node)),
            element: self.element(node),
        })
    }

    fn driver(&self, node: Node<'_, '_>) -> Driver {
        let model = property(node, "model");
        let others = node
            .attributes()
            .filter(|a| !matches!(a.name(), "model" | "name" | "iommufd"));
        Driver {
            name: property(node, "name").map(str::to_owned),
            model: model.map(str::to_owned),
            model_attribute: self.attribute(node, "model"),
            iommufd: property(node, "iommufd").map(|word| word == "yes"),
            iommufd_attribute: self.attribute(node, "iommufd"),
            is_bare: others.count() == 0 && !node.children().any(|child| child.is_element()),
            element: self.element(node),
        }
    }

    fn command_line(&self, node: Node<'_, '_>) -> CommandLine {
        let arguments = node
            .children()
            .filter(|n| n.has_tag_name((QEMU_NAMESPACE, "arg")));
        let argument = |node: Node<'_, '_>| Argument {
            value: node.attribute("value").unwrap_or_default().to_owned(),
            element: self.element(node),
        };
        let element = self.element(node);
        let tag = &self.outline.text[element.span.clone()];
        let name = tag[1..].split("commandline").next().unwrap_or_default();
        CommandLine {
            arguments: arguments.map(argument).collect(),
            prefix: name.to_owned(),
            element,
        }
    }

    fn mark(&self, node: Node<'_, '_>) -> Result<Mark, Refusal> {
        let devices = node
            .children()
            .filter(|n| n.has_tag_name((NAMESPACE, "device")));
        let devices = devices.map(|device| {
            Ok(Marked {
                address: required(device, "address")?,
                recipe: device.attribute("recipe").unwrap_or_default().to_owned(),
                cells: optional(device, "cells")?.unwrap_or_default(),
                added: optional(device, "added")?.unwrap_or_default(),
                replaced: element(device, "replaced", "address", |node| address(node).is_ok())?,
                alias: element(device, "alias", "alias", |_| true)?,
                driver: device.attribute("driver").map(str::to_owned),
            })
        });
        Ok(Mark {
            devices: devices.collect::<Result<_, Refusal>>()?,
            added: optional(node, "added")?.unwrap_or_default(),
            digest: node.attribute("digest").unwrap_or_default().to_owned(),
            element: self.element(node),
        })
    }
}

/// True for an element without attributes and with one child.
fn is_bare(node: Node<'_, '_>) -> bool {
    node.attributes().len() == 0 && node.children().filter(Node::is_element).count() == 1
}

pub(super) fn command_line<'a, 'i>(root: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    root.children()
        .find(|child| child.has_tag_name((QEMU_NAMESPACE, "commandline")))
}

fn mark_node<'a, 'i>(metadata: Node<'a, 'i>) -> Option<Node<'a, 'i>> {
    metadata
        .children()
        .find(|child| child.has_tag_name((NAMESPACE, "prepared")))
}

fn heading<'a, 'i>(root: Node<'a, 'i>) -> Node<'a, 'i> {
    let names = ["name", "uuid", "genid", "title", "description"];
    let headings = root
        .children()
        .filter(|node| names.iter().any(|name| is(*node, name)));
    headings.fold(root, |_, node| node)
}

/// The kind of an element that assigns a PCI function; `None` for any other element.
fn kind(node: &Node<'_, '_>) -> Option<Kind> {
    let of_type = property(*node, "type");
    let subsystem = property(*node, "mode").unwrap_or("subsystem") == "subsystem";
    if is(*node, "hostdev") && subsystem && of_type == Some("pci") {
        return Some(Kind::Hostdev);
    }
    if !is(*node, "interface") || of_type != Some("hostdev") {
        return None;
    }
    let address = child(*node, "source").and_then(|source| child(source, "address"));
    let is_usb = address.and_then(|address| property(address, "type")) == Some("usb");
    (!is_usb).then_some(Kind::Interface)
}

fn networks(root: Node<'_, '_>) -> BTreeMap<String, usize> {
    let interfaces = below(root, "devices", "interface");
    let interfaces = interfaces.filter(|node| property(*node, "type") == Some("network"));
    let sources = interfaces.filter_map(|interface| child(interface, "source"));
    let mut networks = BTreeMap::new();
    for name in sources.filter_map(|source| property(source, "network")) {
        *networks.entry(name.to_owned()).or_default() += 1;
    }
    networks
}

fn is_pci(controller: &Node<'_, '_>) -> bool {
    property(*controller, "type") == Some("pci")
}

/// `busNr` of an expander bus; another rule checks its range.
fn bus_number(target: Node<'_, '_>) -> Result<Option<u8>, Refusal> {
    let bus = number(target, "busNr", |text| number::signed(text, Base::Any))?;
    let above = |bus| value(target, "busNr", &format!("{bus:#x} is above 0xff"));
    bus.map(|bus| u8::try_from(bus).map_err(|_| above(bus)))
        .transpose()
}

/// `<node>` of an expander bus; `None` if empty.
fn cell_of(target: Node<'_, '_>) -> Result<Option<u32>, Refusal> {
    let node = child(target, "node").filter(|node| !text(*node).is_empty());
    let cell = |text: &str| number::signed(text, Base::Decimal);
    node.map(|node| text_number(node, cell)).transpose()
}

fn memory_nodes(root: Node<'_, '_>) -> Result<Vec<MemoryNode>, Refusal> {
    let nodes = below(root, "numatune", "memnode");
    nodes
        .map(|node| {
            Ok(MemoryNode {
                cell: required_decimal(node, "cellid")?,
                nodes: nodeset(node)?
                    .ok_or_else(|| value(node, "nodeset", "the value is missing"))?,
            })
        })
        .collect()
}

/// libvirt ignores lists if numad places the guest.
fn binding(root: Node<'_, '_>) -> Result<Binding, Refusal> {
    let manual = |node: &Node<'_, '_>| property(*node, "placement") != Some("auto");
    let memory = below(root, "numatune", "memory").find(manual);
    let vcpu = child(root, "vcpu").filter(manual);
    let pins = |name, id| {
        let nodes = below(root, "cputune", name);
        let pins = nodes.map(|node| Ok((required_decimal(node, id)?, cpuset(node)?)));
        pins.collect::<Result<BTreeMap<u32, RangeList>, Refusal>>()
    };
    let emulator = below(root, "cputune", "emulatorpin").next();
    Ok(Binding {
        memory: memory.map(nodeset).transpose()?.flatten(),
        pins: pins("vcpupin", "vcpu")?,
        emulator: emulator.map(cpuset).transpose()?,
        iothreads: pins("iothreadpin", "iothread")?,
        cpuset: vcpu.map(|node| list(node, "cpuset")).transpose()?.flatten(),
    })
}

fn cpuset(node: Node<'_, '_>) -> Result<RangeList, Refusal> {
    let cpuset = list(node, "cpuset")?;
    cpuset.ok_or_else(|| value(node, "cpuset", "the value is missing"))
}

/// The sum of all DIMMs and other memory devices, in KiB. Memory of model `egm` is that of a cell.
fn memory_devices(root: Node<'_, '_>) -> Result<u64, Refusal> {
    let devices = below(root, "devices", "memory").filter(|node| !is_egm(node));
    let targets = devices.filter_map(|node| child(node, "target"));
    let sizes = targets.filter_map(|target| child(target, "size"));
    sizes
        .map(|size| Ok(memory(size)?.unwrap_or(0)))
        .try_fold(0, |sum: u64, size| Ok(sum.saturating_add(size?)))
}

/// True for `<memory model='egm'>`.
pub(super) fn is_egm(memory: &Node<'_, '_>) -> bool {
    property(*memory, "model") == Some("egm")
}

/// All memory of the guest as libvirt counts it: if there are cells, `<memory>` does not count
/// (virDomainDefPostParseMemory).
fn total_memory(written: u64, cells: &[Cell], devices: u64) -> u64 {
    let add = |sum: u64, cell: &Cell| sum.saturating_add(cell.memory_kib);
    match cells.iter().fold(0, add) {
        0 => written,
        cells => cells.saturating_add(devices),
    }
}

fn other_addresses(root: Node<'_, '_>) -> Result<Vec<GuestAddress>, Refusal> {
    let others = children(root, "devices").flat_map(|devices| devices.children());
    let others = others.filter(|node| {
        node.is_element() && node.tag_name().namespace().is_none() && !is_own_address(node)
    });
    others
        .filter_map(|node| guest_address(node).transpose())
        .collect()
}

/// True for devices whose addresses are read elsewhere.
fn is_own_address(node: &Node<'_, '_>) -> bool {
    (is(*node, "controller") && is_pci(node)) || kind(node).is_some()
}

fn guest_address(device: Node<'_, '_>) -> Result<Option<GuestAddress>, Refusal> {
    child(device, "address").map_or(Ok(None), address)
}

fn address(node: Node<'_, '_>) -> Result<Option<GuestAddress>, Refusal> {
    if property(node, "type") != Some("pci") {
        return Ok(None);
    }
    let at = pci_address(node)?;
    // Slot 0 of bus 0 requests that libvirt chooses an address (virPCIDeviceAddressIsEmpty), like `<address
    // type='pci'/>`.
    if (at.domain(), at.bus(), at.device()) == (0, 0, 0) {
        return Ok(None);
    }
    let multifunction = property(node, "multifunction") == Some("on");
    Ok(Some(GuestAddress { at, multifunction }))
}

fn unparsable(error: roxmltree::Error) -> Refusal {
    match error {
        roxmltree::Error::DtdDetected => Refusal::new(
            Code::XmlDtd,
            "the definition has a document type declaration",
            "remove <!DOCTYPE ...>",
        ),
        roxmltree::Error::NodesLimitReached => {
            too_large(&format!("the definition has over {MAX_NODES} nodes"))
        }
        other => Refusal::new(
            Code::XmlMalformed,
            format!("the definition is not well-formed XML: {other}"),
            "check it with 'xmllint --noout FILE'",
        ),
    }
}

fn too_large(what: &str) -> Refusal {
    let reason = format!("{what}; the limit is {MAX_BYTES} bytes");
    Refusal::new(
        Code::XmlTooLarge,
        reason,
        "pass the definition of one domain",
    )
}

fn no_domain(why: &str) -> Refusal {
    let hint = "pass domain XML as 'virsh dumpxml --inactive' prints it";
    Refusal::new(
        Code::XmlNoDomain,
        format!("not a domain definition: {why}"),
        hint,
    )
}

#[cfg(test)]
mod tests;
