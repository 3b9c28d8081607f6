//! An accelerated SMMUv3 in front of each expander bus, and iommufd, without which QEMU does not accelerate.
//!
//! An SMMUv3 that is not accelerated cannot serve VFIO: it refuses mapping notifiers (hw/arm/smmuv3.c,
//! `smmuv3_notify_flag_changed`). So it is this one or none.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use super::fragment::Fragment;
use super::{Assigned, Change, Note, Plan, Setting};
use crate::code::Code;
use crate::domain::Domain;
use crate::recipe::{Attributes, Need, Smmu};
use crate::refusal::Refusal;
use crate::target::Version;

/// Plans SMMUs for the expander buses in `behind`, and iommufd where it is needed.
pub(super) fn plan(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    behind: &BTreeMap<PciAddress, u32>,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let mut served = BTreeSet::new();
    let mut accelerated = domain.platform.iommus.iter().any(|iommu| iommu.accelerated);
    for one in assigned {
        let Some((rules, bus)) = one.recipe.smmu.zip(behind.get(&one.hostdev.source)) else {
            continue;
        };
        if rules.need == Need::Ignore || has_smmu(domain, *bus) || !served.insert(*bus) {
            continue;
        }
        match lacking(setting, domain, one) {
            None => {
                plan.changes.push(add(setting, domain, one, rules, *bus));
                plan.added.insert(format!("smmu:{bus}"));
                assumed(setting, one, rules, plan);
                command_queues(domain, one, rules, plan);
                accelerated = true;
                if rules.need == Need::Require {
                    plan.required
                        .extend([Code::SmmuMissing, Code::IommufdMissing]);
                }
            }
            Some(lack) => leave_out(one, Code::SmmuLeftOut, "SMMUv3", rules.need, lack, plan)?,
        }
    }
    iommufd(setting, domain, assigned, accelerated, plan)
}

fn has_smmu(domain: &Domain, bus: u32) -> bool {
    let iommus = &domain.platform.iommus;
    iommus.iter().any(|iommu| iommu.bus == Some(bus))
}

/// Why a guest cannot have an accelerated SMMUv3 for a device.
fn lacking(setting: &Setting<'_>, domain: &Domain, one: &Assigned<'_>) -> Option<String> {
    let versions = setting.target.versions;
    let host = one.device.iommu.as_deref().unwrap_or("none");
    if versions.libvirt < Version::SMMU_ACCEL {
        Some(format!(
            "libvirt {} has no 'accel', {} has",
            versions.libvirt,
            Version::SMMU_ACCEL
        ))
    } else if versions.qemu < Version::SMMU_ACCEL_QEMU {
        let need = Version::SMMU_ACCEL_QEMU;
        Some(format!(
            "QEMU {} cannot accelerate it, {need} can",
            versions.qemu
        ))
    } else if domain.platform.is_emulated() {
        Some("acceleration needs KVM, and the domain has type='qemu'".to_owned())
    } else if !host.starts_with("smmu3") {
        Some(format!(
            "the device's IOMMU on this host is no SMMUv3 but '{host}'"
        ))
    } else if setting.host.nests_smmu == Some(false) {
        Some("the host's kernel is built without CONFIG_ARM_SMMU_V3_IOMMUFD".to_owned())
    } else {
        lacking_iommufd(setting, domain)
    }
}

/// Why a guest's host devices cannot go through iommufd.
fn lacking_iommufd(setting: &Setting<'_>, domain: &Domain) -> Option<String> {
    let versions = setting.target.versions;
    let off = domain
        .platform
        .iommufd
        .as_ref()
        .is_some_and(|iommufd| !iommufd.enabled);
    if versions.libvirt < Version::IOMMUFD {
        Some(format!(
            "libvirt {} has no <iommufd>, {} has",
            versions.libvirt,
            Version::IOMMUFD
        ))
    } else if !setting.host.iommufd {
        let mend =
            "'modprobe iommufd' or a kernel built with CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV";
        Some(format!("the host has no /dev/iommu: it takes {mend}"))
    } else if setting.target.iommufd == Some(false) {
        Some(
            "libvirt says that it cannot give this guest iommufd ('virsh domcapabilities')"
                .to_owned(),
        )
    } else {
        off.then(|| "the definition says <iommufd enabled='no'/>".to_owned())
    }
}

/// A piece that cannot be had: a refusal where it is required, else a note.
fn leave_out(
    one: &Assigned<'_>,
    code: Code,
    piece: &str,
    need: Need,
    lack: String,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let device = one.hostdev.source;
    if need == Need::Require {
        let reason = format!("its recipe requires {piece}: {lack}");
        let mend = format!(
            "mend that, or override the recipe '{}' with need = \"prefer\"",
            one.recipe.name
        );
        return Err(Refusal::new(code, reason, mend)
            .of(device)
            .at("/domain/devices/iommu"));
    }
    plan.notes.push(Note {
        code,
        device: Some(device),
        text: format!("the guest gets no {piece}: {lack}"),
    });
    Ok(())
}

fn add(
    setting: &Setting<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
    rules: Smmu,
    bus: u32,
) -> Change {
    let mut driver = Fragment::new("driver")
        .with("pciBus", bus)
        .with("accel", "on");
    if by_recipe(setting, rules) {
        driver = driver
            .with("ats", on(rules.ats))
            .with("ril", on(rules.ril))
            .with("ssidsize", rules.ssidsize)
            .with("oas", rules.oas);
    }
    if let Some(cmdqv) = rules.cmdqv {
        driver = driver.with("cmdqv", on(cmdqv));
    }
    let iommu = Fragment::new("iommu").with("model", "smmuv3").child(driver);
    Change {
        code: Code::SmmuMissing,
        device: Some(one.hostdev.source),
        path: format!("/domain/devices/iommu[driver/@pciBus='{bus}']"),
        reason: format!(
            "an SMMUv3 in front of expander bus {bus}, nested in the host's: the GPU's address translation services end there"
        ),
        edits: vec![domain.devices.append(&iommu.print())],
    }
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// True when the attributes are the recipe's: by its choice, or since QEMU cannot take the host's.
fn by_recipe(setting: &Setting<'_>, rules: Smmu) -> bool {
    rules.attributes == Attributes::Recipe || setting.target.versions.qemu < Version::SMMU_AUTO
}

fn assumed(setting: &Setting<'_>, one: &Assigned<'_>, rules: Smmu, plan: &mut Plan) {
    if !by_recipe(setting, rules) {
        return;
    }
    let text = format!(
        "its SMMUv3 has assumed attributes (ats {}, ril {}, ssidsize {}, oas {}): QEMU refuses at start what the host's SMMU has not",
        on(rules.ats),
        on(rules.ril),
        rules.ssidsize,
        rules.oas
    );
    plan.notes.push(Note {
        code: Code::SmmuAssumed,
        device: Some(one.hostdev.source),
        text,
    });
}

fn command_queues(domain: &Domain, one: &Assigned<'_>, rules: Smmu, plan: &mut Plan) {
    if rules.cmdqv == Some(true) && !domain.platform.hugepages {
        plan.notes.push(Note {
            code: Code::CommandQueues,
            device: Some(one.hostdev.source),
            text: "its SMMUv3 has command queues, which need the guest's memory in <hugepages/>"
                .to_owned(),
        });
    }
}

/// `<iommufd>`, where an accelerated SMMUv3 or a recipe needs it.
fn iommufd(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    accelerated: bool,
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let enabled = domain
        .platform
        .iommufd
        .as_ref()
        .is_some_and(|iommufd| iommufd.enabled);
    let asking = assigned
        .iter()
        .find(|one| one.recipe.iommufd != Need::Ignore);
    if enabled || !(accelerated || asking.is_some()) {
        return Ok(());
    }
    match (lacking_iommufd(setting, domain), asking) {
        (None, _) => {
            if asking.is_some_and(|one| one.recipe.iommufd == Need::Require) {
                plan.required.insert(Code::IommufdMissing);
            }
            plan.changes.push(enable(domain));
            plan.added.insert("iommufd");
            Ok(())
        }
        (Some(lack), Some(one)) => leave_out(
            one,
            Code::IommufdLeftOut,
            "iommufd",
            one.recipe.iommufd,
            lack,
            plan,
        ),
        (Some(lack), None) => Err(contradiction(domain, &lack)),
    }
}

fn enable(domain: &Domain) -> Change {
    let iommufd = Fragment::new("iommufd").with("enabled", "yes").print();
    Change {
        code: Code::IommufdMissing,
        device: None,
        path: "/domain/iommufd".to_owned(),
        reason: "host devices go through iommufd: an accelerated SMMUv3 nests only there"
            .to_owned(),
        edits: vec![domain.heading.insert_after(&iommufd)],
    }
}

/// The user's own accelerated SMMUv3 without iommufd: libvirt accepts it, QEMU does not start.
fn contradiction(domain: &Domain, lack: &str) -> Refusal {
    let reason = format!("an <iommu> has accel='on', which needs iommufd: {lack}");
    let mend = format!(
        "mend that, or remove the <iommu> with 'virsh edit {}'",
        domain.name
    );
    Refusal::new(Code::IommufdLeftOut, reason, mend).at("/domain/devices/iommu")
}
