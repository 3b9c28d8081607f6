//! `<driver>` of each hostdev: the VFIO driver that libvirt must use, and iommufd.
//!
//! libvirt chooses a variant driver from `modules.alias` since 10.0; that fails if the file is not at the path that libvirt
//! expects, so `<driver model>` names the driver. An older libvirt binds a managed device to plain vfio-pci. `iommufd='yes'` is
//! set here and not in `<iommufd>` of the domain, because every libvirt with iommufd accepts it on a hostdev (upstream since
//! 12.1, NVIDIA's since 11.9).

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;

use super::fragment::Fragment;
use super::smmu::Through;
use super::{Assigned, Change, Part, PlanInput, virsh};
use crate::stack::Feature;
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Domain, Driver, Hostdev, Marked, Piece};

/// The driver that libvirt uses by default.
const PLAIN: &str = "vfio-pci";

/// Devices whose hostdev does not name its driver; refuses a contradicting name.
pub(super) fn unnamed(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
) -> Result<BTreeSet<PciAddress>, Refusal> {
    let mut unnamed = BTreeSet::new();
    for one in assigned {
        if lacks_name(input, domain, one)? {
            unnamed.insert(one.hostdev.source);
        }
    }
    Ok(unnamed)
}

fn lacks_name(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> Result<bool, Refusal> {
    let wanted = one.recipe.driver.as_str();
    let named = one.hostdev.driver.as_ref();
    if let Some(kind) = named.and_then(|driver| driver.name.as_deref())
        && kind != "vfio"
    {
        return Err(contradicts(domain, one, "name", kind));
    }
    match named.and_then(|driver| driver.model.as_deref()) {
        Some(model) if same(model, wanted) => Ok(false),
        Some(model) => Err(contradicts(domain, one, "model", model)),
        None if wanted == PLAIN => Ok(false),
        None if !input.target.stack.has(Feature::DriverModel) => {
            unmanaged(input, domain, one).map(|()| false)
        }
        None => Ok(true),
    }
}

/// Plans what `<driver>` elements lack: the model for devices in `unnamed`, iommufd for devices in `through`.
pub(super) fn plan(
    assigned: &[Assigned<'_>],
    unnamed: &BTreeSet<PciAddress>,
    through: &Through,
) -> Part {
    let mut part = Part::default();
    for one in assigned {
        let device = one.hostdev.source;
        let lacks = (unnamed.contains(&device), through.devices.contains(&device));
        if lacks == (false, false) {
            continue;
        }
        part.changes.push(change(one, lacks, through.required));
        let added = part.added_for.entry(device).or_default();
        let is_new = one.hostdev.driver.is_none();
        if is_new {
            added.insert(Piece::Driver);
        }
        if lacks.0 && !is_new {
            added.insert(Piece::Model);
        }
        if lacks.1 {
            added.insert(Piece::Iommufd);
        }
    }
    part
}

/// True when a hostdev has the `<driver>` that was added to it.
pub(crate) fn is_intact(marked: &Marked, hostdev: &Hostdev) -> bool {
    !marked.added.has(&Piece::Driver) || hostdev.driver.is_some()
}

/// True when the `<driver>` is the one that a mark's entry records.
pub(crate) fn is_carried(marked: &Marked, hostdev: &Hostdev) -> bool {
    let (Some(ours), Some(driver)) = (&marked.driver, &hostdev.driver) else {
        return false;
    };
    let model = driver.model.as_deref().unwrap_or(PLAIN);
    let through = !marked.added.has(&Piece::Iommufd) || driver.iommufd == Some(true);
    same(model, ours) && through
}

/// Removes `<driver>` if it has only what we wrote, else only the attributes that we added.
pub(crate) fn undo(marked: &Marked, driver: &Driver) -> Vec<Edit> {
    let added = &marked.added;
    let (whole, iommufd) = (added.has(&Piece::Driver), added.has(&Piece::Iommufd));
    let theirs = driver.iommufd.is_some() && !iommufd;
    if whole && driver.is_bare && !theirs {
        return vec![driver.element.remove()];
    }
    let model = driver.model_attribute.clone();
    let model = model.filter(|_| whole || added.has(&Piece::Model));
    let through = driver.iommufd_attribute.clone();
    let through = through.filter(|_| iommufd && driver.iommufd == Some(true));
    model
        .into_iter()
        .chain(through)
        .map(Edit::removal)
        .collect()
}

/// libvirt treats hyphen and underscore as equal (src/util/virpci.c).
pub(super) fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

/// `required`: a guest without iommufd must not start.
fn change(one: &Assigned<'_>, (model, iommufd): (bool, bool), required: bool) -> Change {
    let driver = &one.recipe.driver;
    let named = format!("libvirt uses '{driver}' or fails, but never falls back to {PLAIN}");
    let through = "it goes through iommufd: an accelerated SMMUv3 nests only there";
    let (code, reason) = match (model, iommufd) {
        (true, true) if required => (Code::IommufdMissing, format!("{through}; {named}")),
        (true, true) => (Code::DriverMissing, format!("{named}; {through}")),
        (true, false) => (Code::DriverMissing, named),
        (false, _) => (Code::IommufdMissing, through.to_owned()),
    };
    Change {
        code,
        device: Some(one.hostdev.source),
        path: format!("{}/driver", one.hostdev.path()),
        reason,
        edits: vec![edit(one, model, iommufd)],
    }
}

/// A new element, or attributes of the one that is there.
fn edit(one: &Assigned<'_>, model: bool, iommufd: bool) -> Edit {
    let driver = one.recipe.driver.as_str();
    let Some(known) = &one.hostdev.driver else {
        let fragment = Fragment::new("driver")
            .with("name", "vfio")
            .with_some("model", if model { driver } else { "" })
            .with_some("iommufd", if iommufd { "yes" } else { "" });
        // First, where libvirt itself prints <driver>: so the text that is read back has the same order.
        return one.hostdev.element.prepend(&fragment.print());
    };
    with_attributes(known, model.then_some(driver), iommufd)
}

fn with_attributes(known: &Driver, model: Option<&str>, iommufd: bool) -> Edit {
    let model = model.map(|model| format!("model='{model}'"));
    let iommufd = iommufd.then(|| "iommufd='yes'".to_owned());
    let attributes: Vec<String> = model.into_iter().chain(iommufd).collect();
    known.element.with_attribute(&attributes.join(" "))
}

fn contradicts(domain: &Domain, one: &Assigned<'_>, attribute: &str, value: &str) -> Refusal {
    let reason = format!(
        "its <driver {attribute}='{value}'> contradicts recipe '{}', which needs '{}'",
        one.recipe.name, one.recipe.driver
    );
    let hint = virsh::edit(domain, "remove the <driver> element");
    Refusal::new(Code::DriverWrong, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/driver")
}
fn unmanaged(input: &PlanInput<'_>, domain: &Domain, one: &Assigned<'_>) -> Result<(), Refusal> {
    if !one.hostdev.managed {
        return Ok(());
    }
    let reason = format!(
        "libvirt {} puts a managed device on {PLAIN}, and recipe '{}' needs '{}'",
        input.target.stack.libvirt, one.recipe.name, one.recipe.driver
    );
    let newer = format!(
        ": variantd binds the device; or use libvirt {}",
        Feature::DriverModel.first()
    );
    let hint = virsh::edit(domain, "set managed='no'").then(&newer);
    Err(Refusal::new(Code::DriverWrong, reason, hint)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/@managed"))
}
