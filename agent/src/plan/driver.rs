//! The VFIO driver that libvirt is told to use.
//!
//! libvirt picks a variant by `modules.alias` since 10.0, which fails where that file is not where it looks;
//! `<driver model>` names it. An older libvirt puts a managed device on plain vfio-pci.

use super::fragment::Fragment;
use super::{Assigned, Change, Plan, Setting};
use crate::code::Code;
use crate::domain::Domain;
use crate::refusal::Refusal;
use crate::target::Version;

/// What libvirt uses when nothing names a driver.
const PLAIN: &str = "vfio-pci";

/// Names the driver of each device that needs a variant; refuses what contradicts it.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<(), Refusal> {
    for one in assigned {
        let wanted = one.recipe.driver.as_str();
        let named = one.hostdev.driver.as_ref();
        match named.and_then(|driver| driver.model.as_deref()) {
            Some(model) if same(model, wanted) => {}
            Some(model) => return Err(contradicts(domain, one, model)),
            None if wanted == PLAIN => {}
            None if setting.target.versions.libvirt < Version::DRIVER_MODEL => {
                unmanaged(setting, domain, one)?
            }
            None if named.is_some() => {}
            None => {
                plan.changes.push(name(one));
                let added = plan.added_for.entry(one.hostdev.source).or_default();
                added.insert("driver");
            }
        }
    }
    Ok(())
}

/// libvirt takes hyphen and underscore for one (src/util/virpci.c).
fn same(one: &str, other: &str) -> bool {
    one.replace('-', "_") == other.replace('-', "_")
}

fn name(one: &Assigned<'_>) -> Change {
    let driver = &one.recipe.driver;
    let fragment = Fragment::new("driver")
        .with("name", "vfio")
        .with("model", driver);
    Change {
        code: Code::DriverMissing,
        device: Some(one.hostdev.source),
        path: format!(
            "/domain/devices/hostdev[source='{}']/driver",
            one.hostdev.source
        ),
        reason: format!("libvirt uses '{driver}' or fails, and never plain {PLAIN}"),
        edits: vec![one.hostdev.element.prepend(&fragment.print())],
    }
}

fn contradicts(domain: &Domain, one: &Assigned<'_>, model: &str) -> Refusal {
    let reason = format!(
        "its <driver model='{model}'> contradicts recipe '{}', which needs '{}'",
        one.recipe.name, one.recipe.driver
    );
    let mend = format!(
        "remove the <driver> element with 'virsh edit {}'",
        domain.name
    );
    Refusal::new(Code::DriverWrong, reason, mend)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/driver")
}

fn unmanaged(setting: &Setting<'_>, domain: &Domain, one: &Assigned<'_>) -> Result<(), Refusal> {
    if !one.hostdev.managed {
        return Ok(());
    }
    let reason = format!(
        "libvirt {} puts a managed device on {PLAIN}, and recipe '{}' needs '{}'",
        setting.target.versions.libvirt, one.recipe.name, one.recipe.driver
    );
    let mend = format!(
        "set managed='no' with 'virsh edit {}': variantd binds the device; or use libvirt {}",
        domain.name,
        Version::DRIVER_MODEL
    );
    Err(Refusal::new(Code::DriverWrong, reason, mend)
        .of(one.hostdev.source)
        .at("/domain/devices/hostdev/@managed"))
}
