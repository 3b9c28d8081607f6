//! Reports of prepared domains, from the results of the planner and libvirt.

use api::report::{Item, Outcome, Report};

use crate::failure::PrepareError;
use crate::libvirt::DomainRef;
use domain::Definition;
use planner::json;
use planner::plan::Plan;
use planner::rewrite::Rewrite;
use planner::summary::Summary;
use serde_json::Value;

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

/// What a rewrite does, for people.
pub(crate) fn summary(before: &Definition, rewrite: &Rewrite) -> Value {
    json::value(&Summary::of_rewrite(before, rewrite))
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
