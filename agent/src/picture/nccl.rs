//! The topology file that NCCL reads (`NCCL_TOPO_FILE`): processors, switches, and the devices below them.
//!
//! Follows NCCL's reader (src/graph/xml.cc, topo.cc): version 1; elements `system`, `cpu` and `pci`; no XML
//! declaration, one blank between attributes, at most 16 of them; `busid` in lower case with four digits of domain.
//! Root and downstream switch ports are left out, as NCCL itself does. What NCCL reads in the guest where the file
//! has it not, is not in the file: a GPU's rank and architecture, and the processor's model on x86.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::numa::RangeList;

use super::host::speed;
use crate::code::Code;
use crate::domain::{Controller, Domain};
use crate::recipe::Recipes;
use crate::refusal::Refusal;

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

/// The file for the host itself.
///
/// # Errors
/// When an address has a PCI domain that NCCL cannot read.
pub fn host(host: &Host, recipes: &Recipes) -> Result<String, Refusal> {
    let wanted = |device: &&Device| is_wanted(device) || recipes.for_device(device).is_some();
    let found = host.devices.values().filter(wanted).map(|device| Found {
        node: device.numa_node.map_or(0, u32::from),
        busid: device.address,
        device,
    });
    let nodes = host.numa.nodes.iter().filter(|node| !node.cpus.is_empty());
    let nodes = nodes.map(|node| (node.id.into(), node.cpus.clone()));
    let arch = host.address_bits.map_or("arm64", |_| "x86_64");
    file(host, arch, nodes.collect(), found.collect())
}

/// The file for a guest: its host devices where the guest sees them, below the switches that the host has them on.
///
/// # Errors
/// When the definition does not say where the guest will see a device.
pub fn guest(host: &Host, domain: &Domain) -> Result<String, Refusal> {
    let numbers = bus_numbers(domain);
    let known = domain.hostdevs.iter().filter_map(|one| {
        let device = host.devices.get(&one.source)?;
        Some((one, device))
    });
    let found: Result<Vec<Found<'_>>, Refusal> = known
        .map(|(one, device)| {
            let address = one.address.map(|address| address.at);
            let busid = address.and_then(|at| seen_at(at, &numbers));
            let bus = address.map_or(0, |at| u32::from(at.bus()));
            Ok(Found {
                node: cell(domain, bus).unwrap_or(0),
                busid: busid.ok_or_else(|| unplaced(one.source))?,
                device,
            })
        })
        .collect();
    let cells = domain.cells.iter().filter(|cell| !cell.cpus.is_empty());
    let mut nodes: BTreeMap<u32, RangeList> =
        cells.map(|cell| (cell.id, cell.cpus.clone())).collect();
    nodes
        .entry(0)
        .or_insert_with(|| RangeList::from(0..domain.vcpus));
    let arch = match domain.arch.as_deref() {
        Some("aarch64") => "arm64",
        _ => "x86_64",
    };
    file(host, arch, nodes, found?)
}

/// GPUs, networks and NVSwitches: what NCCL plans with.
fn is_wanted(device: &Device) -> bool {
    matches!(device.class >> 16, 0x02 | 0x03) || device.class >> 8 == 0x0680
}

fn unplaced(device: PciAddress) -> Refusal {
    let reason = "the definition does not say at which bus number the guest sees it";
    let mend =
        "define the guest, and ask for it by name: 'variantctl topology --nccl --domain NAME'";
    Refusal::new(Code::GuestNoAddress, reason, mend).of(device)
}

fn file(
    host: &Host,
    arch: &str,
    nodes: BTreeMap<u32, RangeList>,
    found: Vec<Found<'_>>,
) -> Result<String, Refusal> {
    let cpu = |cpus| Cpu {
        cpus,
        below: Vec::new(),
    };
    let mut cpus: BTreeMap<u32, Cpu<'_>> = nodes
        .into_iter()
        .map(|(id, cpus)| (id, cpu(cpus)))
        .collect();
    for one in found {
        let busid = busid(one.busid)?;
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
        );
    }
    let mut out = String::from("<system version=\"1\">\n");
    for (id, cpu) in &cpus {
        out.push_str(&element(host, *id, cpu, arch));
    }
    Ok(out + "</system>\n")
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

fn insert<'a>(level: &mut Vec<Pci<'a>>, path: &[&'a Device], leaf: Pci<'a>) {
    let Some((first, rest)) = path.split_first() else {
        return level.push(leaf);
    };
    let known = level
        .iter()
        .position(|pci| pci.device.address == first.address);
    let index = known.unwrap_or_else(|| {
        level.push(Pci {
            busid: first.address.to_string(),
            device: first,
            below: Vec::new(),
        });
        level.len() - 1
    });
    insert(&mut level[index].below, rest, leaf);
}

fn element(host: &Host, id: u32, cpu: &Cpu<'_>, arch: &str) -> String {
    let head = format!(
        "  <cpu numaid=\"{id}\" affinity=\"{}\" arch=\"{arch}\"",
        mask(&cpu.cpus)
    );
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
            let dot = if speed.contains('.') { "" } else { ".0" };
            format!(" link_speed=\"{speed}{dot} GT/s PCIe\" link_width=\"{width}\"")
        }
        None => String::new(),
    }
}

fn busid(at: PciAddress) -> Result<String, Refusal> {
    if at.domain() > 0xffff {
        let reason = "NCCL reads PCI domains of four digits";
        let mend = "leave it out of the guest's file, or give it to no guest that uses NCCL";
        return Err(Refusal::new(Code::LinkUnknown, reason, mend).of(at));
    }
    Ok(at.to_string())
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

/// Bus numbers as firmware gives them: depth first in the order of slots; an expander has its own.
fn bus_numbers(domain: &Domain) -> BTreeMap<u32, u8> {
    let mut numbers = BTreeMap::from([(0, 0)]);
    number(domain, 0, &mut 1, &mut numbers);
    let expanders = domain
        .controllers
        .iter()
        .filter(|one| one.model == "pcie-expander-bus");
    for one in expanders {
        if let Some(own) = one.bus_number {
            numbers.insert(one.index, own);
            number(domain, one.index, &mut own.saturating_add(1), &mut numbers);
        }
    }
    numbers
}

fn number(domain: &Domain, bus: u32, next: &mut u8, numbers: &mut BTreeMap<u32, u8>) {
    let bridge = |one: &&Controller| one.model.contains("port") || one.model.ends_with("bridge");
    let mut here: Vec<_> = domain.controllers.iter().filter(bridge).collect();
    here.retain(|one| {
        one.address
            .is_some_and(|address| u32::from(address.at.bus()) == bus)
    });
    here.sort_by_key(|one| one.address.map(|address| address.at));
    for one in here {
        numbers.insert(one.index, *next);
        *next = next.saturating_add(1);
        number(domain, one.index, next, numbers);
    }
}

fn seen_at(at: PciAddress, numbers: &BTreeMap<u32, u8>) -> Option<PciAddress> {
    let bus = *numbers.get(&u32::from(at.bus()))?;
    PciAddress::new(at.domain(), bus, at.device(), at.function()).ok()
}

/// The cell of the expander that a bus hangs from; `None` below the root bus.
fn cell(domain: &Domain, bus: u32) -> Option<u32> {
    let controller = domain.controller(bus)?;
    match controller.model.as_str() {
        "pcie-expander-bus" => controller.cell,
        _ => cell(
            domain,
            u32::from(controller.address?.at.bus()).min(bus.checked_sub(1)?),
        ),
    }
}
