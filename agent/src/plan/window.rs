//! The 64-bit MMIO window of Arm's `virt` machine, which does not size itself.
//!
//! QEMU takes a power of two of at least 512 GiB (hw/arm/virt.c, `highmem-mmio-size`), and drops the
//! window without a word when it does not fit the address width.

use super::fragment::Fragment;
use super::{Assigned, Change, Plan};
use crate::code::Code;
use crate::domain::Domain;
use crate::recipe::Window;
use crate::refusal::Refusal;

/// 1 GiB in KiB.
const GIB: u64 = 1 << 20;

/// Sets the window where none is set; refuses one that is too small or no power of two.
pub(super) fn plan(
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let counting: Vec<&Assigned<'_>> = assigned
        .iter()
        .filter(|one| window(domain, one).is_some())
        .collect();
    let Some(first) = counting.first() else {
        return Ok(());
    };
    let needed = needed_kib(&counting);
    let root = domain.controller(0);
    match root.and_then(|root| root.hole64_kib) {
        Some(have) if have >= needed && have.is_power_of_two() => Ok(()),
        Some(have) => Err(too_small(domain, have, needed).of(first.hostdev.source)),
        None => {
            plan.changes.push(add(domain, needed));
            plan.added.insert("window");
            match root {
                None => plan.added.insert("root"),
                Some(root) if root.element.is_self_closed() => plan.added.insert("open:root"),
                Some(_) => {}
            }
            Ok(())
        }
    }
}

/// The recipe's section, when it is about the domain's machine type.
fn window<'a>(domain: &Domain, one: &Assigned<'a>) -> Option<&'a Window> {
    let window = one.recipe.window.as_ref()?;
    (domain.family() == window.machine).then_some(window)
}

/// What all devices need, and 1 GiB for everything else, as a power of two.
fn needed_kib(assigned: &[&Assigned<'_>]) -> u64 {
    let sum: u64 = assigned.iter().map(|one| device_kib(one)).sum();
    let minimum = assigned
        .iter()
        .filter_map(|one| one.recipe.window.as_ref())
        .map(|window| window.minimum_gib * GIB)
        .max()
        .unwrap_or(0);
    (sum + GIB).next_power_of_two().max(minimum)
}

/// The larger of what sysfs shows and what the recipe knows: emulated BARs are not in sysfs.
fn device_kib(one: &Assigned<'_>) -> u64 {
    let shown = one
        .device
        .bars
        .iter()
        .filter(|bar| bar.is_64bit_prefetchable());
    let shown: u64 = shown.map(|bar| bar.size.div_ceil(1024)).sum();
    let known = one
        .recipe
        .member(one.device.id)
        .map_or(0, |member| member.window_gib * GIB);
    shown.max(known)
}

fn add(domain: &Domain, kib: u64) -> Change {
    let hole = Fragment::new("pcihole64").with("unit", "KiB").text(kib);
    let edit = match domain.controller(0) {
        Some(root) => root.element.append(&hole.print()),
        None => {
            let root = Fragment::new("controller")
                .with("type", "pci")
                .with("index", 0)
                .with("model", "pcie-root");
            domain.devices.append(&root.child(hole).print())
        }
    };
    let reason = format!(
        "a 64-bit MMIO window of {} GiB for the BARs that hold GPU memory",
        kib / GIB
    );
    let path = "/domain/devices/controller[@index='0']/pcihole64".to_owned();
    Change {
        code: Code::WindowMissing,
        device: None,
        path,
        reason,
        edits: vec![edit],
    }
}

fn too_small(domain: &Domain, have: u64, needed: u64) -> Refusal {
    let reason = format!(
        "the 64-bit MMIO window of {have} KiB is too small or no power of two, {needed} KiB are needed"
    );
    let mend = format!(
        "set <pcihole64 unit='KiB'>{needed}</pcihole64> with 'virsh edit {}', or remove it",
        domain.name
    );
    Refusal::new(Code::WindowWrong, reason, mend)
        .at("/domain/devices/controller[@index='0']/pcihole64")
}
