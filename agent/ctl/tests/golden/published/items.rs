//! The items of a completed definition that are compared with published guests.

use std::collections::{BTreeMap, BTreeSet};

use domain::{Cell, Domain, Hostdev};
use roxmltree::{Document, Node};

/// Each item with its value.
pub(super) fn of(text: &str) -> BTreeMap<&'static str, String> {
    let domain = Domain::parse(text).expect("a definition");
    let document = Document::parse(text).expect("XML");
    let root = document.root_element();
    BTreeMap::from([
        ("cells", cells(&domain)),
        ("initiators", initiators(&domain)),
        ("distances", distances(&domain)),
        ("window", window(&domain)),
        ("expanders of GPUs", expanders(&domain)),
        ("NICs", nics(&domain)),
        ("bus numbers", bus_numbers(&domain)),
        ("ports", ports(&domain).to_owned()),
        ("SMMUv3", smmus(root)),
        ("iommufd", iommufd(&domain).to_owned()),
        ("hostdev", hostdevs(&domain)),
        // No version of libvirt writes another type for a PCI hostdev.
        ("device type", "vfio-pci, by libvirt".to_owned()),
        ("ROM", on(!has(root, "rom"))),
        // libvirt has no element for it.
        ("port I/O", "QEMU's default".to_owned()),
        ("RAS", on(has(root, "ras"))),
        ("EGM", egm(&domain)),
        ("memory backing", backing(root).to_owned()),
        ("link", link(&domain).to_owned()),
        ("HMAT", on(has(root, "interconnects"))),
    ])
}

fn on(is_on: bool) -> String {
    let text = if is_on { "on" } else { "off" };
    text.to_owned()
}

fn joined(all: impl IntoIterator<Item = String>, with: &str) -> String {
    let all: Vec<String> = all.into_iter().collect();
    match all.is_empty() {
        true => "none".to_owned(),
        false => all.join(with),
    }
}

fn has(root: Node<'_, '_>, name: &str) -> bool {
    root.descendants().any(|node| node.has_tag_name(name))
}

fn cells(domain: &Domain) -> String {
    let cells = domain.cells.iter().filter(|cell| !cell.is_empty());
    joined(
        cells.map(|cell| format!("{}: cpus {}, {} KiB", cell.id, cell.cpus, cell.memory_kib)),
        "; ",
    )
}

fn initiators(domain: &Domain) -> String {
    let nodesets = domain
        .hostdevs
        .iter()
        .filter_map(|hostdev| hostdev.nodeset.as_ref());
    joined(nodesets.map(ToString::to_string), " ")
}

/// The values between kinds of cells.
fn distances(domain: &Domain) -> String {
    const KINDS: [&str; 6] = [
        "self",
        "CPU to CPU",
        "CPU to own",
        "CPU to other",
        "within",
        "between",
    ];
    let mut values: BTreeMap<usize, BTreeSet<u8>> = BTreeMap::new();
    for cell in &domain.cells {
        for (to, value) in &cell.distances {
            let other = domain.cell(*to).expect("a cell");
            values
                .entry(kind(domain, cell, other))
                .or_default()
                .insert(*value);
        }
    }
    let value = |(kind, values): (usize, BTreeSet<u8>)| {
        let values = joined(values.iter().map(ToString::to_string), " or ");
        format!("{} {values}", KINDS[kind])
    };
    joined(values.into_iter().map(value), ", ")
}

fn kind(domain: &Domain, from: &Cell, to: &Cell) -> usize {
    let (one, other) = (owner(domain, from), owner(domain, to));
    match (one, other) {
        _ if from.id == to.id => 0,
        (None, None) => 1,
        (Some(one), Some(other)) => 4 + usize::from(one.source != other.source),
        (Some(gpu), None) => 2 + usize::from(node(domain, gpu) != Some(to.id)),
        (None, Some(gpu)) => 2 + usize::from(node(domain, gpu) != Some(from.id)),
    }
}

fn owner<'a>(domain: &'a Domain, cell: &Cell) -> Option<&'a Hostdev> {
    let mut hostdevs = domain.hostdevs.iter();
    hostdevs.find(|hostdev| {
        hostdev
            .nodeset
            .as_ref()
            .is_some_and(|set| set.contains(cell.id))
    })
}

/// The index of the expander above a device.
fn expander(domain: &Domain, hostdev: &Hostdev) -> Option<u32> {
    let port = domain.controller(hostdev.address?.at.bus().into())?;
    let index = u32::from(port.address?.at.bus());
    (domain.controller(index)?.model == "pcie-expander-bus").then_some(index)
}

/// The cell of the expander above a device.
fn node(domain: &Domain, hostdev: &Hostdev) -> Option<u32> {
    domain.controller(expander(domain, hostdev)?)?.cell
}

fn window(domain: &Domain) -> String {
    let hole = domain.controller(0).and_then(|root| root.hole64_kib);
    hole.map_or_else(|| "none".to_owned(), |kib| format!("{kib} KiB"))
}

/// The cell of each expander with a GPU.
fn expanders(domain: &Domain) -> String {
    let mut members: BTreeMap<u32, usize> = BTreeMap::new();
    for index in domain
        .hostdevs
        .iter()
        .filter_map(|hostdev| expander(domain, hostdev))
    {
        *members.entry(index).or_default() += 1;
    }
    let text = |(index, count): (u32, usize)| {
        let cell = domain.controller(index).and_then(|expander| expander.cell);
        let cell = cell.map_or_else(|| "no node".to_owned(), |cell| format!("node {cell}"));
        match count {
            1 => cell,
            _ => format!("{cell} with {count} GPUs"),
        }
    };
    joined(members.into_iter().map(text), ", ")
}

/// Where the NICs are: devices without a variant driver.
fn nics(domain: &Domain) -> String {
    let has_driver = |hostdev: &&Hostdev| {
        let driver = hostdev.driver.as_ref();
        driver.is_some_and(|driver| driver.model.is_some())
    };
    let forms = domain.hostdevs.iter().filter(|one| !has_driver(one));
    let forms = forms.map(|nic| {
        let place = match expander(domain, nic) {
            Some(_) => "below an expander",
            None => "libvirt's place",
        };
        let nodeset = nic.nodeset.as_ref();
        let nodeset =
            nodeset.map_or_else(|| "no nodeset".to_owned(), |set| format!("nodeset {set}"));
        format!("{place}, {nodeset}")
    });
    joined(forms.collect::<BTreeSet<String>>(), "; ")
}

fn bus_numbers(domain: &Domain) -> String {
    let numbers = domain.controllers.iter().filter_map(|one| one.bus_number);
    joined(numbers.map(|number| number.to_string()), " ")
}

fn ports(domain: &Domain) -> &'static str {
    let alone = |hostdev: &Hostdev| {
        let Some(address) = hostdev.address else {
            return false;
        };
        let (at, bus) = (address.at, u32::from(address.at.bus()));
        let port = domain
            .controller(bus)
            .is_some_and(|port| port.model == "pcie-root-port");
        port && (at.device(), at.function()) == (0, 0)
            && !address.multifunction
            && domain.devices_on(bus) == 1
    };
    match domain.hostdevs.iter().all(alone) {
        true => "each alone at slot 0 function 0 of its own root port",
        false => "otherwise",
    }
}

fn smmus(root: Node<'_, '_>) -> String {
    let mut kinds: BTreeMap<String, usize> = BTreeMap::new();
    let smmus = root.descendants().filter(|node| node.has_tag_name("iommu"));
    for driver in smmus
        .flat_map(|iommu| iommu.children())
        .filter(|node| node.has_tag_name("driver"))
    {
        let named = driver.attributes().filter(|one| one.name() != "pciBus");
        let named: BTreeSet<String> = named
            .map(|one| format!("{} {}", one.name(), one.value()))
            .collect();
        *kinds.entry(joined(named, ", ")).or_default() += 1;
    }
    joined(
        kinds
            .into_iter()
            .map(|(kind, count)| format!("{count} x {kind}")),
        "; ",
    )
}

fn iommufd(domain: &Domain) -> &'static str {
    let through =
        |hostdev: &Hostdev| hostdev.driver.as_ref().and_then(|driver| driver.iommufd) == Some(true);
    match domain.hostdevs.iter().all(through) {
        true => "each hostdev",
        false => "not each",
    }
}

fn hostdevs(domain: &Domain) -> String {
    let forms = domain.hostdevs.iter().map(|hostdev| {
        let managed = if hostdev.managed { "yes" } else { "no" };
        let model = hostdev
            .driver
            .as_ref()
            .and_then(|driver| driver.model.as_deref());
        match model {
            Some(model) => format!("managed {managed}, model {model}"),
            None => format!("managed {managed}, no model"),
        }
    });
    joined(forms.collect::<BTreeSet<String>>(), "; ")
}

fn egm(domain: &Domain) -> String {
    let all = domain.platform.egm.iter().map(|one| {
        let cell = one.cell.expect("a cell");
        format!("{} {} MiB node {cell}", one.path, one.kib >> 10)
    });
    joined(all, "; ")
}

fn backing(root: Node<'_, '_>) -> &'static str {
    match (has(root, "memoryBacking"), has(root, "hugepages")) {
        (false, _) => "none",
        (true, true) => "hugepages",
        (true, false) => "other",
    }
}

fn link(domain: &Domain) -> &'static str {
    match &domain.overrides {
        Some(_) => "set",
        None => "none",
    }
}
