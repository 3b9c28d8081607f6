//! The topology file that NCCL reads (`NCCL_TOPO_FILE`): processors, switches, and the devices below them.
//!
//! Follows NCCL's reader (src/graph/xml.cc, topo.cc): version 1; elements `system`, `cpu` and `pci`; no XML
//! declaration, one blank between attributes, at most 16 of them; `busid` in lower case with four digits of domain.
//! Root and downstream switch ports are left out, as NCCL itself does. Values that NCCL reads in the guest when the file does
//! not have them are left out as well: a GPU's rank and architecture, and the processor's model on x86.
//!
//! NCCL looks a `busid` up in the guest's sysfs and in the file, and takes two elements with one value for one device. So a
//! guest's file has each value once. The host's switches do not exist in the guest; they get ids in PCI domain ffff, because
//! QEMU's machines have only domain 0.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::numa::RangeList;

use super::bus_number::Numbers;
use super::host::speed;
use domain::Domain;
use domain::code::Code;
use planner::plan::{Note, binding, bus_number};
use planner::recipe::Recipes;

/// Characters of an attribute's value.
const MAX_VALUE: usize = 255;

/// A `pci` element.
struct Pci<'a> {
    busid: String,
    device: &'a Device,
    below: Vec<Pci<'a>>,
}

/// A `cpu` element: a node with processors.
struct Cpu<'a> {
    cpus: RangeList,
    below: Vec<Pci<'a>>,
}

/// A device and where NCCL will find it.
struct Found<'a> {
    node: u32,
    busid: PciAddress,
    device: &'a Device,
}

/// The file, with warnings about devices that it leaves out or whose place is predicted.
#[derive(Clone, Debug)]
pub(crate) struct File {
    /// For `NCCL_TOPO_FILE`.
    pub text: String,
    /// NCCL places a device that the file does not have by the guest's sysfs.
    pub warnings: Vec<Note>,
}

/// The file for the host itself.
#[must_use]
pub(crate) fn host(host: &Host, recipes: &Recipes) -> File {
    let wanted = |device: &&Device| is_wanted(device) || recipes.for_device(device).is_some();
    let found = host.devices.values().filter(wanted).map(|device| Found {
        node: node(host, device),
        busid: device.address,
        device,
    });
    let nodes = host.numa.sockets();
    let nodes = nodes.map(|node| (node.id.into(), node.cpus.clone()));
    // Only x86 kernels print the address sizes in /proc/cpuinfo.
    let arch = host.address_bits.map_or("arm64", |_| "x86_64");
    file(
        host,
        arch,
        nodes.collect(),
        found.collect(),
        Ids::Own,
        Vec::new(),
    )
}

/// The NUMA node of a device: its own, or that of the first bridge of its path.
fn node(host: &Host, device: &Device) -> u32 {
    let first = device.ancestors.first().and_then(|at| host.devices.get(at));
    // A switch is in one place only, so what is below it goes by the top of the path.
    let switched = !switches(host, device).is_empty();
    let node = match switched {
        true => first.and_then(|first| first.numa_node).or(device.numa_node),
        false => device.numa_node.or(first.and_then(|first| first.numa_node)),
    };
    node.map_or(0, u32::from)
}

/// The file for a guest: its host devices where the guest sees them, below the switches that the host has them on.
#[must_use]
pub(crate) fn guest(host: &Host, domain: &Domain) -> File {
    let overlap = bus_number::check(domain).map(|refusal| Note {
        code: refusal.code,
        device: None,
        text: format!(
            "{}, so ids in the file may be wrong: {}",
            refusal.reason, refusal.hint
        ),
    });
    let mut warnings: Vec<Note> = overlap.into_iter().collect();
    let numbers = Numbers::of(domain);
    let mut seen = BTreeSet::new();
    let known = domain.hostdevs.iter().filter_map(|one| {
        let device = host.devices.get(&one.source)?;
        seen.insert(one.source).then_some((one, device))
    });
    let mut found = Vec::new();
    for (one, device) in known {
        let address = one.address.map(|address| address.at);
        let Some((at, busid)) = address.and_then(|at| Some((at, numbers.seen_at(at)?))) else {
            warnings.push(unplaced(one.source));
            continue;
        };
        warnings.extend(
            numbers
                .is_predicted(at)
                .then(|| predicted(one.source, busid)),
        );
        let own = cell(domain, at.bus().into());
        let bound = || binding::cell_on(&host.numa, domain, device.numa_node?);
        found.push(Found {
            node: own.or_else(bound).unwrap_or(0),
            busid,
            device,
        });
    }
    let cells = domain.cells.iter().filter(|cell| !cell.cpus.is_empty());
    let mut nodes: BTreeMap<u32, RangeList> =
        cells.map(|cell| (cell.id, cell.cpus.clone())).collect();
    // A guest without cells has all its CPUs on node 0.
    nodes
        .entry(0)
        .or_insert_with(|| RangeList::from(0..domain.vcpus));
    let arch = match domain.arch.as_deref() {
        Some("aarch64") => "arm64",
        _ => "x86_64",
    };
    file(host, arch, nodes, found, Ids::Foreign(0), warnings)
}

/// GPUs, accelerators (AMD's Instinct), networks and NVSwitches: what NCCL and RCCL plan with.
fn is_wanted(device: &Device) -> bool {
    matches!(device.class >> 16, 0x02 | 0x03) || matches!(device.class >> 8, 0x0680 | 0x1200)
}

/// The ids of the host's switches in the file.
#[derive(Clone, Copy, Debug)]
enum Ids {
    /// Their own addresses.
    Own,
    /// Addresses that no guest has; the number of those in use.
    Foreign(u16),
}

impl Ids {
    fn next(&mut self, switch: &Device) -> String {
        match self {
            Self::Own => switch.address.to_string(),
            Self::Foreign(count) => {
                let [bus, device] = [*count >> 5, *count & 0x1f];
                *count += 1;
                format!("ffff:{bus:02x}:{device:02x}.0")
            }
        }
    }
}

const BY_NAME: &str =
    "define the guest and ask for it by name: 'variantctl topology --nccl --domain NAME'";

fn unplaced(device: PciAddress) -> Note {
    let text = format!(
        "left out, since the definition does not say at which bus number the guest sees it; {BY_NAME}"
    );
    Note {
        code: Code::GuestNoAddress,
        device: Some(device),
        text,
    }
}

fn predicted(device: PciAddress, busid: PciAddress) -> Note {
    let text = format!(
        "taken at '{busid}', where libvirt will probably put it, because not all ports have an address yet; to be certain, {BY_NAME}"
    );
    Note {
        code: Code::GuestNoAddress,
        device: Some(device),
        text,
    }
}

fn unwritable(one: &Found<'_>, known: &BTreeSet<PciAddress>) -> Option<Note> {
    let at = one.busid;
    let (code, why) = if at.domain() > 0xffff {
        (Code::LinkUnknown, "NCCL reads PCI domains of four digits")
    } else if known.contains(&at) {
        (
            Code::GuestBusNumbers,
            "another device has that id in the file",
        )
    } else {
        return None;
    };
    Some(Note {
        code,
        device: Some(one.device.address),
        text: format!("left out, since its id is '{at}': {why}"),
    })
}

fn file(
    host: &Host,
    arch: &str,
    nodes: BTreeMap<u32, RangeList>,
    found: Vec<Found<'_>>,
    mut ids: Ids,
    mut warnings: Vec<Note>,
) -> File {
    let cpu = |cpus| Cpu {
        cpus,
        below: Vec::new(),
    };
    let mut cpus: BTreeMap<u32, Cpu<'_>> = nodes
        .into_iter()
        .map(|(id, cpus)| (id, cpu(cpus)))
        .collect();
    let mut known = BTreeSet::new();
    for one in found {
        if let Some(warning) = unwritable(&one, &known) {
            warnings.push(warning);
            continue;
        }
        known.insert(one.busid);
        let busid = one.busid.to_string();
        let home = cpus
            .entry(one.node)
            .or_insert_with(|| cpu(RangeList::default()));
        insert(
            &mut home.below,
            &switches(host, one.device),
            Pci {
                busid,
                device: one.device,
                below: Vec::new(),
            },
            &mut ids,
        );
    }
    let mut out = String::from("<system version=\"1\">\n");
    for (id, cpu) in &cpus {
        out.push_str(&element(host, *id, cpu, arch));
    }
    out.push_str("</system>\n");
    let text = out;
    File { text, warnings }
}

/// The upstream ports above a device, from the root: one for each switch.
fn switches<'a>(host: &'a Host, device: &Device) -> Vec<&'a Device> {
    let above = device
        .ancestors
        .iter()
        .filter_map(|at| host.devices.get(at));
    let upstream = |one: &&Device| {
        let port = one.config.express().map(|express| express.port);
        port == Some(Port::UpstreamPort)
    };
    above.filter(upstream).collect()
}

fn insert<'a>(level: &mut Vec<Pci<'a>>, path: &[&'a Device], leaf: Pci<'a>, ids: &mut Ids) {
    let Some((first, rest)) = path.split_first() else {
        return level.push(leaf);
    };
    let known = level
        .iter()
        .position(|pci| pci.device.address == first.address);
    let index = known.unwrap_or_else(|| {
        level.push(Pci {
            busid: ids.next(first),
            device: first,
            below: Vec::new(),
        });
        level.len() - 1
    });
    insert(&mut level[index].below, rest, leaf, ids);
}

fn element(host: &Host, id: u32, cpu: &Cpu<'_>, arch: &str) -> String {
    let mask = mask(&cpu.cpus);
    // NCCL reads a value that is left out in the guest, and refuses one that is too long (xml.h, MAX_STR_LEN).
    let affinity = match mask.len() <= MAX_VALUE {
        true => format!(" affinity=\"{mask}\""),
        false => String::new(),
    };
    let head = format!("  <cpu numaid=\"{id}\"{affinity} arch=\"{arch}\"");
    if cpu.below.is_empty() {
        return format!("{head}/>\n");
    }
    let below: String = cpu.below.iter().map(|pci| pci.text(host, 4)).collect();
    format!("{head}>\n{below}  </cpu>\n")
}

impl Pci<'_> {
    fn text(&self, host: &Host, indent: usize) -> String {
        let (id, class) = (self.device.id, self.device.class);
        let head = format!(
            "{:indent$}<pci busid=\"{}\" class=\"{class:#08x}\" vendor=\"{:#06x}\" device=\"{:#06x}\"{}",
            "",
            self.busid,
            id.vendor,
            id.device,
            link(host, self.device)
        );
        if self.below.is_empty() {
            return format!("{head}/>\n");
        }
        let below: String = self
            .below
            .iter()
            .map(|pci| pci.text(host, indent + 2))
            .collect();
        format!("{head}>\n{below}{:indent$}</pci>\n", "")
    }
}

/// The slower of a device's link and its port's; nothing where they are not visible.
fn link(host: &Host, device: &Device) -> String {
    let above = device.ancestors.last().and_then(|at| host.devices.get(at));
    let both = [Some(device), above].into_iter().flatten();
    let known = both.filter_map(|one| one.config.express());
    let known: Vec<_> = known.filter(|express| speed(express).is_some()).collect();
    let slowest = known.iter().min_by_key(|express| express.link_speed());
    let width = known.iter().map(|express| express.link_width()).min();
    let speed = slowest.and_then(|express| speed(express));
    match speed.zip(width) {
        Some((speed, width)) => {
            // NCCL compares with the kernel's text, such as `32.0 GT/s PCIe` (kvDictPciGen in src/graph/topo.cc).
            let dot = if speed.contains('.') { "" } else { ".0" };
            format!(" link_speed=\"{speed}{dot} GT/s PCIe\" link_width=\"{width}\"")
        }
        None => String::new(),
    }
}

/// Processors as the kernel's `cpumap` prints them: 32 bits a group, the highest first.
fn mask(cpus: &RangeList) -> String {
    let groups = cpus.iter().max().map_or(1, |last| last / 32 + 1);
    let group = |number: u32| {
        let bits = cpus.iter().filter(|cpu| cpu / 32 == number);
        bits.fold(0u32, |mask, cpu| mask | 1 << (cpu % 32))
    };
    let texts: Vec<String> = (0..groups)
        .rev()
        .map(|number| format!("{:08x}", group(number)))
        .collect();
    texts.join(",")
}

/// The cell of the expander that a bus hangs from; `None` below the root bus.
fn cell(domain: &Domain, bus: u32) -> Option<u32> {
    let mut bus = bus;
    // Bounded, because the buses of a definition can be a loop.
    for _ in 0..=domain.controllers.len() + 1 {
        match domain.controller(bus) {
            Some(expander) if expander.model == "pcie-expander-bus" => return expander.cell,
            _ => bus = domain.bus_above(bus)?,
        }
    }
    None
}
