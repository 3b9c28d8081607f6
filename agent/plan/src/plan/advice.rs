//! What an operator should know of a guest with host devices, and what changes nothing.

use super::locked::Locked;
use super::{Assigned, Note, Part, PlanInput};
use domain::Domain;
use domain::code::Code;

/// The notes that hold for every guest with covered devices.
pub(super) fn plan(input: &PlanInput<'_>, domain: &Domain, assigned: &[Assigned<'_>]) -> Part {
    let mut notes = Vec::new();
    let mut note = |code, device, text| notes.push(Note { code, device, text });
    let fixed = assigned.iter().find(|one| !one.recipe.migrates);
    if let Some(one) = fixed {
        let text = format!(
            "the guest can neither migrate nor be saved: '{}' has no migration",
            one.recipe.driver
        );
        note(Code::NotMigratable, Some(one.hostdev.source), text);
    }
    let pointed_at = assigned.iter().find(|one| one.recipe.initiators.is_some());
    if let Some(one) = pointed_at {
        let text = "hot-unplugged, it leaves initiators behind that end QEMU at the guest's next reset, unless the agent runs and \
                    deletes them; plugged in again, it has none until the guest is started anew"
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
