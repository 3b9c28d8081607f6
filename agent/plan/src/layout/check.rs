//! What libvirt or QEMU would refuse of a definition's own pins, bindings, cells and page sizes.

use std::collections::BTreeSet;

use kernel_glue::numa::{NumaNode, RangeList};

use super::LayoutInput;
use crate::plan::locality::online;
use crate::size::kib_in_units;
use domain::Domain;
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;

pub(super) fn check(input: &LayoutInput<'_>, domain: &Domain) -> Result<(), Refusal> {
    let wrong = |reason: String, path: &str, what: &str| {
        let hint = Hint::with("{}", line(["virsh", "edit", &domain.name]));
        let hint = hint.after(&format!("{what} with "));
        Refusal::new(Code::BindingInvalid, reason, hint).at(path)
    };
    if domain.vcpus == 0 {
        let reason = "the guest has no vCPUs".to_owned();
        return Err(wrong(reason, "/domain/vcpu", "correct <vcpu>"));
    }
    if domain.wants_egm() {
        let reason =
            "the guest's memory is EGM regions, which are on the sockets of their GPUs already";
        let hint = "the layout is that of the EGM regions; see variantd.codes(7)";
        return Err(Refusal::new(Code::LayoutTaken, reason, hint).at("/domain/devices/memory"));
    }
    if let Some(cpu) = shared_cpu(domain) {
        let reason = format!("vCPU {cpu} is in two cells");
        return Err(wrong(reason, "/domain/cpu/numa", "correct 'cpus'"));
    }
    for bound in &domain.memory_nodes {
        let path = "/domain/numatune/memnode";
        if domain.cell(bound.cell).is_none() {
            let reason = format!("<memnode> binds cell {}, which does not exist", bound.cell);
            return Err(wrong(reason, path, "correct <memnode>"));
        }
        if let Some(node) = absent_node(input, &bound.nodes) {
            let reason = format!(
                "<memnode> of cell {} names node {node}, which the host does not have",
                bound.cell
            );
            return Err(wrong(reason, path, "correct <memnode>"));
        }
    }
    let online = online(&input.facts());
    for (vcpu, list) in domain.binding.pins.range(..domain.vcpus) {
        if online
            .as_ref()
            .is_some_and(|online| list.and(online).is_empty())
        {
            let reason =
                format!("vCPU {vcpu} is pinned to CPUs {list}, and none of them is online");
            return Err(wrong(
                reason,
                "/domain/cputune/vcpupin",
                "correct <vcpupin>",
            ));
        }
    }
    for size in &domain.tuning.page_kib {
        let mut pages = input.capacity.pages.iter();
        let known = pages.any(|pages| pages.size_kib == *size);
        if !known && !input.capacity.pages.is_empty() {
            let reason = format!(
                "<hugepages> wants pages of {}, and the host has {}",
                kib_in_units(*size),
                available(input)
            );
            return Err(wrong(
                reason,
                "/domain/memoryBacking/hugepages",
                "correct <page size>",
            ));
        }
    }
    Ok(())
}

fn shared_cpu(domain: &Domain) -> Option<u32> {
    let mut seen = BTreeSet::new();
    let mut all = domain.cells.iter().flat_map(|cell| cell.cpus.iter());
    all.find(|cpu| !seen.insert(*cpu))
}

fn absent_node(input: &LayoutInput<'_>, nodes: &RangeList) -> Option<u32> {
    let numa = &input.host.numa;
    let is_there = |id: u32| NumaNode::try_from(id).is_ok_and(|id| numa.node(id).is_some());
    nodes
        .iter()
        .find(|id| !numa.nodes.is_empty() && !is_there(*id))
}

fn available(input: &LayoutInput<'_>) -> String {
    let sizes: BTreeSet<u64> = input
        .capacity
        .pages
        .iter()
        .map(|one| one.size_kib)
        .collect();
    let sizes: Vec<String> = sizes.into_iter().map(kib_in_units).collect();
    sizes.join(", ")
}
