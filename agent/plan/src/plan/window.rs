//! The 64-bit MMIO window: large enough for all BARs, a power of two, within the guest's address width.
//!
//! On `virt` QEMU accepts a power of two of at least 512 GiB (hw/arm/virt.c, `highmem-mmio-size`), and silently drops a window
//! that does not fit the address width. On `q35` it then refuses to start (hw/i386/pc.c, "phys-bits too low").

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;

use super::fragment::Fragment;
use super::qemu::Given;
use super::{
    Assigned, Change, Part, Placed, PlanInput, aperture, bar, command_line, qemu, virsh, width,
};
use crate::recipe::Window;
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Domain, Mark, Opened, Piece};

/// 1 GiB in KiB.
pub(super) const GIB: u64 = 1 << 20;

/// Sets the window if none is set; refuses one that is too small, not a power of two, or too wide.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    placed: &Placed,
) -> Result<Part, Refusal> {
    let counting: Vec<&Assigned<'_>> = assigned
        .iter()
        .filter(|one| window(domain, one).is_some())
        .collect();
    let Some(first) = counting.first() else {
        return Ok(Part::default());
    };
    let needed = needed_kib(input, domain, &counting, placed);
    if let Some(size) = argued(domain, needed).map_err(|it| it.of(first.hostdev.source))? {
        let mut part = width::check(input, domain, first, size)?;
        part.added.insert(Piece::UsersWindow);
        return Ok(part);
    }
    let have = domain.controller(0).and_then(|root| root.hole64_kib);
    // A size of the user is checked, and never changed.
    let size = have.unwrap_or(needed);
    if size < needed || !size.is_power_of_two() {
        return Err(wrong(domain, size, needed).of(first.hostdev.source));
    }
    let mut part = width::check(input, domain, first, size)?;
    let old = domain.family() == "virt" && !input.target.stack.has(Feature::VirtWindow);
    if have.is_some() && old {
        return Err(no_element(input, domain).of(first.hostdev.source));
    }
    if have.is_some() {
        return Ok(part);
    }
    if old {
        let argument = command_line::window(input, size);
        part.add(argument.map_err(|refusal| refusal.of(first.hostdev.source))?);
        return Ok(part);
    }
    let reason = reason(size, &asked(&counting));
    part.changes.push(add(domain, size, reason));
    part.added.extend(pieces(domain, size));
    Ok(part)
}

/// True when the window that the mark records still exists: ours with its size, or the user's argument.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    let hole = domain.controller(0).and_then(|root| root.hole64_kib);
    let is_argument = || {
        let mut arguments = command_line::ours(domain).into_iter();
        arguments.any(command_line::is_window)
    };
    let line = domain.command_line.iter();
    let mut arguments = line.flat_map(|line| &line.arguments);
    ours(mark).is_none_or(|kib| hole == Some(kib) || is_argument())
        && (!mark.added.has(&Piece::UsersWindow)
            || arguments.any(|one| one.value.contains("highmem-mmio-size=")))
}

/// Removes our window, unless its size was changed: then it is the user's.
pub(crate) fn undo(domain: &Domain, mark: &Mark) -> Option<Edit> {
    let root = domain.controller(0)?;
    let hole = root.hole64_element.as_ref()?;
    root.hole64_kib.filter(|kib| is_ours(mark, *kib))?;
    if mark.added.has(&Piece::Root) {
        Some(root.element.remove())
    } else if mark.added.opened(Opened::Root) {
        Some(root.element.collapse())
    } else {
        Some(hole.remove())
    }
}

/// The recipe's section, if it applies to the domain's machine type.
fn window<'a>(domain: &Domain, one: &Assigned<'a>) -> Option<&'a Window> {
    let window = one.recipe.window.as_ref()?;
    (domain.family() == window.machine).then_some(window)
}

/// The space that firmware needs for all assigned devices and everything else, as a power of two. For a device without VFIO
/// regions, the minimum of its recipe counts as well.
fn needed_kib(
    input: &PlanInput<'_>,
    domain: &Domain,
    counting: &[&Assigned<'_>],
    placed: &Placed,
) -> u64 {
    let end = aperture::end(&bar::roots(input, domain, placed));
    let least = bar::devices(input, domain).map(|(_, device)| bar::least(input, device));
    let least = least.fold(GIB, u64::saturating_add);
    let minimum = counting
        .iter()
        .filter_map(|one| one.recipe.window.as_ref())
        .map(|window| window.minimum_gib * GIB)
        .max()
        .unwrap_or(0);
    aperture::rounded(end.max(least)).max(minimum)
}

/// The window in KiB of the user's QEMU arguments: QEMU uses the last one.
fn argued(domain: &Domain, needed: u64) -> Result<Option<u64>, Refusal> {
    let given = qemu::foreign(domain);
    let text = given.iter().rev().find_map(Given::window);
    let Some(text) = text.filter(|_| domain.family() == "virt") else {
        return Ok(None);
    };
    let kib = qemu::size(text).map_or(0, |bytes| bytes / 1024);
    if kib >= needed && kib.is_power_of_two() {
        return Ok(Some(kib));
    }
    let least = kib.max(needed);
    let reason = format!(
        "<qemu:commandline> has highmem-mmio-size={text}, which is {}; at least {needed} KiB are needed",
        fault(kib, needed)
    );
    let size = aperture::rounded(least);
    let what = format!("set highmem-mmio-size={size}K there");
    let hint = virsh::edit(domain, &what).then(", or remove it");
    Err(Refusal::new(Code::WindowWrong, reason, hint).at("/domain/qemu:commandline"))
}

/// The size that VFIO reports, in KiB.
pub(super) fn asked_kib(device: &Device) -> Option<u64> {
    let rounded = aperture::rounded(device.shown_bytes()?);
    Some(rounded.div_ceil(1024))
}

/// The size that is known without VFIO, in KiB.
pub(super) fn known_kib(input: &PlanInput<'_>, device: &Device) -> u64 {
    let unasked = Device {
        regions: None,
        ..device.clone()
    };
    bar::least(input, &unasked)
}

/// True when VFIO reports other sizes than those known without it.
pub(super) fn differs(input: &PlanInput<'_>, device: &Device) -> bool {
    let sorted = |mut sizes: Vec<u64>| {
        sizes.sort_unstable();
        sizes
    };
    let same = sorted(bar::of(input, device)) == sorted(bar::known(input, device));
    !same && asked_kib(device) != Some(known_kib(input, device))
}

/// A window of ours, for the mark.
pub(super) fn piece(kib: u64) -> Piece {
    Piece::Window(Some(u32::try_from(kib / GIB).unwrap_or(u32::MAX)))
}

/// True when a window of this size is the one that the mark records. Old marks do not record the size.
fn is_ours(mark: &Mark, kib: u64) -> bool {
    let unsized_mark = || mark.added.has(&Piece::Window(None));
    ours(mark).map_or_else(unsized_mark, |ours| ours == kib)
}

/// The size in KiB of our window, as the mark records it.
pub(super) fn ours(mark: &Mark) -> Option<u64> {
    let mut pieces = mark.added.iter();
    pieces.find_map(|piece| match piece {
        Piece::Window(gib) => gib.map(|gib| u64::from(gib) * GIB),
        _ => None,
    })
}

/// Refuses the user's element, which this libvirt does not support.
fn no_element(input: &PlanInput<'_>, domain: &Domain) -> Refusal {
    let libvirt = input.target.stack.libvirt;
    let reason = format!("libvirt {libvirt} does not support <pcihole64> on machine 'virt'");
    let newer = format!(
        ": the window is then passed as a QEMU argument; or use libvirt {}",
        Feature::VirtWindow.first()
    );
    let hint = virsh::edit(domain, "remove it").then(&newer);
    Refusal::new(Code::TargetOld, reason, hint)
        .at("/domain/devices/controller[@index='0']/pcihole64")
}

/// The devices with known VFIO regions.
fn asked(counting: &[&Assigned<'_>]) -> Vec<PciAddress> {
    let devices = counting.iter().map(|one| one.device);
    let asked = devices.filter(|device| device.regions.is_some());
    asked.map(|device| device.address).collect()
}

fn add(domain: &Domain, kib: u64, reason: String) -> Change {
    let hole = Fragment::new("pcihole64").with("unit", "KiB").text(kib);
    let edit = match domain.controller(0) {
        Some(root) => root.element.append(&hole.print()),
        None => {
            let root = Fragment::new("controller")
                .with("type", "pci")
                .with("index", 0)
                .with("model", "pcie-root");
            domain.append_devices(&root.child(hole).print())
        }
    };
    Change {
        code: Code::WindowMissing,
        device: None,
        path: "/domain/devices/controller[@index='0']/pcihole64".to_owned(),
        reason,
        edits: vec![edit],
    }
}

fn reason(kib: u64, asked: &[PciAddress]) -> String {
    let gib = kib / GIB;
    let text = format!("a 64-bit MMIO window of {gib} GiB for the BARs that hold GPU memory");
    let quoted: Vec<String> = asked.iter().map(|device| format!("'{device}'")).collect();
    match quoted.is_empty() {
        true => text,
        false => format!("{text}, as VFIO reports for {}", quoted.join(", ")),
    }
}

fn pieces(domain: &Domain, kib: u64) -> impl Iterator<Item = Piece> {
    let around = match domain.controller(0) {
        None => Some(Piece::Root),
        Some(root) => (root.element.is_self_closed()).then_some(Piece::Open(Opened::Root)),
    };
    [piece(kib)].into_iter().chain(around)
}

fn wrong(domain: &Domain, have: u64, needed: u64) -> Refusal {
    let why = fault(have, needed);
    let reason =
        format!("the 64-bit MMIO window of {have} KiB is {why}; at least {needed} KiB are needed");
    let size = aperture::rounded(have.max(needed));
    let what = format!("set <pcihole64 unit='KiB'>{size}</pcihole64>");
    let hint = virsh::edit(domain, &what).then(", or remove it");
    Refusal::new(Code::WindowWrong, reason, hint)
        .at("/domain/devices/controller[@index='0']/pcihole64")
}

fn fault(have: u64, needed: u64) -> &'static str {
    match have {
        0 => "zero, which QEMU does not accept",
        _ if have < needed => "too small",
        _ => "not a power of two",
    }
}
