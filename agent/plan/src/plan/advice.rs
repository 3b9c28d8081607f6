//! Notes for operators that hold for every guest with covered devices: migration, hot-unplug, locked memory.

use super::locked::Locked;
use super::{Assigned, Note, Part, PlanInput};
use domain::Domain;
use domain::code::Code;

pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, assigned: &[Assigned<'_>]) -> Part {
    let mut notes = Vec::new();
    let mut note = |code, device, text| notes.push(Note { code, device, text });
    let fixed = assigned.iter().find(|one| !one.recipe.migrates);
    if let Some(one) = fixed {
        let text = format!(
            "the guest cannot be migrated or saved: '{}' does not support migration",
            one.recipe.driver
        );
        note(Code::NotMigratable, Some(one.hostdev.source), text);
    }
    let pointed_at = assigned.iter().find(|one| one.recipe.initiators.is_some());
    if let Some(one) = pointed_at {
        let text = "do not hot-unplug it: QEMU exits at the guest's next reset unless the agent deletes its initiators"
            .to_owned();
        note(Code::UnplugDangerous, Some(one.hostdev.source), text);
    }
    note(
        Code::MemoryLocked,
        None,
        Locked::of(input, domain).text(domain),
    );
    Part::of_notes(notes)
}
