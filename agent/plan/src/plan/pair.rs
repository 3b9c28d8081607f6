//! Whether libvirt and QEMU fit each other in the attributes of an SMMUv3.
//!
//! libvirt writes each attribute as a property with its own name and JSON type, and QEMU exits at start if it does not have the
//! property in this type. An argument of `<qemu:commandline>` cannot take its place: QEMU makes devices of plain arguments before
//! those of JSON, so that the expander bus that `primary-bus` names does not exist yet (seen with QEMU 11.1).

use super::{Note, PlanInput, virsh};
use crate::stack::{Feature, Misfit, Spelling, Stack};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Domain, Extension};

/// The attribute for command queues.
const QUEUES: &str = "cmdqv";

/// Why the attributes of an SMMUv3 other than command queues cannot be written.
pub(super) fn attributes(stack: &Stack) -> Option<String> {
    first(stack, |attribute| attribute != QUEUES)
}

/// Why command queues cannot be written.
pub(super) fn command_queues(stack: &Stack) -> Option<String> {
    first(stack, |attribute| attribute == QUEUES)
}

/// The first misfit among these attributes.
fn first(stack: &Stack, is_one: impl Fn(&str) -> bool) -> Option<String> {
    let mut misfits = stack.misfits().into_iter();
    let misfit = misfits.find(|misfit| is_one(misfit.attribute))?;
    Some(misfit.text(stack))
}

/// Refuses an attribute of the definition that is known not to fit.
pub(super) fn check(input: &PlanInput<'_>, domain: &Domain) -> Option<Refusal> {
    let stack = &input.target.stack;
    let mut written = written(stack, domain).into_iter();
    let misfit = written.find(|misfit| misfit.is_sure(stack))?;
    let reason = format!("QEMU exits at start: {}", misfit.text(stack));
    let what = format!("remove '{}' from <iommu>", misfit.attribute);
    let hint = virsh::edit(domain, &what).then(", or upgrade the older of the two packages");
    let refusal = Refusal::new(Code::SmmuPair, reason, hint);
    Some(refusal.at("/domain/devices/iommu/driver"))
}

/// Notes on attributes of the definition that are assumed not to fit.
pub(crate) fn notes(domain: &Domain, stack: &Stack) -> Vec<Note> {
    let written = written(stack, domain).into_iter();
    let assumed = written.filter(|misfit| !misfit.is_sure(stack));
    let note = |misfit: Misfit| Note {
        code: Code::SmmuPair,
        device: None,
        text: format!("QEMU may exit at start: {}", misfit.text(stack)),
    };
    assumed.map(note).collect()
}

/// The misfits among the attributes that a definition has and this libvirt knows.
fn written(stack: &Stack, domain: &Domain) -> Vec<Misfit> {
    let mut misfits = stack.misfits();
    misfits.retain(|misfit| {
        let own = extension(stack, misfit);
        own.is_some_and(|own| domain.extensions.contains(&own))
    });
    misfits
}

fn extension(stack: &Stack, misfit: &Misfit) -> Option<Extension> {
    Some(match misfit.libvirt {
        Feature::SmmuAtsType => Extension::Ats,
        Feature::SmmuRilType => Extension::Ril,
        Feature::SmmuOasType => Extension::Oas,
        Feature::SmmuCmdqv => Extension::Cmdqv,
        _ => match stack.spelling(misfit.libvirt)? {
            Spelling::Pasid => Extension::Pasid,
            Spelling::SsidSizeVendor => Extension::VendorSsidSize,
            _ => Extension::SsidSize,
        },
    })
}
