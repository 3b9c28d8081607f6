//! The host as parts: sockets, root buses, ports, switches, devices.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config, Express, Port};
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::numa::{Node, NumaNode, RangeList};

use super::{Kind, Part};
use planner::atomics::{in_words, word};
use planner::plan::{PlanInput, initiators};
use planner::recipe::Recipes;

type Children<'a> = BTreeMap<Option<PciAddress>, Vec<&'a Device>>;

/// The host; buses whose node is not known hang from it directly.
#[must_use]
pub(crate) fn parts(host: &Host, recipes: &Recipes) -> Part {
    let mut children: Children<'_> = BTreeMap::new();
    for device in host.devices.values() {
        let above = device.ancestors.last().copied();
        children.entry(above).or_default().push(device);
    }
    let mut machine = Part::new(Kind::Machine, "host", "");
    if let Some(release) = &host.kernel_release {
        machine = machine.fact(format!("kernel {release}"));
    }
    machine.with_sockets(sockets(host), buses(host, recipes, &children))
}

/// Nodes with processors.
fn sockets(host: &Host) -> impl Iterator<Item = (NumaNode, Part)> {
    let sockets = host.numa.sockets();
    sockets.map(|node| (node.id, socket(node)))
}

fn socket(node: &Node) -> Part {
    Part::new(Kind::Socket, format!("NUMA node {}", node.id), "")
        .fact(format!("CPUs {}", node.cpus))
        .fact(super::memory(node.memory_kib))
}

/// Each root bus with the node of the first of its devices that has one.
fn buses(host: &Host, recipes: &Recipes, children: &Children<'_>) -> Vec<(Option<NumaNode>, Part)> {
    let mut roots: BTreeMap<(u32, u8), Vec<&Device>> = BTreeMap::new();
    for device in children.get(&None).into_iter().flatten() {
        let bus = (device.address.domain(), device.address.bus());
        roots.entry(bus).or_default().push(device);
    }
    let part = |((domain, bus), devices): ((u32, u8), Vec<&Device>)| {
        let mut part = Part::new(Kind::Bus, format!("{domain:04x}:{bus:02x}"), "root bus");
        let branch = |device: &&Device| branch(host, recipes, children, device);
        part.below = devices.iter().map(branch).collect();
        (devices.iter().find_map(|device| device.numa_node), part)
    };
    roots.into_iter().map(part).collect()
}

fn branch(host: &Host, recipes: &Recipes, children: &Children<'_>, device: &Device) -> Part {
    let mut part = one(host, recipes, device);
    let below = children.get(&Some(device.address)).into_iter().flatten();
    part.below = below
        .map(|below| branch(host, recipes, children, below))
        .collect();
    part
}

fn one(host: &Host, recipes: &Recipes, device: &Device) -> Part {
    let recipe = recipes.for_device(device);
    let label = recipe.and_then(|recipe| Some(recipe.member(device)?.label.clone()));
    let kind = match recipe.is_some() {
        true => Kind::Covered,
        false => kind(device),
    };
    let label = label.unwrap_or_else(|| port(device).to_owned());
    let mark = if device.driver_override.is_some() {
        " *"
    } else {
        ""
    };
    let mut part = Part::new(
        kind,
        device.address.to_string(),
        format!("{} {label}", device.id),
    )
    .fact(format!("driver {}{mark}", or_dash(device.driver.as_ref())))
    .fact(format!("group {}", or_dash(device.iommu_group)))
    .fact(format!("node {}", or_dash(device.numa_node)))
    .fact(egm(host, device))
    .fact(link(device))
    .fact(format!("atomics {}", atomics(device)));
    part.device = Some(device.address);
    match recipe.is_some() {
        true => part.fact(nodes(host, recipes, device)),
        false => part,
    }
}

/// `egm4`: the EGM region that the GPU shares.
fn egm(host: &Host, device: &Device) -> String {
    let region = host.egm_region(device.address);
    region.map_or(String::new(), |region| format!("egm{}", region.number))
}

fn kind(device: &Device) -> Kind {
    match device.config.express().map(|express| express.port) {
        Some(Port::RootPort) => Kind::RootPort,
        Some(Port::UpstreamPort | Port::DownstreamPort) => Kind::Switch,
        // Users other than root read only the first 64 bytes of config space, without the PCI Express capability.
        _ if device.is_bridge() => match device.ancestors.is_empty() {
            true => Kind::RootPort,
            false => Kind::Switch,
        },
        _ => Kind::Device,
    }
}

fn port(device: &Device) -> &'static str {
    match device.config.express() {
        Some(express) => word::port(express.port),
        None if device.is_bridge() => "bridge",
        None => "device",
    }
}

/// `link 32 GT/s x16`: the maximum of the function; empty if it has no link, or if the link is not visible.
fn link(device: &Device) -> String {
    let express = device.config.express();
    let text = express.and_then(|express| Some((speed(express)?, express.link_width())));
    text.map_or(String::new(), |(speed, width)| {
        format!("link {speed} GT/s x{width}")
    })
}

/// GT/s by the number of a link speed (PCIe base specification, 7.5.3.6).
pub(super) fn speed(express: &Express) -> Option<&'static str> {
    let speeds = ["2.5", "5", "8", "16", "32", "64"];
    let number = usize::try_from(express.link_speed()).ok()?;
    speeds.get(number.checked_sub(1)?).copied()
}

fn atomics(device: &Device) -> String {
    match &device.config {
        Config::Express(express) => in_words(
            express.completer(),
            express.routes_atomics(),
            express.egress_blocked(),
        ),
        Config::Conventional => "none".to_owned(),
        Config::Unreadable(_) => "not visible".to_owned(),
    }
}

/// The nodes that are its generic initiators, where that can be told.
fn nodes(host: &Host, recipes: &Recipes, device: &Device) -> String {
    let input = PlanInput::newest(host, recipes);
    match initiators(&input, device) {
        Ok(nodes) if !nodes.is_empty() => {
            let nodes: RangeList = nodes.into_iter().map(u32::from).collect();
            format!("initiators {nodes}")
        }
        _ => String::new(),
    }
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}
