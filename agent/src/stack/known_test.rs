//! When the installed programs are asked again.

use super::*;

const LIBVIRT: Version = Version::new(12, 8, 0);

fn known(root: &Path) -> KnownStack {
    KnownStack::load(root.to_owned(), root.join(FILE))
}

fn found(root: &Path, notes: &[&str]) -> Found {
    std::fs::write(root.join("qemu"), "QEMU").expect("written");
    let versions = Versions {
        libvirt: LIBVIRT,
        ..Versions::NEWEST_TESTED
    };
    Found {
        key: Key::now(root, Path::new("/qemu"), LIBVIRT).expect("a key"),
        stack: Stack::assumed(versions),
        notes: notes.iter().map(|note| (*note).to_owned()).collect(),
    }
}

#[test]
fn pauses_double_up_to_an_hour_and_end_with_a_success() {
    let mut retry = Retry::default();
    let mut pauses = Vec::new();
    for _ in 0..10 {
        retry.note(true);
        pauses.push(retry.pause.as_secs());
    }
    let wanted = [15, 30, 60, 120, 240, 480, 960, 1920, 3600, 3600];
    assert_eq!(pauses, wanted);
    retry.note(false);
    assert!(retry.at.is_none() && retry.pause == Duration::ZERO);
}

#[test]
fn failed_source_is_due_after_its_pause_and_at_a_start() {
    let root = tempfile::tempdir().expect("a folder");
    let known = known(root.path());
    assert!(known.is_due(LIBVIRT) && known.pause().is_none());
    let found = found(root.path(), &["it failed"]);
    assert!(known.learn(found.clone()));
    known.note(true);
    assert!(!known.is_due(LIBVIRT));
    known.retry().at = Some(Instant::now());
    assert!(known.is_due(LIBVIRT));
    let again = KnownStack::load(root.path().to_owned(), root.path().join(FILE));
    assert!(again.is_due(LIBVIRT));
    assert!(!again.learn(found.clone()), "nothing new");
    let notes = Vec::new();
    assert!(again.learn(Found { notes, ..found }));
    again.note(false);
    assert!(!again.is_due(LIBVIRT));
}

#[test]
fn answers_to_other_questions_do_not_count() {
    let root = tempfile::tempdir().expect("a folder");
    let mut other = found(root.path(), &[]);
    other.key.questions += 1;
    let text = planner::json::text(&other);
    std::fs::write(root.path().join(FILE), text).expect("written");
    assert_eq!(known(root.path()).current(LIBVIRT), None);
    let text = planner::json::text(&found(root.path(), &[])).replace("questions", "q");
    std::fs::write(root.path().join(FILE), text).expect("written");
    assert!(known(root.path()).is_due(LIBVIRT));
}

#[test]
fn round_ends_with_its_last_call() {
    let known = KnownStack::default();
    let round = known.begin().expect("the first");
    let call = round.clone();
    drop(round);
    assert!(known.begin().is_none());
    drop(call);
    assert!(known.begin().is_some());
}
