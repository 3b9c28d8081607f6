//! Files of an older version become records, regardless of where the migration is interrupted.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// The second device of the first domain.
const GPU1: &str = "0019:01:00.0";
const LENT: &str = "0029:01:00.0";

fn entry(uuid: &str, name: &str, devices: &[(&str, &str)]) -> String {
    let line = |(at, state): &(&str, &str)| {
        format!(
            r#"{{"address":"{at}","driver":"{VARIANT}","before":{{"driver":"nvidia","driver_override":null}},"state":"{state}"}}"#
        )
    };
    let devices: Vec<String> = devices.iter().map(line).collect();
    let devices = devices.join(",");
    format!(r#"{{"version":1,"uuid":"{uuid}","name":"{name}","devices":[{devices}]}}"#)
}

fn bound(at: &str, done: bool) -> String {
    format!(
        r#"{{"version":1,"device":"{at}","driver":"vfio-pci","before":{{"driver":null,"driver_override":"x"}},"done":{done}}}"#
    )
}

/// Every kind of file: two domains, manually bound devices, one of them lent, and a service stopped for two devices.
fn leave(run: &Path) {
    let service = service();
    let files = [
        (
            format!("journal/{UUID}.json"),
            entry(UUID, "d0", &[(GPU, "bound"), (GPU1, "releasing")]),
        ),
        (
            format!("journal/{OTHER}.json"),
            entry(OTHER, "d1", &[(LENT, "bound")]),
        ),
        (format!("bound/{LENT}.json"), bound(LENT, true)),
        (format!("bound/{NIC}.json"), bound(NIC, false)),
        (
            format!("stopped/{service}.json"),
            format!(r#"{{"version":1,"service":"{service}","devices":["{GPU}","{NIC}"]}}"#),
        ),
    ];
    for (name, text) in files {
        let path = run.join(name);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
        fs::write(path, text).expect("written");
    }
}

/// The records, and whether a file of an older version is left.
fn found(records: &Records, run: &Path) -> (Vec<DeviceRecord>, bool) {
    (records.readable(), Records::has_older(run))
}

/// The records from these files without faults.
fn whole() -> Vec<DeviceRecord> {
    let (directory, records) = records();
    leave(directory.path());
    let (records, is_left) = found(&records, directory.path());
    assert!(!is_left);
    records
}

/// Storage of a process that is killed at one of its steps, with or without the effect of that step.
#[derive(Debug)]
struct Dying {
    left: AtomicUsize,
    has_effect: bool,
}

impl Dying {
    /// Whether the step has its effect and whether the process continues.
    fn step(&self) -> (bool, bool) {
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
                left.checked_sub(1)
            });
        match left {
            Ok(1) => (self.has_effect, false),
            Ok(_) => (true, true),
            Err(_) => (false, false),
        }
    }

    fn at_step<T>(&self, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let (is_done, lives) = self.step();
        let done = is_done.then(work);
        match (done, lives) {
            (Some(done), true) => done,
            _ => Err(Errno::EINTR.into()),
        }
    }
}

impl Storage for Dying {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.at_step(|| Files.read(path, limit))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.at_step(|| Files.list(directory))
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        self.at_step(|| Files.replace(path, text))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.at_step(|| Files.remove(path))
    }
}

#[test]
fn each_file_of_an_older_version_becomes_records_by_device() {
    let records = whole();
    let named = |one: &DeviceRecord| {
        let domain = one.domain.as_ref();
        domain.map(|of| (of.domain.name.clone(), of.record.phase))
    };
    let of = |at: &str| {
        let found = records.iter().find(|one| one.device == address(at));
        found.expect("a record")
    };
    assert_eq!(records.len(), 4);
    assert_eq!(named(of(GPU)), Some(("d0".into(), Phase::Bound)));
    assert_eq!(named(of(GPU1)), Some(("d0".into(), Phase::Releasing)));
    assert_eq!(named(of(LENT)), Some(("d1".into(), Phase::Bound)));
    let manual = |at: &str| of(at).manual.as_ref().map(|one| one.record.phase);
    assert_eq!(manual(LENT), Some(Phase::Bound));
    assert_eq!((named(of(NIC)), manual(NIC)), (None, Some(Phase::Degraded)));
    assert_eq!(
        (
            of(GPU).units.len(),
            of(NIC).units.len(),
            of(GPU1).units.len()
        ),
        (1, 1, 0)
    );
}

/// Kills `work` at each of its steps, before and after the step's effect, on a directory of `prepared`: all records are found each time.
fn loses_nothing_at_any_step<T, E>(
    prepared: impl Fn() -> tempfile::TempDir,
    work: impl Fn(&Records) -> Result<T, E>,
) {
    let whole = whole();
    let mut steps = 0;
    for step in 1.. {
        let mut is_over = true;
        for has_effect in [false, true] {
            let directory = prepared();
            let dying = Arc::new(Dying {
                left: AtomicUsize::new(step),
                has_effect,
            });
            let records = Records::with_storage(directory.path().to_owned(), dying);
            is_over &= work(&records).is_ok();
            let next = Records::new(directory.path().to_owned());
            let (records, is_left) = found(&next, directory.path());
            assert!(records == whole && !is_left, "step {step}: {records:#?}");
        }
        if is_over {
            break;
        }
        steps += 1;
    }
    println!("killed at {steps} steps, each with and without its effect");
    assert!(steps > 16, "{steps}");
}

#[test]
fn migration_completes_after_a_kill_at_any_step() {
    let left = || {
        let directory = tempfile::tempdir().expect("directory");
        leave(directory.path());
        directory
    };
    loses_nothing_at_any_step(left, Records::devices);
}

#[test]
fn migration_completes_after_any_failed_step() {
    let (directory, _) = records();
    leave(directory.path());
    let older = directory.path().join("journal");
    let in_the_way = directory.path().join(DIRECTORY);
    fs::write(&in_the_way, "").expect("a file");
    let records = Records::new(directory.path().to_owned());
    assert!(records.entry(&domain().uuid).is_err());
    assert!(records.survey().unread.is_some() && older.exists());
    fs::remove_file(&in_the_way).expect("removed");
    assert_eq!(found(&records, directory.path()), (whole(), false));
}

#[test]
fn migration_sets_an_invalid_file_aside_and_skips_other_types() {
    let (directory, records) = records();
    leave(directory.path());
    let journal = directory.path().join("journal");
    let [damaged, no_file] = ["6f6f0b9e", "7f7f0b9e"].map(|first| {
        let rest = UUID.split_once('-').expect("a uuid").1;
        journal.join(format!("{first}-{rest}.json"))
    });
    fs::write(&damaged, entry(UUID, "another", &[(GPU, "bound")])).expect("written");
    fs::create_dir(&no_file).expect("a directory");
    assert_eq!(records.readable(), whole());
    assert!(damaged.with_extension("damaged").exists() && !damaged.exists());
    assert!(no_file.exists(), "it is named, and left");
}

#[test]
fn peek_reads_unmigrated_files_and_changes_nothing() {
    let (directory, _) = records();
    leave(directory.path());
    let run = directory.path();
    let device = address(GPU);
    assert_eq!(
        peek::holder(run, device).expect("readable").as_deref(),
        Some("d0")
    );
    let seen = peek::all(run).expect("listed");
    let good = |(_, peeked): &(String, Peeked)| matches!(peeked, Peeked::Good(_));
    assert!(seen.len() == 5 && seen.iter().all(good));
    assert!(Records::has_older(run) && !run.join(DIRECTORY).exists());
}

/// An agent before version 2 treats a running guest's devices as not bound by it.
#[test]
fn release_restores_the_device_after_downgrade_and_upgrade() {
    let (directory, records) = records();
    let held = held(GPU, Phase::Bound);
    let written = records.set_entry(&domain(), std::slice::from_ref(&held));
    written.expect("written");
    let adopted = entry(UUID, "d0", &[(GPU, "bound")]);
    let adopted = adopted.replace(r#"{"driver":"nvidia","driver_override":null}"#, "null");
    let path = directory.path().join(format!("journal/{UUID}.json"));
    fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    fs::write(path, adopted).expect("written");
    let again = Records::new(directory.path().to_owned());
    let entry = again.entry(&domain().uuid).expect("read").expect("some");
    assert_eq!(entry.devices, [held]);
}

/// A directory with the records of every kind, without older files.
fn migrated() -> tempfile::TempDir {
    let (directory, records) = records();
    leave(directory.path());
    assert_eq!(records.readable(), whole());
    directory
}

#[test]
fn records_written_back_are_those_that_the_next_migration_makes() {
    let directory = migrated();
    let records = Records::new(directory.path().to_owned());
    assert_eq!(records.migrate_back().expect("written"), 4);
    assert!(Records::has_older(directory.path()));
    assert!(peek::all(directory.path()).expect("listed").len() == 5);
    for device in [GPU, GPU1, LENT, NIC] {
        assert!(!records.path(address(device)).exists(), "{device}");
    }
    let next = Records::new(directory.path().to_owned());
    assert_eq!(found(&next, directory.path()), (whole(), false));
}

#[test]
fn a_kill_at_any_step_of_writing_back_loses_no_record() {
    loses_nothing_at_any_step(migrated, Records::migrate_back);
}

#[test]
fn a_device_of_a_guest_elsewhere_is_not_written_back() {
    let directory = migrated();
    let records = Records::new(directory.path().to_owned());
    let purpose = Purpose {
        leader: None,
        guest: Some(domain()),
    };
    let lent = Manual {
        purpose,
        ..manual(Phase::Bound)
    };
    records
        .set_manual(address(GPU), Some(lent))
        .expect("written");
    let before = records.readable();
    let error = records.migrate_back().expect_err("no older form");
    assert!(error.to_string().contains("guest 'd0'"), "{error}");
    assert!(!Records::has_older(directory.path()));
    assert_eq!(records.readable(), before);
}
