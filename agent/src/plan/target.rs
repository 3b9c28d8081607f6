//! Whether the target can express what the recipes need.

use super::{Assigned, Note, Plan, Setting};
use crate::code::Code;
use crate::domain::Domain;
use crate::recipe::Guest;
use crate::refusal::Refusal;
use crate::target::Version;

/// Refuses versions and machines that cannot carry the plan; notes those that carry it for nothing.
pub(super) fn check(
    setting: &Setting<'_>,
    domain: &Domain,
    assigned: &[Assigned<'_>],
    plan: &mut Plan,
) -> Result<(), Refusal> {
    let versions = setting.versions;
    for one in assigned {
        if one.recipe.initiators.is_some() {
            since("QEMU", versions.qemu, Version::GENERIC_INITIATOR)
                .map_err(|r| r.of(one.device.address))?;
        }
        let guest = guest(domain, one)?;
        if guest.is_some_and(|guest| !guest.driver_uses) {
            let arch = domain.arch.as_deref().unwrap_or("this architecture");
            let text = format!("no guest driver for {arch} is known to use its generic initiators");
            plan.notes.push(Note {
                code: Code::TargetUnused,
                device: Some(one.device.address),
                text,
            });
        }
    }
    Ok(())
}

fn since(what: &str, have: Version, need: Version) -> Result<(), Refusal> {
    if have >= need {
        return Ok(());
    }
    let reason = format!("{what} {have} cannot give a guest ACPI generic initiators");
    let mend = format!("use {what} {need} or newer (Debian testing has it)");
    Err(Refusal::new(Code::TargetOld, reason, mend))
}

/// The recipe's entry for the domain's machine; `None` while the definition names no machine.
fn guest<'a>(domain: &Domain, one: &Assigned<'a>) -> Result<Option<&'a Guest>, Refusal> {
    let (Some(arch), Some(machine)) = (&domain.arch, &domain.machine) else {
        return Ok(None);
    };
    let recipe = one.recipe;
    recipe.guest(domain).map(Some).ok_or_else(|| {
        let guests = recipe.guests.iter();
        let served: Vec<String> = guests
            .map(|guest| format!("{}/{}", guest.arch, guest.machine))
            .collect();
        let reason = format!(
            "recipe '{}' does not serve machine {arch}/{machine}",
            recipe.name
        );
        let mend = format!("use one of {}", served.join(", "));
        Refusal::new(Code::TargetMachine, reason, mend)
            .of(one.device.address)
            .at("/domain/os/type")
    })
}
