//! The check finds the faults that it looks for: recorded calls of the real programs, with one kind of sync left out or moved.

use tests::power_cut::{Component, Report, Tree, check};
use tests::trace::Call;

use super::{
    Run, binding, commits_record, is_device_write, is_record, is_reply, is_reservation,
    reservations, view,
};

fn is_of_directory(call: &Call) -> bool {
    matches!(call, Call::Sync { path } if path.extension().is_none_or(|end| end != "new" && end != "toml"))
}

fn is_of_file(call: &Call) -> bool {
    matches!(call, Call::Sync { .. }) && !is_of_directory(call)
}

/// Each sync of a file comes after the next rename.
fn renamed_first(calls: &[Call]) -> Vec<Call> {
    let mut late: Option<Call> = None;
    let mut changed = Vec::new();
    for call in calls {
        match call {
            sync if is_of_file(sync) => late = Some(sync.clone()),
            Call::Rename { to, .. } => {
                changed.push(call.clone());
                let path = to.clone();
                changed.extend(late.take().map(|_| Call::Sync { path }));
            }
            other => changed.push(other.clone()),
        }
    }
    changed
}

/// Each sync of a directory comes after the next call that tells others.
fn told_first(calls: &[Call], tells: fn(&Call) -> bool) -> Vec<Call> {
    let mut late = Vec::new();
    let mut changed = Vec::new();
    for call in calls {
        match call {
            sync if is_of_directory(sync) => late.push(sync.clone()),
            other => {
                changed.push(other.clone());
                if tells(other) {
                    changed.append(&mut late);
                }
            }
        }
    }
    changed
}

fn without(calls: &[Call], such: fn(&Call) -> bool) -> Vec<Call> {
    calls.iter().filter(|call| !such(call)).cloned().collect()
}

fn findings(run: &Run, calls: &[Call], component: &Component<'_>) -> Vec<String> {
    let Report { findings, .. } = check(&run.root, &run.before, calls, component);
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn a_reservation_without_its_syncs_is_found() {
    let run = reservations();
    let view = |tree: &Tree| view::reservations(&run.scene, tree);
    let component = Component {
        keep: &is_reservation,
        commits: &is_reply,
        view: &view,
    };
    let found = |calls: &[Call]| findings(&run, calls, &component);
    assert_eq!(found(&run.calls), [""; 0]);
    let faulty = [
        (
            "no sync of a directory",
            without(&run.calls, is_of_directory),
        ),
        ("no sync of a file", without(&run.calls, is_of_file)),
        ("rename before the sync", renamed_first(&run.calls)),
        ("reply before the sync", told_first(&run.calls, is_reply)),
    ];
    for (fault, calls) in faulty {
        assert!(!found(&calls).is_empty(), "{fault}");
    }
}

#[test]
fn a_device_write_before_its_record_is_durable_is_found() {
    let run = binding();
    let component = Component {
        keep: &is_record,
        commits: &commits_record,
        view: &view::records,
    };
    let found = |calls: &[Call]| findings(&run, calls, &component);
    assert_eq!(found(&run.calls), [""; 0]);
    assert!(!found(&told_first(&run.calls, is_device_write)).is_empty());
    assert!(!found(&renamed_first(&run.calls)).is_empty());
}
