//! The pieces of QEMU arguments.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};

use super::argument::{Argument, Properties};
use super::piece::{Piece, Place};
use super::size;

/// QEMU's names of host devices.
const HOSTDEVS: [&str; 2] = ["vfio-pci", "vfio-pci-nohotplug"];
/// IOMMUs that are separate devices, in addition to `arm-smmuv3`.
const IOMMUS: [&str; 3] = ["intel-iommu", "amd-iommu", "virtio-iommu-pci"];

/// The place of each device by its id.
pub type Places = BTreeMap<String, Place>;

/// The place of each device in the arguments.
pub fn places(arguments: &[Argument]) -> Result<Places> {
    let mut places = Places::new();
    for device in of(arguments, "-device")? {
        if let (Some(id), Some(place)) = (device.named("id"), place(&device)) {
            places.insert(id.to_owned(), place);
        }
    }
    Ok(places)
}

/// All pieces of the arguments; `places` has the places of the devices that initiators name.
pub fn pieces(arguments: &[Argument], places: &Places) -> Result<BTreeSet<Piece>> {
    let memory = memory(arguments)?;
    let mut pieces = BTreeSet::new();
    for argument in arguments {
        let read = || argument.properties();
        match argument.option.as_str() {
            "-numa" => pieces.extend(numa(&read()?, &memory)?),
            "-object" => pieces.extend(object(&read()?, places)?),
            "-device" => {
                let read = read()?;
                pieces.extend(device(&read)?);
                pieces.extend(properties(&read));
            }
            "-machine" | "-M" => pieces.extend(machine(&read()?)?),
            "-global" => pieces.extend(global(&read()?)?),
            _ => {}
        }
    }
    Ok(pieces)
}

fn of(arguments: &[Argument], option: &str) -> Result<Vec<Properties>> {
    let of = arguments.iter().filter(|a| a.option == option);
    of.map(Argument::properties).collect()
}

/// Size of each memory backend, in KiB.
fn memory(arguments: &[Argument]) -> Result<BTreeMap<String, u64>> {
    let objects = of(arguments, "-object")?;
    let sized = |object: &Properties| {
        let id = object.named("id")?.to_owned();
        Some((id, size::kib(object.named("size")?)?))
    };
    Ok(objects.iter().filter_map(sized).collect())
}

fn numa(read: &Properties, memory: &BTreeMap<String, u64>) -> Result<Option<Piece>> {
    let number = |name: &str| {
        let number = read
            .number(name)
            .and_then(|number| u32::try_from(number).ok());
        number.with_context(|| format!("'-numa {}' has no number '{name}'", read.kind))
    };
    let piece = match read.kind.as_str() {
        "node" => Piece::Node {
            node: number("nodeid")?,
            cpus: read.named("cpus").unwrap_or_default().to_owned(),
            kib: backed(read, memory)?,
        },
        "dist" => Piece::Distance {
            from: number("src")?,
            to: number("dst")?,
            value: number("val")?,
        },
        _ => return Ok(None),
    };
    Ok(Some(piece))
}

fn backed(node: &Properties, memory: &BTreeMap<String, u64>) -> Result<u64> {
    let Some(backend) = node.named("memdev") else {
        return Ok(0);
    };
    let size = memory.get(backend).copied();
    size.with_context(|| format!("the memory backend '{backend}' of a node does not exist"))
}

fn object(read: &Properties, places: &Places) -> Result<Option<Piece>> {
    let piece = match read.kind.as_str() {
        "iommufd" => Piece::Iommufd,
        "acpi-generic-initiator" => {
            let node = read
                .number("node")
                .and_then(|node| u32::try_from(node).ok());
            let device = read
                .named("pci-dev")
                .context("an initiator has no device")?;
            Piece::Initiator {
                device: places.get(device).cloned().unwrap_or_else(|| Place {
                    bus: "no bus".to_owned(),
                    addr: format!("the unknown device '{device}'"),
                }),
                node: node.context("an initiator has no node")?,
            }
        }
        _ => return Ok(None),
    };
    Ok(Some(piece))
}

fn device(read: &Properties) -> Result<Vec<Piece>> {
    let id = || read.named("id").unwrap_or_default().to_owned();
    let bus = || read.named("bus").map(str::to_owned);
    Ok(match read.kind.as_str() {
        "pxb-pcie" => vec![Piece::Expander {
            bus: id(),
            number: read
                .number("bus_nr")
                .context("an expander has no bus number")?,
            node: read.number("numa_node"),
        }],
        "pcie-root-port" | "ioh3420" => [None, bus()]
            .map(|bus| Piece::Port { id: id(), bus })
            .to_vec(),
        "x3130-upstream" | "xio3130-downstream" => [None, bus()]
            .map(|bus| Piece::SwitchPort { id: id(), bus })
            .to_vec(),
        "arm-smmuv3" => vec![smmu(read)],
        kind if IOMMUS.contains(&kind) => vec![Piece::Iommu {
            kind: kind.to_owned(),
        }],
        kind if HOSTDEVS.contains(&kind) => hostdev(read)?,
        _ => Vec::new(),
    })
}

fn properties(read: &Properties) -> Vec<Piece> {
    let id = read.named("id");
    let all = read.named.iter();
    let of = |device: &str| {
        let property = |(name, value): (&String, &String)| Piece::Property {
            device: device.to_owned(),
            name: name.clone(),
            value: value.clone(),
        };
        all.map(property).collect()
    };
    id.map_or_else(Vec::new, of)
}

fn smmu(read: &Properties) -> Piece {
    let mut attributes = read.named.clone();
    attributes.remove("id");
    Piece::Smmu {
        bus: attributes.remove("primary-bus").unwrap_or_default(),
        attributes,
    }
}

/// A host device with or without its host address: with iommufd libvirt passes a descriptor instead.
fn hostdev(read: &Properties) -> Result<Vec<Piece>> {
    let at = place(read).context("a hostdev is on no bus")?;
    let host = read.named("host").map(str::to_owned);
    let mut pieces: Vec<Piece> = [None, host]
        .map(|host| Piece::Hostdev {
            at: at.clone(),
            host,
        })
        .to_vec();
    if read.named("iommufd").is_some() {
        pieces.push(Piece::Through { at });
    }
    Ok(pieces)
}

fn place(read: &Properties) -> Option<Place> {
    Some(Place {
        bus: read.named("bus")?.to_owned(),
        addr: read.named("addr")?.to_owned(),
    })
}

fn machine(read: &Properties) -> Result<Vec<Piece>> {
    let mut pieces = Vec::new();
    if read.named("iommu") == Some("smmuv3") {
        pieces.push(Piece::Smmu {
            bus: "machine".to_owned(),
            attributes: BTreeMap::new(),
        });
    }
    pieces.extend(window(read.named("highmem-mmio-size"))?);
    Ok(pieces)
}

fn global(read: &Properties) -> Result<Option<Piece>> {
    let short = read.named("q35-pcihost.pci-hole64-size");
    let long = || {
        let is_window = read.named("driver") == Some("q35-pcihost")
            && read.named("property") == Some("pci-hole64-size");
        read.named("value").filter(|_| is_window)
    };
    window(short.or_else(long))
}

fn window(text: Option<&str>) -> Result<Option<Piece>> {
    let Some(text) = text else {
        return Ok(None);
    };
    let kib = size::kib(text).with_context(|| format!("the window size '{text}' is not a size"))?;
    Ok(Some(Piece::Window { kib }))
}
