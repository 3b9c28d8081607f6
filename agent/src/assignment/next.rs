//! The decision: from a record and an event to the next record and its actions.

use super::action::{Action, Refused, Restore, Step};
use super::event::{Claim, Event};
use super::record::{Owner, Phase, Record};

/// Returns the step for an event. An event without a meaning for the record changes nothing.
pub(crate) fn next(record: Option<&Record>, event: &Event) -> Step {
    match (event, record) {
        (Event::Claim(claim), _) => claimed(record, claim, &[Action::Bind]),
        (Event::Appeared(claim), None) => claimed(None, claim, &[]),
        // Late results of a record that has ended, for example of a device that was unplugged during its release.
        (_, None) => Step::new(None, []),
        (Event::Bound, Some(record)) => Step::new(Some(record.at(Phase::Bound)), []),
        (Event::NotBound { lasting }, Some(record)) => not_bound(record, *lasting),
        (Event::Cancelled, Some(record)) => cancelled(record),
        (Event::Released, Some(record)) => released(record),
        (Event::Resumed, Some(record)) if record.phase.is_unsettled() => released(record),
        (Event::Restored, Some(record)) => restored(record),
        (Event::NotRestored { lasting }, Some(record)) => not_restored(record, *lasting),
        (Event::Resumed | Event::Appeared(_), Some(record)) => Step::new(Some(record.clone()), []),
    }
}

fn claimed(record: Option<&Record>, claim: &Claim, actions: &[Action]) -> Step {
    let refuse = |why| Step::new(record.cloned(), [Action::Refuse(why)]);
    if claim.is_taken {
        return refuse(Refused::Taken);
    }
    // The state that an interrupted change left must not be restored.
    if claim.lender.is_some_and(Phase::is_unsettled) {
        return refuse(Refused::Degraded);
    }
    if record.is_some_and(|record| !may_claim_again(record)) {
        return refuse(Refused::Degraded);
    }
    // The previous state and the owner of an earlier claim still count.
    let before = record.and_then(|record| record.before.clone());
    // A domain's bind is undone to `before`. Only an administrator's second bind is undone to the driver of the first.
    let replaces = record.filter(|record| record.owner != Owner::Domain);
    let record = Record {
        owner: record.map_or(claim.owner, |record| record.owner),
        target: claim.target.clone(),
        before: Some(before.unwrap_or_else(|| claim.now.clone())),
        phase: Phase::Binding,
        replaces: replaces.map(|record| record.target.clone()),
    };
    Step::new(Some(record), actions.iter().copied())
}

/// A domain's own bind or release that is not lasting continues; an administrator's is restored first.
fn may_claim_again(record: &Record) -> bool {
    match record.owner {
        Owner::Domain => record.phase != Phase::Degraded,
        Owner::Admin | Owner::Reservation => record.phase == Phase::Bound,
    }
}

/// A domain's bind of several devices is undone as a whole, to the state before the first attempt; an administrator's
/// bind has undone itself.
fn not_bound(record: &Record, lasting: bool) -> Step {
    match (record.owner, lasting) {
        (Owner::Domain, certain) => Step::new(Some(record.clone()), [restore(false, certain)]),
        (_, true) => Step::new(Some(record.at(Phase::Degraded)), [Action::Retry]),
        (_, false) => Step::new(record.replaced(), []),
    }
}

fn cancelled(record: &Record) -> Step {
    let undo = match record.owner {
        Owner::Domain => restore(false, false),
        Owner::Admin | Owner::Reservation => Action::Undo,
    };
    Step::new(Some(record.at(Phase::Binding)), [undo])
}

fn released(record: &Record) -> Step {
    // Adopted in a running guest: its earlier driver is unknown, so there is nothing to restore.
    if record.before.is_none() {
        return Step::new(None, []);
    }
    let certain = record.phase.is_unsettled();
    let ran = matches!(record.phase, Phase::Bound | Phase::Releasing);
    let phase = match (record.owner, record.phase) {
        (_, Phase::Bound) => Phase::Releasing,
        (Owner::Domain, phase) => phase,
        // The caller of that release has its reply, or none to wait for: the release continues until it is done.
        (Owner::Admin | Owner::Reservation, _) => Phase::Degraded,
    };
    let by_policy = ran && record.owner == Owner::Domain;
    Step::new(Some(record.at(phase)), [restore(by_policy, certain)])
}

/// An administrator's bind that was undone leaves the driver that it was to replace.
fn restored(record: &Record) -> Step {
    match (record.owner, record.phase) {
        (Owner::Admin | Owner::Reservation, Phase::Binding) => Step::new(record.replaced(), []),
        _ => Step::new(None, []),
    }
}

fn not_restored(record: &Record, lasting: bool) -> Step {
    match (record.owner, record.phase, lasting) {
        (Owner::Domain, _, false) => Step::new(Some(record.clone()), [Action::Retry]),
        // The release is refused, and the device stays bound.
        (Owner::Admin | Owner::Reservation, Phase::Releasing, false) => {
            Step::new(Some(record.at(Phase::Bound)), [])
        }
        _ => Step::new(Some(record.at(Phase::Degraded)), [Action::Retry]),
    }
}

fn restore(by_policy: bool, certain: bool) -> Action {
    Action::Restore(Restore { by_policy, certain })
}
