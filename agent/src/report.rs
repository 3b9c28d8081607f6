//! Reports of prepared domains, from the results of the planner and libvirt.

use api::report::{Item, Outcome, Report};

use crate::failure::PrepareError;
use crate::libvirt::DomainRef;
use planner::plan::Plan;

/// A report without a plan.
pub(crate) fn of(domain: &DomainRef, outcome: Outcome) -> Report {
    Report::new(&domain.name, &domain.uuid, outcome)
}

/// A report of what `plan` changed and notes.
pub(crate) fn of_plan(domain: &DomainRef, outcome: Outcome, plan: &Plan) -> Report {
    let changes = plan.changes.iter().map(|change| Item {
        code: change.code.to_string(),
        device: change.device.map(|device| device.to_string()),
        path: Some(change.path.clone()),
        text: change.reason.clone(),
    });
    let notes = plan.notes.iter().map(|note| Item {
        code: note.code.to_string(),
        device: note.device.map(|device| device.to_string()),
        path: None,
        text: note.text.clone(),
    });
    Report {
        changes: changes.collect(),
        notes: notes.collect(),
        ..of(domain, outcome)
    }
}

/// A report of a refusal or failure.
pub(crate) fn of_error(domain: &DomainRef, error: &PrepareError) -> Report {
    let (outcome, code) = match error {
        PrepareError::Refused(refusal) => (Outcome::Refused, Some(refusal.code.to_string())),
        _ => (Outcome::Failed, None),
    };
    Report {
        sentence: Some(error.to_string()),
        code,
        ..of(domain, outcome)
    }
}
