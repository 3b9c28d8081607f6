//! NUMA layouts beside those that KubeVirt and OpenNebula make of the same host; the tables are a page of the documentation, [`PAGE`].
//!
//! `kubevirt` and `opennebula` follow the rules of those projects' public sources, for the same guest and, where another program
//! chooses the CPUs, for the CPUs that variantd chose. A test fails for a difference without a reason, and for a reason without a
//! difference.

mod guest;
mod kubevirt;
mod opennebula;
mod ours;

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::{case, stack};
use guest::Guest;

/// The page, from `tests/data`.
const PAGE: &str = "../../packaging/doc/numa-layouts.md";

/// The page's text before the tables.
const HEAD: &str = "\
# NUMA layouts, compared with KubeVirt's and OpenNebula's

KubeVirt and OpenNebula, too, give a guest the NUMA layout of its host. This page has the layout that `variantctl layout` computes for guests on modelled
hosts, and those that the public rules of the two projects make of the same guest and host. Every difference has its reason. `cargo xtask regen golden`
writes this page, and a test fails when a value changes, for a difference without a reason, and for a reason without a difference. The two
projects were not run: their rules are applied as they are written down here.

| project | rules | source |
|---|---|---|
| KubeVirt, `guestMappingPassthrough` | Kubernetes gives the pod its CPUs; here they are those that variantd chose. vCPUs take whole cores, by host node and core. A cell for each host node with a vCPU, memory in equal shares of huge pages, which are required, strict `<memnode>`. `<topology>` is the user's; here it has the host's threads. Emulator threads get a CPU of their own if the user asks (`isolateEmulatorThread`). | kubevirt/kubevirt, `pkg/virt-launcher/virtwrap/converter/vcpu/vcpu.go`, summer 2026 |
| KubeVirt, VEP 115 (`PCINUMAAwareTopology`) | On q35 an expander bus for each cell with devices, a root port on it for each device, by address. A device without a vCPU on its node stays on the root bus, or the guest is refused. | kubevirt/enhancements, `veps/sig-compute/115-pcie-numa-topology-awareness/vep.md`, 7ee388aa7cf4; kubevirt/kubevirt, `pkg/virt-launcher/virtwrap/converter/pci-placement.go`, summer 2026 |
| OpenNebula, `PIN_POLICY = THREAD` | The user names the number of nodes; here it is variantd's. Equal shares of vCPUs and memory. Node `n` of the guest is on node `n` of the host if a device is there, else on the node with the most free CPUs. vCPUs take whole cores, with as many threads as the host has if they divide the vCPUs. Huge pages are the user's; here they are variantd's. `<emulatorpin>` names the CPUs of all vCPUs. Distances are the user's; here there are none. | OpenNebula/one, `src/host/HostShareNUMA.cc`, `src/vm/VirtualMachineParser.cc`, `src/vmm/LibVirtDriverKVM.cc`, f847cf2e9a78 |
| OpenNebula, `Q35_NUMA_PCIE` | An expander bus for each node of the guest, with eight root ports. A device is on the bus of the node that has the number of its host node. | OpenNebula/one, `src/host/HostSharePCI.cc`, f847cf2e9a78 |

Devices of Grace guests are on the page [published-guests.md](published-guests.md).
";

/// What is compared, in the order of the tables.
const ITEMS: [&str; 7] = [
    "cells",
    "pins",
    "topology",
    "emulator threads",
    "pages",
    "distances",
    "devices",
];

/// A layout's values by item; an item that does not apply is missing.
type Items = BTreeMap<&'static str, String>;

/// The projects, in the order of the columns.
const PROJECTS: [&str; 2] = ["KubeVirt", "OpenNebula"];

/// Why an item of a project differs.
const REASONS: &[(&str, &str, &str)] = &[
    (
        "cells",
        "KubeVirt",
        "it maps host nodes only for guests in huge pages; variantd takes the largest that all nodes have, and normal pages without them",
    ),
    (
        "topology",
        "KubeVirt",
        "the topology is the user's; variantd writes a socket for each cell, so that no cache of the guest spans two cells",
    ),
    (
        "emulator threads",
        "KubeVirt",
        "they run on any CPU of the pod, also on those of vCPUs, unless the user asks for a CPU of their own",
    ),
    (
        "emulator threads",
        "OpenNebula",
        "they run on the CPUs of the vCPUs unless the administrator sets others; variantd takes a core beside them while one is free",
    ),
    (
        "distances",
        "KubeVirt",
        "it writes none, so the guest's kernel takes 10 and 20; variantd writes the host's",
    ),
    (
        "distances",
        "OpenNebula",
        "the template can have `DISTANCE`; without it the guest's kernel takes 10 and 20; variantd writes the host's",
    ),
    (
        "devices",
        "OpenNebula",
        "it places devices by the number of their host node, also where the guest has no such cell; variantd places them at the cell that is bound to their node",
    ),
];

#[test]
fn layouts_differ_from_kubevirts_and_opennebulas_as_in_the_documents_tables() {
    let mut page = HEAD.to_owned();
    let mut differing: Vec<(&str, &str)> = Vec::new();
    for guest in guest::all() {
        let ours = ours::items(&guest);
        let theirs = [kubevirt::items(&guest), opennebula::items(&guest)];
        page += &section(&guest, &ours, &theirs);
        for (project, items) in PROJECTS.iter().zip(&theirs) {
            let differs = |item: &&&str| items.get(**item).is_some_and(|one| *one != ours[**item]);
            let items = ITEMS.iter().filter(|item| ours.contains_key(**item));
            differing.extend(items.filter(differs).map(|item| (*item, *project)));
        }
    }
    differing.sort_unstable();
    differing.dedup();
    let mut decided: Vec<(&str, &str)> = REASONS
        .iter()
        .map(|(item, project, _)| (*item, *project))
        .collect();
    decided.sort_unstable();
    page += &reasons();
    case::expect_none(&stack::compared(&case::data(PAGE), &page));
    assert_eq!(decided, differing, "reasons, and differences");
}

fn section(guest: &Guest, ours: &Items, theirs: &[Items; 2]) -> String {
    let mut text = format!(
        "\n## {}\n\n| item | variantd | KubeVirt | OpenNebula |\n|---|---|---|---|\n",
        guest.title
    );
    for item in ITEMS.iter().filter(|item| ours.contains_key(**item)) {
        let own = &ours[item];
        let column = |items: &Items| match items.get(item) {
            Some(value) if value == own => "equal".to_owned(),
            Some(value) => value.clone(),
            None => "-".to_owned(),
        };
        let [kubevirt, opennebula] = [0, 1].map(|at| column(&theirs[at]));
        writeln!(text, "| {item} | {own} | {kubevirt} | {opennebula} |").expect("text");
    }
    text
}

fn reasons() -> String {
    let mut text =
        "\n## Reasons of the differences\n\n| item | project | reason |\n|---|---|---|\n"
            .to_owned();
    for (item, project, reason) in REASONS {
        writeln!(text, "| {item} | {project} | {reason} |").expect("text");
    }
    text
}
