//! `variantctl show DEVICE`: the facts about one device.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::alias;
use kernel_glue::config::Config;
use kernel_glue::device::Device;
use serde_json::{Value, json};

use super::list::{driver, or_dash, to_json};
use super::occupancy::{self, Seen};
use super::problem::Problem;
use super::{HostView, egm, hint, output, region};
use planner::plan::{PlanInput, initiators};

/// Prints the device; with `regions` also VFIO's BARs, or at the end the reason why VFIO could not be asked.
pub(super) fn run(host_view: &HostView, address: PciAddress, regions: bool) -> Result<(), Problem> {
    let device = host_view
        .host
        .devices
        .get(&address)
        .ok_or_else(|| not_found(address, &host_view.root))?;
    let seen = Seen::read(host_view, device);
    let asked = regions.then(|| region::ask(host_view, address)).transpose();
    let shown = asked.as_ref().ok().and_then(Option::as_ref);
    if host_view.json {
        let mut device = full_json(host_view, device, &seen);
        if let Some(regions) = shown {
            device["regions"] = region::to_json(regions);
        }
        let gaps = output::gaps_json(&host_view.host.gaps);
        output::object(json!({"device": device, "gaps": gaps}))?;
    } else {
        let bars = shown.map(region::rows).unwrap_or_default();
        let rows = [rows(host_view, device, &seen), bars].concat();
        output::text(&output::columns(&rows))?;
        output::gaps(&host_view.host.gaps);
    }
    asked.map(drop)
}

pub(super) fn not_found(address: PciAddress, host: &Path) -> Problem {
    let all = hint::for_host("variantctl list --all", host);
    Problem::NotFound(format!(
        "'{address}': this host has no such PCI device; run '{all}'"
    ))
}

fn rows(host_view: &HostView, device: &Device, seen: &Seen) -> Vec<Vec<String>> {
    let recipe = host_view.recipes.for_device(device);
    let label = recipe
        .and_then(|recipe| recipe.member(device))
        .map(|member| member.label.clone());
    let path: Vec<String> = device.ancestors.iter().map(ToString::to_string).collect();
    [
        ("address", device.address.to_string()),
        (
            "device",
            format!("{} {}", device.id, label.unwrap_or_default())
                .trim_end()
                .to_owned(),
        ),
        ("driver", driver(device)),
        ("driver_override", or_dash(device.driver_override.as_ref())),
        ("variant driver", or_dash(variant(host_view, device))),
        (
            "recipe",
            or_dash(recipe.map(|recipe| format!("{}: {}", recipe.name, recipe.title))),
        ),
        (
            "IOMMU group",
            or_dash(occupancy::group(&host_view.host, device)),
        ),
        ("NUMA node", or_dash(device.numa_node)),
        ("initiators", initiator_text(host_view, device)),
        (
            "path",
            if path.is_empty() {
                "on the root bus".to_owned()
            } else {
                path.join(" > ")
            },
        ),
        ("AtomicOps", atomics(device)),
        (
            "reset",
            if device.reset_methods.is_empty() {
                "none".to_owned()
            } else {
                device.reset_methods.join(" ")
            },
        ),
    ]
    .into_iter()
    .chain(egm::row(host_view, device))
    .chain(seen.rows())
    .map(|(name, value)| vec![name.to_owned(), value])
    .collect()
}

fn full_json(host_view: &HostView, device: &Device, seen: &Seen) -> Value {
    let mut value = to_json(host_view, device);
    value["variant_driver"] = json!(variant(host_view, device));
    value["path"] = json!(device.ancestors);
    value["reset_methods"] = json!(device.reset_methods);
    value["atomics_completer"] = json!(
        device
            .config
            .express()
            .map(|e| e.completer().iter().map(|w| w.bits()).collect::<Vec<_>>())
    );
    value["group_members"] = occupancy::group_json(&host_view.host, device);
    value["occupancy"] = seen.json();
    let nodes = initiator_nodes(host_view, device);
    value["initiators"] = json!(nodes.as_ref().and_then(|nodes| nodes.as_ref().ok()));
    value
}

/// The module that `modules.alias` offers for the device.
fn variant(host_view: &HostView, device: &Device) -> Option<String> {
    alias::best(&host_view.host.variants, &device.modalias).map(|variant| variant.module.clone())
}

type Nodes = Result<Vec<kernel_glue::numa::NumaNode>, domain::refusal::Refusal>;

fn initiator_nodes(host_view: &HostView, device: &Device) -> Option<Nodes> {
    host_view.recipes.for_device(device)?;
    let input = PlanInput::newest(&host_view.host, &host_view.recipes);
    Some(initiators(&input, device))
}

fn initiator_text(host_view: &HostView, device: &Device) -> String {
    match initiator_nodes(host_view, device) {
        None => "-".to_owned(),
        Some(Ok(nodes)) if nodes.is_empty() => "none: its guest driver uses none".to_owned(),
        Some(Ok(nodes)) => {
            let list: kernel_glue::numa::RangeList = nodes.into_iter().map(u32::from).collect();
            format!("host nodes {list}")
        }
        Some(Err(refusal)) => refusal.reason,
    }
}

/// The AtomicOps that the function itself completes; the verdict on the path needs more.
pub(super) fn atomics(device: &Device) -> String {
    match &device.config {
        Config::Express(express) => format!("completer {}", express.completer()),
        Config::Conventional => "no PCI Express".to_owned(),
        Config::Unreadable(why) => format!("not visible: {why}"),
    }
}
