//! The fix in the definition: each device on its own root port, as a diff.
//!
//! A device is moved only when its driver asks for AtomicOps and can get them there, because a move separates the devices of a
//! mirrored switch or the functions of one card.

use kernel_glue::address::PciAddress;
use serde_json::{Value, json};

use super::super::problem::Problem;
use super::super::{HostView, diff, hint, output};
use super::definition::GuestDefinition;
use domain::code::Code;
use domain::{Domain, Hostdev};
use planner::atomics::{Bus, Judgement, Question, Report, report_planned};
use planner::plan::{self, PlanInput};
use planner::recipe::Need;
use planner::saved_plan::{self, Hunk};
use planner::target::{Target, Versions};

/// A change of the definition, and the command for it.
pub(super) struct Fix {
    name: String,
    hunks: Vec<Hunk>,
    command: String,
}

/// The findings that a root port of its own fixes.
const PLACES: [Code; 6] = [
    Code::AtomicsGuestBehind,
    Code::AtomicsGuestFunction,
    Code::AtomicsGuestMultifunction,
    Code::AtomicsGuestPortTaken,
    Code::AtomicsGuestRootBus,
    Code::AtomicsGuestUnknown,
];

/// The fix for devices at a wrong place; `None` when a move helps no driver.
pub(super) fn of(
    host_view: &HostView,
    definition: &GuestDefinition,
    question: &Question<'_>,
    reports: &[Report],
) -> Option<Fix> {
    let helped = reports
        .iter()
        .filter(|report| is_misplaced(report) && is_helped(question, report));
    let (switched, helped): (Vec<&Report>, Vec<&Report>) = helped.partition(|report| stays(report));
    explain(host_view, &switched);
    let helped: Vec<PciAddress> = helped.iter().map(|report| report.address).collect();
    let wrong = with_functions(definition.definition.domain(), &helped);
    // The fix must be right for the QEMU that the reports are about, which '--qemu' can name.
    let versions = Versions {
        qemu: question.qemu,
        ..definition.versions.unwrap_or(Versions::NEWEST_TESTED)
    };
    let input = PlanInput {
        host: &host_view.host,
        recipes: &host_view.recipes,
        target: Target {
            iommufd: definition.iommufd,
            ..Target::from(versions)
        },
        replace: true,
        egm: None,
        numa: planner::plan::NumaInput::default(),
        asked: true,
        formatted: false,
        libvirt: &definition.libvirt,
    };
    let changes = plan::placed(&input, definition.definition.domain(), &wrong);
    // The report is complete without a fix, so a refusal is only a note.
    let changes = changes
        .inspect_err(|refusal| {
            output::say(&format!(
                "note: no change of the definition gives the drivers their AtomicOps: {refusal}"
            ));
        })
        .ok()?;
    // The planning verbs move devices with a recipe, and no other device.
    let covered = wrong.iter().all(|address| {
        let device = host_view.host.devices.get(address);
        device.is_some_and(|device| host_view.recipes.for_device(device).is_some())
    });
    let covered = covered && switched.is_empty();
    (!changes.is_empty()).then(|| Fix {
        name: definition.name.clone(),
        hunks: saved_plan::hunks(definition.definition.text(), &changes),
        command: hint::for_host(&command(definition, covered), &host_view.root),
    })
}

fn is_misplaced(report: &Report) -> bool {
    let mut findings = report.guest.iter().flat_map(Judgement::findings);
    findings.any(|finding| PLACES.contains(&finding.code))
}

/// True for a driver that wants AtomicOps, lacks some, and may get them on a root port.
fn is_helped(question: &Question<'_>, report: &Report) -> bool {
    let wants = report.need.need != Need::Ignore && report.need.otherwise.is_none();
    let device = question.host.devices.get(&report.address);
    let planned = device.map(|device| report_planned(question, device, false));
    let can = planned.is_some_and(|planned| planned.driver.ok() != Some(false));
    wants && report.driver.ok() != Some(true) && can
}

/// True for a device behind a switch of the guest whose driver runs without AtomicOps: the user chose the switch so that
/// the guest sees which devices are near each other.
fn stays(report: &Report) -> bool {
    let place = report.place.as_ref();
    let switched = place.is_some_and(|place| matches!(place.bus, Bus::Switch(_)));
    switched && report.need.need == Need::Prefer
}

fn explain(host_view: &HostView, switched: &[&Report]) {
    if switched.is_empty() {
        return;
    }
    let devices: Vec<String> = switched
        .iter()
        .map(|one| format!("'{}'", one.address))
        .collect();
    let text = format!(
        "note: {}: left behind the guest's switch, without AtomicOps, which its driver does not need; \
         '{}' moves it to a root port",
        devices.join(", "),
        hint::for_host("variantctl rewrite --replace", &host_view.root)
    );
    output::say(&text);
}

/// Adds the other functions of each slot whose function 0 moves: a guest finds no function of a slot without function 0.
fn with_functions(domain: &Domain, moved: &[PciAddress]) -> Vec<PciAddress> {
    let addresses = domain
        .hostdevs
        .iter()
        .filter(|one| moved.contains(&one.source));
    let addresses = addresses.filter_map(|one| one.address);
    let heads: Vec<(u8, u8)> = addresses
        .filter(|address| address.at.function() == 0)
        .map(|address| (address.at.bus(), address.at.device()))
        .collect();
    let left_behind = |one: &&Hostdev| {
        let slot = one
            .address
            .map(|address| (address.at.bus(), address.at.device()));
        slot.is_some_and(|slot| heads.contains(&slot))
    };
    let others = domain
        .hostdevs
        .iter()
        .filter(left_behind)
        .map(|one| one.source);
    let others = others.filter(|source| !moved.contains(source));
    moved.iter().copied().chain(others).collect()
}

fn command(definition: &GuestDefinition, covered: bool) -> String {
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

    /// Prints the diff and the command.
    pub(super) fn print(&self, color: diff::Color) -> Result<(), Problem> {
        diff::print_hunks(&self.hunks, &self.name, color)?;
        output::say(&format!("note: run '{}' to make this change", self.command));
        Ok(())
    }
}
