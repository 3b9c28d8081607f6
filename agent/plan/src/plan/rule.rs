//! Rules that libvirt does not enforce: libvirt accepts the definition, and QEMU or the guest fails later.
//!
//! Found by starting QEMU 11.1 and reading the source of 10.0 and 11.1. Each is a refusal with both values.

use std::collections::BTreeSet;

use super::locked::Locked;
use super::{Assigned, PlanInput, bus_number, controller, pair, virsh};
use crate::stack::{Feature, Package};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Cell, Domain, Hostdev, Iommu};

/// The first rule that a domain with covered devices breaks.
pub(super) fn check(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<(), Refusal> {
    let broken = device_twice(domain)
        .or_else(|| cell_ids(domain))
        .or_else(|| controller::check(domain))
        .or_else(|| acpi(domain, assigned))
        .or_else(|| acpi_tables(domain))
        .or_else(|| nodesets(input, domain))
        .or_else(|| distances(domain))
        .or_else(|| iommus(domain))
        .or_else(|| pair::check(input, domain))
        .or_else(|| bus_number::check(domain))
        .or_else(|| Locked::of(input, domain).check(domain));
    broken.map_or(Ok(()), Err)
}

fn device_twice(domain: &Domain) -> Option<Refusal> {
    let mut seen = BTreeSet::new();
    let again = domain.sources().filter(|source| !seen.insert(*source));
    let twice = again.min()?;
    let hint = virsh::edit(domain, "remove one of them");
    let reason = "the definition assigns this device twice (by hostdevs, interfaces, NVMe disks or QEMU arguments)";
    let refusal = Refusal::new(Code::DeviceTwice, reason, hint);
    Some(refusal.of(twice).at("/domain/devices/hostdev"))
}

/// libvirt requires the ids of N cells to be 0 to N - 1 (src/conf/numa_conf.c). A file may not have been defined yet.
fn cell_ids(domain: &Domain) -> Option<Refusal> {
    let count = domain.cells.len();
    let mut seen = BTreeSet::new();
    let mut is_wrong = |id: u32| id as usize >= count || !seen.insert(id);
    let mut ids = domain.cells.iter().map(|cell| cell.id);
    let wrong = ids.find(|id| is_wrong(*id))?;
    let why = match seen.contains(&wrong) {
        true => "two cells have this id".to_owned(),
        false => format!("the last of {count} cells has id {}", count - 1),
    };
    let reason = format!(
        "libvirt refuses NUMA cell id '{wrong}': {why}; a cell without an id is numbered by its position"
    );
    let hint = virsh::edit(domain, "number the cells from 0 on");
    let at = format!("/domain/cpu/numa/cell[@id='{wrong}']");
    Some(Refusal::new(Code::XmlValue, reason, hint).at(at))
}

/// Only ACPI describes initiators and SMMUs, and libvirt gives a guest ACPI only on request.
fn acpi(domain: &Domain, assigned: &[Assigned<'_>]) -> Option<Refusal> {
    let one = assigned
        .iter()
        .find(|one| one.recipe.initiators.is_some())?;
    let virt = domain.family() == "virt";
    let (reason, hint) = if !domain.platform.acpi {
        let hint = virsh::edit(domain, "add <features><acpi/></features>");
        (
            "the guest has no ACPI, without which its driver cannot find the initiators",
            hint,
        )
    } else if virt && !domain.platform.firmware {
        let hint = virsh::edit(domain, "set <os firmware='efi'>");
        (
            "the guest has ACPI but no UEFI firmware; libvirt refuses that on this architecture",
            hint,
        )
    } else {
        return None;
    };
    let refusal = Refusal::new(Code::AcpiMissing, reason, hint);
    Some(refusal.of(one.hostdev.source).at("/domain/features/acpi"))
}

fn acpi_tables(domain: &Domain) -> Option<Refusal> {
    let path = &domain.platform.acpi_tables.first()?.path;
    if domain.family() != "virt" {
        return None;
    }
    let reason = format!(
        "machine 'virt' cannot have the ACPI table '{path}': QEMU supports -acpitable on x86 only"
    );
    let hint = virsh::edit(domain, "remove <os><acpi>");
    Some(Refusal::new(Code::AcpiTableRefused, reason, hint).at("/domain/os/acpi/table"))
}

fn nodesets(input: &PlanInput<'_>, domain: &Domain) -> Option<Refusal> {
    let named = domain.hostdevs.iter();
    let named: Vec<&Hostdev> = named.filter(|hostdev| hostdev.nodeset.is_some()).collect();
    let stack = &input.target.stack;
    if !stack.has(Feature::AcpiNodeset) {
        let nodeset = named
            .iter()
            .map(|hostdev| no_nodeset(domain, hostdev, stack.libvirt))
            .next();
        let empty = || match stack.has(Feature::EmptyCell) {
            true => None,
            false => empty_cell(domain, stack.libvirt),
        };
        return nodeset.or_else(empty);
    }
    named
        .iter()
        .find_map(|hostdev| missing_cell(domain, hostdev))
        .or_else(|| overlap(domain, &named))
}

/// libvirt drops the attribute silently, or refuses it by its schema.
fn no_nodeset(domain: &Domain, hostdev: &Hostdev, libvirt: Package) -> Refusal {
    let reason = format!("libvirt {libvirt} has no <acpi nodeset>");
    let hint = virsh::edit(domain, "remove the <acpi> element")
        .then(": the initiators are then passed as QEMU arguments");
    Refusal::new(Code::TargetOld, reason, hint)
        .of(hostdev.source)
        .at("/domain/devices/hostdev/acpi")
}

/// A cell without memory becomes a memory backend of size 0, which QEMU refuses.
fn empty_cell(domain: &Domain, libvirt: Package) -> Option<Refusal> {
    let id = domain.cells.iter().find(|cell| cell.memory_kib == 0)?.id;
    let reason =
        format!("libvirt {libvirt} cannot start a guest with cell {id}, which has no memory");
    let hint = virsh::edit(domain, "remove the cell, or give it memory")
        .then(": the cells of initiators are passed as QEMU arguments");
    let refusal = Refusal::new(Code::TargetOld, reason, hint);
    Some(refusal.at(format!("/domain/cpu/numa/cell[@id='{id}']")))
}

fn missing_cell(domain: &Domain, hostdev: &Hostdev) -> Option<Refusal> {
    let nodeset = hostdev.nodeset.as_ref()?;
    let missing = nodeset.iter().find(|id| domain.cell(*id).is_none())?;
    let reason = format!(
        "its <acpi nodeset='{nodeset}'> names cell {missing}, which does not exist: QEMU exits at start"
    );
    let hint = virsh::edit(domain, "add the cell, or remove the <acpi> element");
    Some(
        Refusal::new(Code::NodesetWrong, reason, hint)
            .of(hostdev.source)
            .at("/domain/devices/hostdev/acpi"),
    )
}

/// A cell without CPUs and memory belongs to one device; a cell with CPUs may be named by several.
fn overlap(domain: &Domain, named: &[&Hostdev]) -> Option<Refusal> {
    let sets = |hostdev: &&Hostdev| hostdev.nodeset.clone().unwrap_or_default();
    for (position, one) in named.iter().enumerate() {
        for other in &named[..position] {
            let (own, others) = (sets(one), sets(other));
            let both = own
                .iter()
                .find(|id| others.contains(*id) && domain.cell(*id).is_some_and(Cell::is_empty));
            if let Some(cell) = both {
                let reason = format!(
                    "its <acpi nodeset='{own}'> and '{others}' of '{}' both name cell {cell}",
                    other.source
                );
                let hint = virsh::edit(domain, "remove one of the two <acpi> elements");
                let refusal = Refusal::new(Code::NodesetOverlap, reason, hint);
                return Some(refusal.of(one.source).at("/domain/devices/hostdev/acpi"));
            }
        }
    }
    None
}

/// ACPI 6.5, 5.2.17: 10 for the node itself, more for any other. Linux ignores a table with other values.
fn distances(domain: &Domain) -> Option<Refusal> {
    let wrong = |cell: &Cell| {
        cell.distances.iter().find_map(|(to, value)| {
            let why = match (*to == cell.id, *value) {
                (true, 10) => None,
                (true, _) => Some("a cell's distance to itself must be 10"),
                (false, 0..=10) => Some("it must be 11 to 255"),
                (false, _) if domain.cell(*to).is_none() => Some("there is no such cell"),
                _ => None,
            };
            Some((cell.id, *to, *value, why?))
        })
    };
    let asymmetric = || {
        domain.cells.iter().find_map(|cell| {
            let (to, value) = cell.distances.iter().find(|(to, _)| {
                let back = domain
                    .cell(**to)
                    .and_then(|other| other.distances.get(&cell.id));
                **to != cell.id && back.is_none()
            })?;
            Some((
                cell.id,
                *to,
                *value,
                "the opposite direction has no distance, although other pairs differ by direction",
            ))
        })
    };
    // QEMU applies one direction to both only while no pair differs (hw/core/numa.c, validate_numa_distance).
    let asymmetric = || {
        domain
            .cells
            .iter()
            .any(|cell| differs(domain, cell))
            .then(asymmetric)?
    };
    let (from, to, value, why) = domain.cells.iter().find_map(wrong).or_else(asymmetric)?;
    let reason = format!("the distance {value} from cell {from} to cell {to} is invalid: {why}");
    let hint = virsh::edit(domain, "correct it, or remove <distances>");
    let refusal = Refusal::new(Code::DistanceInvalid, reason, hint);
    Some(refusal.at(format!("/domain/cpu/numa/cell[@id='{from}']/distances")))
}

/// True when a distance of a cell differs from that of the opposite direction.
fn differs(domain: &Domain, cell: &Cell) -> bool {
    cell.distances.iter().any(|(other, value)| {
        let back = domain.cell(*other).and_then(|o| o.distances.get(&cell.id));
        back.is_some_and(|back| back != value)
    })
}

fn iommus(domain: &Domain) -> Option<Refusal> {
    let smmus = domain
        .platform
        .iommus
        .iter()
        .filter(|iommu| iommu.model == "smmuv3");
    let smmus: Vec<&Iommu> = smmus.collect();
    let wrong = smmus.iter().find_map(|iommu| bus(domain, iommu));
    wrong
        .or_else(|| twice(domain, &smmus))
        .or_else(|| idle(domain, &smmus))
}

fn smmu(code: Code, domain: &Domain, reason: String, what: &str) -> Refusal {
    Refusal::new(code, reason, virsh::edit(domain, what)).at("/domain/devices/iommu")
}

fn bus(domain: &Domain, iommu: &Iommu) -> Option<Refusal> {
    let index = iommu.bus?;
    let model = domain
        .controller(index)
        .map_or("missing", |c| c.model.as_str());
    if matches!(model, "pcie-root" | "pcie-expander-bus") {
        return None;
    }
    let reason = format!(
        "its <iommu> names PCI controller {index}, which is '{model}': it must be 'pcie-root' or 'pcie-expander-bus'"
    );
    Some(smmu(Code::SmmuWrongBus, domain, reason, "correct 'pciBus'"))
}

fn twice(domain: &Domain, smmus: &[&Iommu]) -> Option<Refusal> {
    let mut seen = BTreeSet::new();
    let double = smmus.iter().find(|iommu| !seen.insert(iommu.bus))?;
    let place = double.bus.map_or("the machine".to_owned(), |bus| {
        format!("PCI controller {bus}")
    });
    let reason = format!("two SMMUv3 are in front of {place}");
    Some(smmu(Code::SmmuTwice, domain, reason, "remove one of them"))
}

/// An SMMUv3 without acceleration in front of a host device: QEMU refuses the mapping notifier.
fn idle(domain: &Domain, smmus: &[&Iommu]) -> Option<Refusal> {
    let idle = smmus.iter().find(|iommu| !iommu.accelerated)?;
    let behind = |hostdev: &&Hostdev| idle.bus.is_none_or(|bus| is_behind(domain, hostdev, bus));
    let hostdevs = domain.hostdevs.iter().filter(behind);
    let hostdev = hostdevs.min_by_key(|hostdev| hostdev.source)?;
    let reason = "it is behind an SMMUv3 without accel='on', which cannot serve VFIO".to_owned();
    let refusal = smmu(
        Code::SmmuIdle,
        domain,
        reason,
        "set accel='on', or remove the <iommu>",
    );
    Some(refusal.of(hostdev.source))
}

/// True when a controller is above a device, on the way to the guest's root bus.
pub(super) fn is_behind(domain: &Domain, hostdev: &Hostdev, bus: u32) -> bool {
    let mut at = hostdev.address.map(|address| u32::from(address.at.bus()));
    // The count ends the walk in a definition whose controllers form a loop.
    for _ in 0..=domain.controllers.len() + 1 {
        match at {
            Some(index) if index != bus => at = domain.bus_above(index),
            other => return other.is_some(),
        }
    }
    false
}
