//! Rules for EGM memory, added or written by the user: neither libvirt nor the kernel checks them.

use std::collections::BTreeMap;

use kernel_glue::address::PciAddress;
use kernel_glue::egm::EgmRegion;

use super::{Fault, Share};
use crate::plan::{PlanInput, virsh};
use domain::code::Code;
use domain::hint::Hint;
use domain::{Domain, EgmMemory, Hostdev};

/// Each `<memory model='egm'>` names a hostdev of the guest, each hostdev once, all GPUs of its region are in the guest, and huge
/// pages are not asked for.
pub(super) fn elements(input: &PlanInput<'_>, domain: &Domain) -> Result<(), Fault> {
    let all = &domain.platform.egm;
    if all.is_empty() {
        return Ok(());
    }
    for (position, memory) in all.iter().enumerate() {
        hostdev(domain, memory)?;
        let before = all[..position].iter();
        if before.filter(|other| other.alias == memory.alias).count() > 0 {
            let reason = format!("two <memory model='egm'> name '{}'", memory.alias);
            return Err(wrong(domain, reason, "remove one of them"));
        }
        let mut regions = input.host.egm.iter();
        if let Some(region) = regions.find(|region| region.path() == memory.path) {
            let is_there = |gpu| domain.hostdevs.iter().any(|hostdev| hostdev.source == gpu);
            let what = "assign all GPUs of the region, or remove <memory model='egm'>,";
            whole(region, is_there, virsh::edit(domain, what))?;
        }
    }
    hugepages(domain)
}

/// Huge pages would be another memory of the same cells.
pub(super) fn hugepages(domain: &Domain) -> Result<(), Fault> {
    if !domain.platform.hugepages {
        return Ok(());
    }
    let reason = "the guest's memory cannot be EGM and in huge pages";
    let hint = virsh::edit(domain, "remove <hugepages>");
    Err(Fault::new(Code::EgmHugepages, reason, hint))
}

/// The sizes of a path add up to the memory of its cell, which has one path, and fit the region. `added` are planned.
pub(super) fn sums(input: &PlanInput<'_>, domain: &Domain, added: &[&Share]) -> Result<(), Fault> {
    let own = domain.platform.egm.iter();
    let own = own.map(|memory| (memory.cell, memory.path.as_str(), memory.kib));
    let added = added
        .iter()
        .map(|share| (Some(share.cell), share.path.as_str(), share.kib));
    let mut cells: BTreeMap<u32, (&str, u64)> = BTreeMap::new();
    for (cell, path, kib) in own.chain(added) {
        let Some(cell) = cell else {
            let reason = format!("a <memory model='egm'> of {path} has no <node>");
            return Err(wrong(domain, reason, "name the cell of the GPU's socket"));
        };
        let (first, sum) = cells.entry(cell).or_insert((path, 0));
        if *first != path {
            let reason = format!("cell {cell} would be the memory of {first} and of {path}");
            let hint = virsh::edit(domain, "correct <node>");
            return Err(Fault::new(Code::EgmCell, reason, hint));
        }
        *sum = sum.saturating_add(kib);
    }
    for (cell, (path, sum)) in cells {
        let mut regions = input.host.egm.iter();
        let region = regions.find(|region| region.path() == path);
        let most = region
            .and_then(|region| region.bytes)
            .map(|bytes| bytes >> 10);
        if let Some(most) = most.filter(|most| sum > *most) {
            let reason = format!("cell {cell} has {sum} KiB of {path}, which has {most} KiB");
            let hint = virsh::edit(domain, "make the cell and <size> smaller");
            return Err(Fault::new(Code::EgmSize, reason, hint));
        }
        // Without cells there is no memory of a cell to compare with.
        if domain.cells.is_empty() {
            continue;
        }
        let memory = domain.cell(cell).map_or(0, |cell| cell.memory_kib);
        if memory != sum {
            let reason =
                format!("cell {cell} has {memory} KiB, and its shares of {path} are {sum} KiB");
            let hint = virsh::edit(domain, "correct <size> or the cell");
            return Err(Fault::new(Code::EgmSize, reason, hint));
        }
    }
    Ok(())
}

fn hostdev<'a>(domain: &'a Domain, memory: &EgmMemory) -> Result<&'a Hostdev, Fault> {
    let mut hostdevs = domain.hostdevs.iter();
    let found = hostdevs.find(|hostdev| hostdev.alias.as_ref() == Some(&memory.alias));
    found.ok_or_else(|| {
        let alias: String = memory.alias.chars().take(64).collect();
        let reason = format!("<memory model='egm'> names '{alias}', the alias of no hostdev");
        wrong(domain, reason, "correct <pciDev>")
    })
}

/// All GPUs that the kernel lists for a region are there.
pub(super) fn whole(
    region: &EgmRegion,
    is_there: impl Fn(PciAddress) -> bool,
    hint: Hint,
) -> Result<(), Fault> {
    let Some(other) = region.gpus.iter().find(|gpu| !is_there(**gpu)) else {
        return Ok(());
    };
    let path = region.path();
    let reason = format!("{path} is also that of '{other}', which the guest does not have");
    Err(Fault::new(Code::EgmShared, reason, hint))
}

fn wrong(domain: &Domain, reason: String, what: &str) -> Fault {
    Fault::new(Code::EgmWrong, reason, virsh::edit(domain, what))
}
