//! The host's facts that planning reads, in a fixed form, as one fingerprint per part.
//!
//! Included:
//!
//! - identity, place, BARs and PCI Express capabilities of each PCI function that a recipe covers or the domain assigns, of the
//!   rest of its IOMMU group and of the bridges above them;
//! - CPUs and distances of each NUMA node, and which nodes are generic initiators;
//! - for a domain that has a NUMA layout, or for which one is asked for, CPUs and huge pages, and what other guests hold of the host;
//! - for a domain that has or asks for EGM memory, the EGM regions of its devices and those that it names;
//! - address width, iommufd and the kernel's release.
//!
//! Not included: drivers and overrides (starting another guest changes them), control and status bits in config space except the
//! one that blocks AtomicOps, and sizes of memory. The form is JSON with the keys in the order below; change it only with the
//! plan's version.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::config::Express;
use kernel_glue::device::{Bar, Device};
use kernel_glue::egm::EgmRegion;
use kernel_glue::host::Host;
use kernel_glue::numa::{Node, Numa};
use serde::Serialize;

use crate::fingerprint::Fingerprint;
use crate::json;
use crate::layout::needs_facts;
use crate::other_guest::Other;
use crate::plan::{NumaFacts, PlanInput};
use crate::recipe::{Need, Recipes};
use domain::Domain;

#[derive(Serialize)]
struct DeviceFacts<'a> {
    address: PciAddress,
    id: String,
    class: u32,
    numa_node: Option<u32>,
    iommu_group: Option<u32>,
    iommu: Option<&'a str>,
    physical_function: Option<PciAddress>,
    ancestors: &'a [PciAddress],
    bars: Vec<(u64, bool)>,
    /// Bytes of its VFIO regions; left out if they are not known, as in earlier releases.
    #[serde(skip_serializing_if = "Option::is_none")]
    shown: Option<u64>,
    /// Version, port type and capabilities: device, link, device 2.
    express: Option<(u8, String, u32, u32, u32)>,
    /// It blocks outgoing AtomicOps; left out if it does not, as in earlier releases.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    blocks_atomics: bool,
}

#[derive(Serialize)]
struct NodeFacts<'a> {
    id: u32,
    cpus: String,
    distances: &'a [u8],
    /// Set only if the kernel does not list initiators: then it tells them from other nodes.
    without_memory: Option<bool>,
}

/// One fingerprint per part of the host.
pub(super) fn fingerprints(
    domain: &Domain,
    input: &PlanInput<'_>,
) -> BTreeMap<String, Fingerprint> {
    let (host, recipes) = (input.host, input.recipes);
    let mut parts = vec![
        ("PCI devices", json::text(&devices(domain, host, recipes))),
        ("NUMA nodes", json::text(&nodes(&host.numa))),
        ("generic initiators", json::text(&initiators(host))),
        ("kernel", json::text(&host.kernel_release)),
        (
            "address width or iommufd",
            json::text(&(host.address_bits, host.iommufd)),
        ),
    ];
    let regions = regions(domain, input);
    if !regions.is_empty() {
        parts.push(("EGM regions", json::text(&regions)));
    }
    if let Some(facts) = for_layout(domain, input) {
        let others: Vec<_> = facts.others.iter().map(Other::facts).collect();
        let text = json::text(&(facts.capacity, others));
        parts.push(("CPUs, huge pages or other guests", text));
    }
    let fingerprint = |(name, text): (&str, String)| (name.to_owned(), Fingerprint::of(&text));
    parts.into_iter().map(fingerprint).collect()
}

/// The facts for a NUMA layout, for a domain whose plan reads them.
fn for_layout<'a>(domain: &Domain, input: &PlanInput<'a>) -> Option<NumaFacts<'a>> {
    let reads = || needs_facts(input.host, input.recipes, input.numa.wanted, domain);
    input.numa.facts.filter(|_| reads())
}

fn devices<'a>(domain: &Domain, host: &'a Host, recipes: &Recipes) -> Vec<DeviceFacts<'a>> {
    let ours =
        |device: &Device| recipes.for_device(device).is_some() || domain.uses(device.address);
    let mut read = BTreeSet::new();
    for device in host.devices.values().filter(|device| ours(device)) {
        let group = device.iommu_group.into_iter();
        for member in group.flat_map(|group| host.group(group)).chain([device]) {
            read.insert(member.address);
            read.extend(&member.ancestors);
        }
    }
    let found = read.iter().filter_map(|address| host.devices.get(address));
    found.map(facts).collect()
}

fn facts(device: &Device) -> DeviceFacts<'_> {
    let bar = |bar: &Bar| (bar.size, bar.is_64bit_prefetchable());
    DeviceFacts {
        address: device.address,
        id: device.id.to_string(),
        class: device.class,
        numa_node: device.numa_node.map(u32::from),
        iommu_group: device.iommu_group,
        iommu: device.iommu.as_deref(),
        physical_function: device.physical_function,
        ancestors: &device.ancestors,
        bars: device.bars.iter().map(bar).collect(),
        shown: device.shown_bytes(),
        express: device.config.express().map(express),
        blocks_atomics: device.config.express().is_some_and(Express::egress_blocked),
    }
}

fn express(one: &Express) -> (u8, String, u32, u32, u32) {
    let port = format!("{:?}", one.port);
    (one.version, port, one.devcap, one.lnkcap, one.devcap2)
}

fn nodes(numa: &Numa) -> Vec<NodeFacts<'_>> {
    let unsaid = numa.generic_initiators.is_none();
    let node = |node: &'_ Node| (node.id.into(), node.cpus.to_string(), node.memory_kib == 0);
    numa.nodes
        .iter()
        .map(|one| {
            let (id, cpus, empty) = node(one);
            NodeFacts {
                id,
                cpus,
                distances: &one.distances,
                without_memory: unsaid.then_some(empty),
            }
        })
        .collect()
}

/// The regions that the plan reads: none for a domain without EGM memory, because each bind of a GPU changes the regions.
fn regions<'a>(domain: &Domain, input: &PlanInput<'a>) -> Vec<&'a EgmRegion> {
    let host = input.host;
    let mut devices = domain.sources().filter_map(|at| host.devices.get(&at));
    let prefers = |device: &Device| {
        let recipe = input.recipes.for_device(device);
        let egm = recipe.and_then(|recipe| recipe.egm);
        egm.is_some_and(|egm| egm.need != Need::Ignore)
    };
    let is_asked = match input.egm.or(domain.options.egm) {
        Some(option) => option,
        None => devices.any(prefers),
    };
    let own = &domain.platform.egm;
    if !is_asked && own.is_empty() {
        return Vec::new();
    }
    let concerns = |region: &&EgmRegion| {
        let is_named = own.iter().any(|memory| memory.path == region.path());
        is_named || region.gpus.iter().any(|gpu| domain.uses(*gpu))
    };
    host.egm.iter().filter(concerns).collect()
}

/// Initiator nodes as the kernel lists them, and as SRAT assigns them to devices.
fn initiators(host: &Host) -> impl Serialize {
    let nodes = host.numa.generic_initiators.as_ref();
    let srat = host.srat.as_ref().map(|srat| &srat.initiators);
    (nodes.map(ToString::to_string), srat.cloned())
}
