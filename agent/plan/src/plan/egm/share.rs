//! The share of each GPU: the region's device, the cell of its socket, and an even part of the cell's memory.

use std::collections::BTreeMap;

use kernel_glue::egm::EgmRegion;

use super::check::whole;
use super::{Fault, own};
use crate::plan::{Assigned, PlanInput, driver, expander, virsh};
use domain::Domain;
use domain::code::Code;
use domain::hint::{Hint, line};

/// The EGM memory of one GPU.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Share {
    /// The region's device.
    pub(super) path: String,
    pub(super) cell: u32,
    /// Whole MiB.
    pub(super) kib: u64,
}

/// The devices of one region.
struct Group<'a> {
    region: &'a EgmRegion,
    members: Vec<&'a Assigned<'a>>,
}

/// The share of each device; `None` for a device with EGM memory whose region is not known because it is not bound.
pub(super) fn shares<'a>(
    input: &'a PlanInput<'_>,
    domain: &Domain,
    asked: &[&'a Assigned<'a>],
) -> Result<Vec<(&'a Assigned<'a>, Option<Share>)>, Fault> {
    let mut groups: BTreeMap<u32, Group<'a>> = BTreeMap::new();
    let mut shares = Vec::new();
    for one in asked {
        let Some(region) = region(input, domain, one) else {
            if own(domain, one).is_none() {
                return Err(unseen(input, one));
            }
            shares.push((*one, None));
            continue;
        };
        let group = groups.entry(region.number).or_insert_with(|| Group {
            region,
            members: Vec::new(),
        });
        group.members.push(one);
    }
    let mut cells = BTreeMap::new();
    for group in groups.into_values() {
        let share = share(input, domain, &group)?;
        if let Some(other) = cells.insert(share.cell, share.path.clone()) {
            let reason = format!(
                "cell {} would be the memory of {other} and of {}",
                share.cell, share.path
            );
            let what = "give each socket a cell, bound by <numatune>,";
            return Err(Fault::new(Code::EgmCell, reason, virsh::edit(domain, what)));
        }
        let members = group.members.into_iter();
        shares.extend(members.map(|one| (one, Some(share.clone()))));
    }
    shares.sort_by_key(|(one, _)| one.hostdev.source);
    Ok(shares)
}

/// The region of a device as the kernel shows it, else by the path in the definition.
fn region<'a>(
    input: &'a PlanInput<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
) -> Option<&'a EgmRegion> {
    let shown = input.host.egm_region(one.hostdev.source);
    shown.or_else(|| {
        let path = &own(domain, one)?.path;
        input.host.egm.iter().find(|region| region.path() == *path)
    })
}

/// Why the kernel shows no region of a device.
pub(super) fn unseen(input: &PlanInput<'_>, one: &Assigned<'_>) -> Fault {
    let (device, driver) = (one.hostdev.source, one.recipe.driver.as_str());
    let bound = one.device.driver.as_ref();
    if bound.is_some_and(|bound| driver::same(bound.as_str(), driver)) {
        let reason = match input.host.egm.is_empty() {
            true => "the host has no EGM region in /sys/class/egm",
            false => "no EGM region in /sys/class/egm lists it",
        };
        let hint = "enable EGM in the firmware, and use a kernel with nvgrace_egm";
        return Fault::new(Code::EgmLeftOut, reason, hint).of(device);
    }
    let reason = format!("its EGM region is not known while it is not bound to '{driver}'");
    let hint = Hint::run(line(["variantctl", "bind", &device.to_string()]));
    Fault::new(Code::EgmUnbound, reason, hint).of(device)
}

fn share(input: &PlanInput<'_>, domain: &Domain, group: &Group<'_>) -> Result<Share, Fault> {
    let (region, path) = (group.region, group.region.path());
    let is_member = |gpu| group.members.iter().any(|one| one.hostdev.source == gpu);
    let hint = virsh::edit(domain, "assign all GPUs of the region").then(", or do without EGM");
    whole(region, is_member, hint)?;
    let cell = cell(input, domain, group)?;
    let kib = memory(domain, cell);
    let count = u64::try_from(group.members.len()).unwrap_or(u64::MAX);
    let step = count.saturating_mul(1 << 10);
    if kib == 0 || !kib.is_multiple_of(step) {
        let less = kib - kib % step;
        let reason =
            format!("cell {cell} has {kib} KiB, no even number of MiB for {count} GPUs of {path}");
        let what = format!("give the cell {} KiB", less.max(step));
        return Err(Fault::new(
            Code::EgmSize,
            reason,
            virsh::edit(domain, &what),
        ));
    }
    let Some(bytes) = region.bytes else {
        let reason = format!("the kernel does not show the size of {path}");
        let hint = "use a kernel that has egm_size in /sys/class/egm";
        return Err(Fault::new(Code::EgmLeftOut, reason, hint));
    };
    let most = bytes >> 10;
    if kib > most {
        let reason = format!("cell {cell} has {kib} KiB, and {path} has {most} KiB");
        let what = format!("give the cell at most {} KiB", most - most % step);
        return Err(Fault::new(
            Code::EgmSize,
            reason,
            virsh::edit(domain, &what),
        ));
    }
    let kib = kib / count;
    Ok(Share { path, cell, kib })
}

/// The cell of the members' socket.
fn cell(input: &PlanInput<'_>, domain: &Domain, group: &Group<'_>) -> Result<u32, Fault> {
    let mut found = None;
    for one in &group.members {
        let own = expander::cell(input, domain, one);
        let own = own.filter(|id| *id == 0 || domain.cell(*id).is_some());
        let Some(own) = own else {
            let reason =
                "no cell is bound to its socket, whose EGM region would be the cell's memory";
            let hint = virsh::edit(domain, "bind a cell to it by <numatune><memnode>");
            return Err(Fault::new(Code::EgmCell, reason, hint).of(one.hostdev.source));
        };
        if *found.get_or_insert(own) != own {
            let reason = format!("the GPUs of {} are on several sockets", group.region.path());
            let hint = "do without EGM";
            return Err(Fault::new(Code::EgmCell, reason, hint).of(one.hostdev.source));
        }
    }
    Ok(found.unwrap_or_default())
}

/// Memory of a cell in KiB. A guest without cells gets cell 0 with all memory.
fn memory(domain: &Domain, cell: u32) -> u64 {
    let all = || domain.memory_kib.saturating_sub(domain.memory_devices_kib);
    match domain.cells.is_empty() {
        true => all(),
        false => domain.cell(cell).map_or(0, |cell| cell.memory_kib),
    }
}
