//! An accelerated SMMUv3 in front of each expander bus. QEMU accelerates it only for devices that use iommufd (`iommufd.rs`).
//!
//! An SMMUv3 without acceleration cannot serve VFIO: it refuses mapping notifiers (hw/arm/smmuv3.c,
//! `smmuv3_notify_flag_changed`). So a guest gets an accelerated one or none.

pub(crate) mod iommufd;
mod queues;

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;

use super::fragment::Fragment;
use super::{Assigned, Change, Note, Part, PlanInput, pair};
use crate::recipe::{Attributes, Need, Smmu};
use crate::stack::{Feature, Spelling, Stack};
use domain::code::Code;
use domain::edit::Edit;
use domain::refusal::Refusal;
use domain::{Domain, Hostdev, Mark, Piece};
use iommufd::{Scene, is_off, lacking as lacking_iommufd};
pub(super) use queues::Memory;
use queues::Queues;

/// The devices that need iommufd on their hostdev and do not have it.
#[derive(Debug, Default)]
pub(super) struct Through {
    pub(super) devices: BTreeSet<PciAddress>,
    /// A guest without iommufd must not start.
    pub(super) required: bool,
}

/// Plans SMMUs for the expander buses in `behind`, and iommufd.
pub(super) fn plan(
    input: &PlanInput<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    behind: &BTreeMap<PciAddress, u32>,
    memory: Memory,
) -> Result<(Part, Through), Refusal> {
    let (mut part, mut served) = (Part::default(), BTreeSet::new());
    let known = domain
        .platform
        .iommus
        .iter()
        .filter(|iommu| iommu.accelerated);
    let mut accelerated: Vec<Option<u32>> = known.map(|iommu| iommu.bus).collect();
    for one in assigned {
        let Some((rules, bus)) = one.recipe.smmu.zip(behind.get(&one.hostdev.source)) else {
            continue;
        };
        // One SMMUv3 for each bus: QEMU exits at a second one (hw/arm/smmu-common.c).
        if rules.need == Need::Ignore || has_smmu(domain, *bus) || !served.insert(*bus) {
            continue;
        }
        // The SMMUv3 serves all devices of the bus: a single hostdev with iommufd off makes it impossible for all of them.
        let beside = assigned
            .iter()
            .filter(|other| behind.get(&other.hostdev.source) == Some(bus));
        let refusing = beside
            .map(|other| other.hostdev)
            .find(|hostdev| is_off(hostdev));
        match lacking(input, domain, one, refusing) {
            None => {
                let queues = Queues::of(input, domain, rules);
                part.changes
                    .push(add(input, domain, one, (rules, *bus), &queues));
                part.added.insert(Piece::Smmu(*bus));
                part.notes.extend(assumed(input, one, rules));
                part.notes.extend(queues.note(one, rules, memory)?);
                // From here on, the planned SMMUv3 counts like an existing one: hostdevs without a recipe behind it need iommufd as well.
                accelerated.push(Some(*bus));
                if rules.need == Need::Require {
                    part.required
                        .extend([Code::SmmuMissing, Code::IommufdMissing]);
                }
            }
            Some(lack) => {
                let note = left_out(one, Code::SmmuLeftOut, "SMMUv3", rules.need, lack)?;
                part.notes.push(note);
            }
        }
    }
    let scene = Scene {
        input,
        domain,
        assigned,
        behind,
        accelerated: &accelerated,
    };
    let (iommufd, devices) = iommufd::plan(&scene)?;
    part.add(iommufd);
    let required = part.required.contains(&Code::IommufdMissing);
    Ok((part, Through { devices, required }))
}

/// True when each SMMUv3 that we added exists, and its controller exists.
pub(crate) fn is_intact(domain: &Domain, mark: &Mark) -> bool {
    let mut ours = mark.added.iter().filter_map(|piece| match piece {
        Piece::Smmu(bus) => Some(*bus),
        _ => None,
    });
    ours.all(|bus| domain.controller(bus).is_some() && has_smmu(domain, bus))
}

/// Removes our SMMUv3s in front of removed expander buses and of the user's. `unused` has the removed controllers.
pub(crate) fn undo(domain: &Domain, mark: &Mark, unused: &BTreeSet<u32>) -> Vec<Edit> {
    let is_going = |bus: &u32| unused.contains(bus) || !mark.added.has(&Piece::Expander(*bus));
    let ours = domain.platform.iommus.iter().filter(|iommu| {
        let bus = iommu.bus.filter(is_going);
        bus.is_some_and(|bus| mark.added.has(&Piece::Smmu(bus)))
    });
    ours.map(|iommu| iommu.element.remove()).collect()
}

fn has_smmu(domain: &Domain, bus: u32) -> bool {
    let iommus = &domain.platform.iommus;
    iommus.iter().any(|iommu| iommu.bus == Some(bus))
}

/// Why a guest cannot have an accelerated SMMUv3 for a device. `refusing` is a hostdev on its bus with iommufd off.
fn lacking(
    input: &PlanInput<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
    refusing: Option<&Hostdev>,
) -> Option<String> {
    let stack = &input.target.stack;
    let host = one.device.iommu.as_deref().unwrap_or("none");
    if !stack.has(Feature::SmmuAccel) {
        Some(format!(
            "libvirt {} has no 'accel', {} has",
            stack.libvirt,
            Feature::SmmuAccel.first()
        ))
    } else if !stack.has(Feature::QemuSmmuAccel) {
        let need = Feature::QemuSmmuAccel.first();
        Some(format!(
            "QEMU {} cannot accelerate it, {need} can",
            stack.qemu
        ))
    } else if domain.platform.is_emulated() {
        Some("acceleration needs KVM, and the domain has type='qemu'".to_owned())
    // The kernel's name of the instance, such as `smmu3.0x0000000011000000` (drivers/iommu/arm/arm-smmu-v3).
    } else if !host.starts_with("smmu3") {
        Some(format!(
            "the device's IOMMU on this host is '{host}', not an SMMUv3"
        ))
    } else if input.host.nests_smmu == Some(false) {
        Some("the host's kernel is built without CONFIG_ARM_SMMU_V3_IOMMUFD".to_owned())
    } else if let Some(lack) = misfit(input, one) {
        Some(lack)
    } else {
        lacking_iommufd(input, domain, refusing.unwrap_or(one.hostdev))
    }
}

/// Why the pair cannot have the attributes that are written.
fn misfit(input: &PlanInput<'_>, one: &Assigned<'_>) -> Option<String> {
    let rules = one.recipe.smmu.filter(|rules| by_recipe(input, *rules));
    rules.and_then(|_| pair::attributes(&input.target.stack))
}

/// A piece that the guest cannot have: a refusal if the recipe requires it, else a note.
fn left_out(
    one: &Assigned<'_>,
    code: Code,
    piece: &str,
    need: Need,
    lack: String,
) -> Result<Note, Refusal> {
    let device = one.hostdev.source;
    if need == Need::Require {
        let reason = format!("its recipe requires {piece}: {lack}");
        let hint = format!(
            "fix that, or override recipe '{}' with need = \"prefer\"",
            one.recipe.name
        );
        return Err(Refusal::new(code, reason, hint)
            .of(device)
            .at("/domain/devices/iommu"));
    }
    Ok(Note {
        code,
        device: Some(device),
        text: format!("the guest gets no {piece}: {lack}"),
    })
}

fn add(
    input: &PlanInput<'_>,
    domain: &Domain,
    one: &Assigned<'_>,
    (rules, bus): (Smmu, u32),
    queues: &Queues,
) -> Change {
    let mut driver = Fragment::new("driver")
        .with("pciBus", bus)
        .with("accel", "on");
    if by_recipe(input, rules) {
        driver = driver.with("ats", on(rules.ats)).with("ril", on(rules.ril));
        if let Some((name, value)) = substream_id(&input.target.stack, rules) {
            driver = driver.with(name, value);
        }
        driver = driver.with("oas", rules.oas);
    }
    if let Some(cmdqv) = queues.attribute() {
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
        edits: vec![domain.append_devices(&iommu.print())],
    }
}

/// The attribute for the size of the substream id, as this libvirt has it.
fn substream_id(stack: &Stack, rules: Smmu) -> Option<(&'static str, String)> {
    let name = stack.spelling(Feature::SmmuSsid)?;
    let value = match name {
        // NVIDIA's 11.9 has a switch instead of a size.
        Spelling::Pasid => on(rules.ssidsize > 0).to_owned(),
        _ => rules.ssidsize.to_string(),
    };
    Some((name.as_str(), value))
}

fn on(value: bool) -> &'static str {
    if value { "on" } else { "off" }
}

/// True when the attributes come from the recipe: by its choice, or because this QEMU cannot use the host's.
fn by_recipe(input: &PlanInput<'_>, rules: Smmu) -> bool {
    rules.attributes == Attributes::Recipe || !input.target.stack.smmu_is_auto()
}

fn assumed(input: &PlanInput<'_>, one: &Assigned<'_>, rules: Smmu) -> Option<Note> {
    if !by_recipe(input, rules) {
        return None;
    }
    let ssid = substream_id(&input.target.stack, rules);
    let ssid = ssid.map_or_else(String::new, |(name, value)| format!(" {name} {value},"));
    let text = format!(
        "its SMMUv3 has assumed attributes (ats {}, ril {},{ssid} oas {}): QEMU refuses to start if the host's SMMU lacks one",
        on(rules.ats),
        on(rules.ril),
        rules.oas
    );
    Some(Note {
        code: Code::SmmuAssumed,
        device: Some(one.hostdev.source),
        text,
    })
}
