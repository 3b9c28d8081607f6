//! `variantctl topology`: the host as a tree of ports and devices, and its NUMA nodes.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;
use kernel_glue::config::Port;
use kernel_glue::device::Device;
use kernel_glue::numa::{Node, RangeList};
use serde_json::{Value, json};

use super::atomics::word;
use super::list::{driver, or_dash, to_json};
use super::problem::Problem;
use super::{View, output};

pub(super) fn run(view: &View) -> Result<(), Problem> {
    if view.json {
        let devices: Value = view
            .host
            .devices
            .values()
            .map(|device| with_path(view, device))
            .collect();
        let nodes: Value = view.host.numa.nodes.iter().map(node_json).collect();
        let gaps = output::gaps_json(&view.host.gaps);
        return output::object(json!({"devices": devices, "nodes": nodes, "gaps": gaps}));
    }
    output::text(&tree(view))?;
    output::text(&nodes(view))?;
    output::gaps(&view.host.gaps);
    Ok(())
}

fn with_path(view: &View, device: &Device) -> Value {
    let mut value = to_json(view, device);
    value["path"] = json!(device.ancestors);
    value
}

type Children<'a> = BTreeMap<Option<PciAddress>, Vec<&'a Device>>;

/// Root buses, and below each its functions, as `lspci -t` would indent them.
fn tree(view: &View) -> String {
    let mut children: Children<'_> = BTreeMap::new();
    for device in view.host.devices.values() {
        children
            .entry(device.ancestors.last().copied())
            .or_default()
            .push(device);
    }
    let mut roots: BTreeMap<(u32, u8), Vec<&Device>> = BTreeMap::new();
    for device in children.get(&None).into_iter().flatten() {
        roots
            .entry((device.address.domain(), device.address.bus()))
            .or_default()
            .push(device);
    }
    let mut out = String::new();
    for ((domain, bus), devices) in roots {
        out.push_str(&format!("{domain:04x}:{bus:02x} root bus\n"));
        branch(view, &children, &devices, "", &mut out);
    }
    out
}

fn branch(
    view: &View,
    children: &Children<'_>,
    devices: &[&Device],
    indent: &str,
    out: &mut String,
) {
    for (position, device) in devices.iter().enumerate() {
        let last = position + 1 == devices.len();
        let (tee, bar) = if last { ("`- ", "   ") } else { ("|- ", "|  ") };
        out.push_str(&format!("{indent}{tee}{}\n", line(view, device)));
        let below = children
            .get(&Some(device.address))
            .map_or(&[][..], Vec::as_slice);
        branch(view, children, below, &format!("{indent}{bar}"), out);
    }
}

fn line(view: &View, device: &Device) -> String {
    let label = view
        .recipes
        .for_device(device)
        .and_then(|r| r.member(device.id))
        .map(|m| m.label.clone());
    let what = label.unwrap_or_else(|| port(device).to_owned());
    format!(
        "{} {} {what}  driver {}, group {}, node {}, atomics {}",
        device.address,
        device.id,
        driver(device),
        or_dash(device.iommu_group),
        or_dash(device.numa_node),
        word::atomics(&device.config)
    )
}

fn port(device: &Device) -> &'static str {
    match device.config.express().map(|express| express.port) {
        Some(Port::Endpoint | Port::LegacyEndpoint | Port::Other(_)) => "device",
        Some(port) => word::port(port),
        None if device.is_bridge() => "bridge",
        None => "device",
    }
}

fn nodes(view: &View) -> String {
    let initiators = view
        .host
        .numa
        .generic_initiators
        .clone()
        .unwrap_or_default();
    let kind = |node: &Node| {
        let initiator = if initiators.contains(node.id.into()) {
            ", generic initiator"
        } else {
            ""
        };
        let cpus = if node.cpus.is_empty() {
            "no CPUs".to_owned()
        } else {
            format!("CPUs {}", node.cpus)
        };
        format!("{cpus}, {} MiB{initiator}", node.memory_kib / 1024)
    };
    // Runs of equal nodes, such as a GPU's eight, take one line.
    let mut runs: Vec<(RangeList, String)> = Vec::new();
    for node in &view.host.numa.nodes {
        let kind = kind(node);
        match runs.last_mut() {
            Some((ids, last)) if *last == kind => {
                *ids = ids.iter().chain([node.id.into()]).collect()
            }
            _ => runs.push(([u32::from(node.id)].into_iter().collect(), kind)),
        }
    }
    runs.into_iter()
        .map(|(ids, kind)| format!("NUMA node {ids}: {kind}\n"))
        .collect()
}

fn node_json(node: &Node) -> Value {
    json!({"id": node.id, "cpus": node.cpus.to_string(), "memory_kib": node.memory_kib, "distances": node.distances})
}
