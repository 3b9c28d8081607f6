//! What mends the guest's side: the definition with each device on a root port of its own, as a diff.

use kernel_glue::address::PciAddress;
use serde_json::{Value, json};

use super::super::problem::Problem;
use super::super::{View, diff};
use super::definition::Definition;
use crate::atomics::{Answer, Report};
use crate::code::Code;
use crate::plan::{self, Setting};
use crate::proposal::{self, Hunk};
use crate::target::{Target, Version, Versions};

/// A change of the definition, and how to make it.
pub(super) struct Fix {
    name: String,
    hunks: Vec<Hunk>,
    command: String,
}

/// What a place of its own mends.
const PLACES: [Code; 6] = [
    Code::AtomicsGuestBehind,
    Code::AtomicsGuestFunction,
    Code::AtomicsGuestMultifunction,
    Code::AtomicsGuestPortTaken,
    Code::AtomicsGuestRootBus,
    Code::AtomicsGuestUnknown,
];

/// For the devices of the definition whose place is wrong; `None` where there is none, or it cannot be mended so.
pub(super) fn of(
    view: &View,
    definition: &Definition,
    qemu: Version,
    reports: &[Report],
) -> Option<Fix> {
    let wrong: Vec<PciAddress> = reports
        .iter()
        .filter(|report| is_misplaced(report))
        .map(|report| report.address)
        .collect();
    let versions = Versions {
        qemu,
        ..Versions::NEWEST_TESTED
    };
    let setting = Setting {
        host: &view.host,
        recipes: &view.recipes,
        target: Target::from(versions),
        replace: true,
        asked: true,
        formatted: false,
    };
    let changes = plan::placed(&setting, &definition.domain, &wrong);
    let changes = changes
        .inspect_err(|refusal| eprintln!("note: no change of the definition mends it: {refusal}"))
        .ok()?;
    let covered = wrong.iter().all(|address| {
        let device = view.host.devices.get(address);
        device.is_some_and(|device| view.recipes.for_device(device).is_some())
    });
    (!changes.is_empty()).then(|| Fix {
        name: definition.name.clone(),
        hunks: proposal::hunks(&definition.text, &changes),
        command: command(definition, covered),
    })
}

fn is_misplaced(report: &Report) -> bool {
    let guest = report.guest.as_ref().and_then(Answer::finding);
    guest.is_some_and(|finding| PLACES.contains(&finding.code))
}

fn command(definition: &Definition, covered: bool) -> String {
    let name = &definition.name;
    match (definition.defined, covered) {
        (true, true) => format!("variantctl prepare --replace {name}"),
        (true, false) => format!("virsh edit {name}"),
        (false, true) => format!("variantctl rewrite --replace {name}"),
        (false, false) => format!("patch {name}"),
    }
}

impl Fix {
    pub(super) fn json(&self) -> Value {
        json!({"hunks": self.hunks, "command": self.command})
    }

    /// The diff, and what makes the change.
    pub(super) fn print(&self, color: diff::Color) -> Result<(), Problem> {
        diff::print_hunks(&self.hunks, &self.name, color)?;
        eprintln!("note: '{}' makes this change", self.command);
        Ok(())
    }
}
