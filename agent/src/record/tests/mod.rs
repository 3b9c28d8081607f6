//! Records in a temporary directory.

use std::fs;

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use proptest::prelude::*;

use super::*;
use crate::assignment::Owner;
use crate::fixture::{GPU, NIC, UUID, VARIANT, address, driver};

mod migrate;

const OTHER: &str = "70700b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

fn domain() -> DomainRef {
    DomainRef {
        uuid: UUID.parse().expect("uuid"),
        name: "d0".into(),
    }
}

fn record(owner: Owner, phase: Phase) -> Record {
    let before = Before {
        driver: Some(driver("nvidia")),
        driver_override: None,
    };
    text::of(owner, driver(VARIANT), Some(before), phase)
}

fn held(at: &str, phase: Phase) -> Held {
    let record = record(Owner::Domain, phase);
    Held {
        address: address(at),
        record,
    }
}

fn manual(phase: Phase) -> Manual {
    Manual {
        device: address(GPU),
        purpose: Purpose::default(),
        record: record(Owner::Admin, phase),
    }
}

fn service() -> ServiceName {
    ServiceName::known().next().expect("one is known")
}

fn records() -> (tempfile::TempDir, Records) {
    let directory = tempfile::tempdir().expect("directory");
    let records = Records::new(directory.path().to_owned());
    (directory, records)
}

impl Records {
    fn phases(&self) -> Vec<Phase> {
        let entry = self.entry(&domain().uuid).expect("readable");
        let devices = entry.map_or(Vec::new(), |entry| entry.devices);
        devices.iter().map(|held| held.record.phase).collect()
    }

    /// True if there is no record of the device on disk.
    fn is_free(&self) -> bool {
        !self.path(address(GPU)).exists()
    }
}

#[test]
fn entry_reads_as_it_was_written() {
    let (_directory, records) = records();
    let devices = [held(NIC, Phase::Bound), held(GPU, Phase::Bound)];
    assert_eq!(records.entry(&domain().uuid).expect("nothing"), None);
    records.set_entry(&domain(), &devices).expect("written");
    let entry = records.entry(&domain().uuid).expect("read").expect("some");
    assert_eq!(
        (entry.name.as_str(), &entry.devices[..]),
        ("d0", &devices[..])
    );
    assert_eq!(records.entries(), [(domain(), entry)]);
    records
        .set_entry(&domain(), &devices[1..])
        .expect("one goes");
    assert_eq!(records.devices().expect("listed"), [address(GPU)]);
    records.set_entry(&domain(), &[]).expect("removed");
    records.set_entry(&domain(), &[]).expect("removed again");
    assert!(records.entries().is_empty() && records.is_free());
}

#[test]
fn domain_borrows_a_manually_bound_device() {
    let (_directory, records) = records();
    let (device, lent) = (address(GPU), Some(manual(Phase::Bound)));
    records.set_manual(device, lent.clone()).expect("written");
    records
        .set_entry(&domain(), &[held(GPU, Phase::Bound)])
        .expect("borrowed");
    assert_eq!(records.manual(device).expect("read"), lent);
    assert_eq!(
        records.holder(device, None).expect("read").as_deref(),
        Some("d0")
    );
    records.set_entry(&domain(), &[]).expect("released");
    assert_eq!(records.manual(device).expect("read"), lent);
    assert_eq!(records.holder(device, None).expect("read"), None);
    records.set_manual(device, None).expect("removed");
    assert!(records.is_free());
}

/// An agent that ends between the writes of two devices has let no guest start.
#[test]
fn while_one_device_of_a_domain_is_binding_all_are() {
    let (_directory, records) = records();
    let set = |phases: &[(&str, Phase)]| {
        let held: Vec<Held> = phases.iter().map(|(at, phase)| held(at, *phase)).collect();
        records.set_entry(&domain(), &held).expect("written");
        records.phases()
    };
    let (binding, bound, degraded) = (Phase::Binding, Phase::Bound, Phase::Degraded);
    assert_eq!(set(&[(NIC, bound), (GPU, binding)]), [binding, binding]);
    assert_eq!(set(&[(NIC, bound), (GPU, bound)]), [bound, bound]);
    assert_eq!(set(&[(NIC, degraded), (GPU, bound)]), [degraded, bound]);
}

#[test]
fn stopped_service_is_recorded_until_it_runs_again() {
    let (_directory, records) = records();
    for device in [GPU, NIC, GPU] {
        records
            .add_unit(&service(), address(device))
            .expect("noted");
    }
    let lent = Some(manual(Phase::Bound));
    records.set_manual(address(GPU), lent).expect("bound");
    let (units, unread) = records.units();
    assert!(unread.is_none());
    assert_eq!((units.len(), units[0].devices.len()), (1, 2));
    records.set_manual(address(GPU), None).expect("released");
    records.remove_unit(&units[0]).expect("removed");
    records.remove_unit(&units[0]).expect("removed twice");
    assert!(records.units().0.is_empty() && records.is_free());
}

#[test]
fn a_record_of_a_newer_version_is_left_alone_and_still_holds_its_device() {
    let (_directory, records) = records();
    let (device, uuid) = (address(GPU), domain().uuid);
    records
        .set_entry(&domain(), &[held(GPU, Phase::Bound)])
        .expect("written");
    let path = records.path(device);
    let text = fs::read_to_string(&path).expect("text");
    let newer = text.replace("\"version\": 2", "\"version\": 7, \"more\": true");
    fs::write(&path, &newer).expect("newer");
    let printed = records.entry(&uuid).expect_err("newer").to_string();
    assert!(
        printed.ends_with("has version 7, which a newer variantd wrote"),
        "{printed}"
    );
    assert!(records.entries().is_empty() && records.survey().unread.is_none());
    let other: DomainUuid = OTHER.parse().expect("uuid");
    let holder = |domain| records.holder(device, domain).expect("readable");
    assert_eq!(holder(Some(&other)).as_deref(), Some("d0"));
    assert_eq!(holder(Some(&uuid)), None);
    assert!(records.entry(&other).expect("not its record").is_none());
    assert!(records.domains().0.contains(&uuid));
    assert!(
        records
            .set_manual(device, Some(manual(Phase::Binding)))
            .is_err()
    );
    assert_eq!(fs::read_to_string(&path).expect("kept"), newer);
    fs::write(&path, newer.replace("\"domain\"", "\"later\"")).expect("an owner of later");
    assert!(
        records.holder(device, Some(&other)).is_err(),
        "no owner may get it"
    );
}

#[test]
fn record_of_another_file_type_is_an_error_and_does_not_block() {
    let (_directory, records) = records();
    let (device, path) = (address(GPU), records.path(address(GPU)));
    fs::create_dir_all(&path).expect("a directory in its place");
    assert!(records.manual(device).is_err());
    assert!(
        records.survey().unread.is_none(),
        "it says nothing of others"
    );
    assert!(records.entry(&domain().uuid).expect("readable").is_none());
    fs::remove_dir(&path).expect("gone");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    assert_eq!(records.manual(device).expect("set aside"), None);
    std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link");
    assert!(records.manual(device).is_err());
}

#[test]
fn unreadable_records_do_not_count_as_missing() {
    let (directory, records) = records();
    assert!(records.devices().expect("none yet").is_empty());
    fs::write(directory.path().join(DIRECTORY), "a file in its place").expect("written");
    let printed = records.devices().expect_err("unknown").to_string();
    assert!(printed.contains("cannot list"), "{printed}");
    assert!(records.domains().1.is_some() && records.survey().unread.is_some());
    assert!(records.holder(address(GPU), None).is_err());
}

#[test]
fn temporary_file_is_not_a_record() {
    let (_directory, records) = records();
    let set = |phase| records.set_manual(address(GPU), Some(manual(phase)));
    set(Phase::Binding).expect("written");
    fs::write(records.path(address(GPU)).with_extension("json.new"), "{").expect("half");
    assert_eq!(records.survey().manual, [manual(Phase::Binding)]);
    set(Phase::Bound).expect("written over it");
    assert_eq!(records.survey().manual, [manual(Phase::Bound)]);
}

#[test]
fn a_damaged_record_is_set_aside_and_counts_as_missing() {
    let (_directory, records) = records();
    let path = records.path(address(GPU));
    let borrowed = || {
        let set = records.set_manual(address(GPU), Some(manual(Phase::Bound)));
        set.expect("lent");
        records
            .set_entry(&domain(), &[held(GPU, Phase::Bound)])
            .expect("written");
        fs::read_to_string(&path).expect("text")
    };
    let text = borrowed();
    for damaged in [
        String::new(),
        "{\"version\": 2".to_owned(),
        text.replace("\"version\": 2", "\"version\": 1"),
        text.replace(GPU, NIC),
        text.replace(UUID, "no uuid"),
        text.replace("\"bound\"", "\"half\""),
        text.replace("\"phase\"", "\"state\""),
        text.replacen("\"target\"", "\"leader\": \"0009:01:00.0\", \"target\"", 2),
        text.replace(
            "\"version\": 2",
            "\"version\": 2, \"units\": [\"libvirtd.service\"]",
        ),
        text.replace(VARIANT, "../x"),
        text.replace(
            "\"lender\": {",
            "\"lender\": {\"guest\": {\"uuid\": \"1\", \"name\": \"g\"}, ",
        ),
        " ".repeat(70_000),
    ]
    .into_iter()
    .filter(|damaged| *damaged != text)
    {
        borrowed();
        fs::write(&path, &damaged).expect("damage");
        let read = records.entry(&domain().uuid);
        assert_eq!(read.expect("set aside"), None, "{damaged}");
        assert!(!path.exists());
        let aside = path.with_extension("damaged");
        assert_eq!(fs::read_to_string(aside).expect("kept"), damaged);
    }
}

#[test]
fn record_above_the_limit_is_refused_and_keeps_the_old_one() {
    let (_directory, records) = records();
    let limit = usize::try_from(LIMIT).expect("a length");
    let named = |more: usize| DomainRef {
        name: "x".repeat(more),
        ..domain()
    };
    let devices = [held(GPU, Phase::Bound)];
    records.set_entry(&named(1), &devices).expect("written");
    let length = fs::read(records.path(address(GPU))).expect("text").len();
    let largest = named(limit - length + 1);
    records.set_entry(&largest, &devices).expect("the largest");
    for more in [1, 2, 4096] {
        let larger = named(largest.name.len() + more);
        let refused = records.set_entry(&larger, &devices);
        let printed = refused.expect_err("too large").to_string();
        let sizes = format!(
            "its {} bytes exceed the limit of {LIMIT} bytes",
            limit + more
        );
        assert!(printed.contains(&sizes), "{printed}");
        let entry = records.entry(&domain().uuid).expect("readable");
        assert_eq!(entry.expect("as it was").name, largest.name);
    }
}

#[test]
fn device_lock_is_exclusive_per_device() {
    let (_directory, records) = records();
    let lock = records.lock(address(GPU)).expect("lock");
    assert!(lock.is_some());
    assert!(records.lock(address(GPU)).expect("lock").is_none());
    assert!(records.lock(address(NIC)).expect("lock").is_some());
    assert!(records.is_locked(address(GPU)) && !records.is_locked(address(NIC)));
    drop(lock);
    assert!(!records.is_locked(address(GPU)));
    assert!(records.lock(address(GPU)).expect("lock").is_some());
}

fn drivers() -> impl Strategy<Value = DriverName> {
    "[a-z][a-z0-9_-]{0,20}".prop_map(|name| name.parse().expect("a driver"))
}

fn befores() -> impl Strategy<Value = Before> {
    let parts = (proptest::option::of(drivers()), proptest::option::of(".*"));
    parts.prop_map(|(driver, driver_override)| Before {
        driver,
        driver_override,
    })
}

fn phases() -> impl Strategy<Value = Phase> {
    let all = [
        Phase::Binding,
        Phase::Bound,
        Phase::Releasing,
        Phase::Degraded,
    ];
    proptest::sample::select(all.to_vec())
}

prop_compose! {
    fn of_domains()(name in ".*", target in drivers(), before in proptest::option::of(befores()), phase in phases()) -> OfDomain {
        let domain = DomainRef { name, ..domain() };
        let record = text::of(Owner::Domain, target, before, phase);
        OfDomain { domain, record }
    }
}

prop_compose! {
    fn guests()(name in ".*") -> DomainRef {
        DomainRef { name, ..domain() }
    }
}

prop_compose! {
    fn manuals()(led in any::<bool>(), guest in proptest::option::of(guests()), reserved in any::<bool>(), target in drivers(), before in befores(), phase in phases()) -> Manual {
        let owner = if reserved { Owner::Reservation } else { Owner::Admin };
        let record = text::of(owner, target, Some(before), phase);
        Manual { device: address(GPU), purpose: Purpose { leader: led.then(|| address(NIC)), guest }, record }
    }
}

prop_compose! {
    fn device_records()(
        domain in proptest::option::of(of_domains()),
        manual in proptest::option::of(manuals()),
        stopped in any::<bool>(),
    ) -> DeviceRecord {
        let units = stopped.then(service).into_iter().collect();
        DeviceRecord { domain, manual, units, ..DeviceRecord::new(address(GPU)) }
    }
}

proptest! {
    #[test]
    fn a_record_reads_as_it_was_written(record in device_records()) {
        prop_assume!(!record.is_over());
        let text = text::write(&record).expect("its text");
        let again = text::read(text.as_bytes(), record.device).expect("our own text");
        prop_assert_eq!(again, record);
    }

    #[test]
    fn a_changed_byte_makes_no_record_that_is_written_otherwise(
        record in device_records(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        prop_assume!(!record.is_over());
        let mut bytes = text::write(&record).expect("its text").into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let holder = text::outline(&bytes, record.device);
        if let Ok(read) = text::read(&bytes, record.device) {
            let name = read.domain.as_ref().map(|of| of.domain.clone());
            prop_assert_eq!(holder, Ok(name));
            let text = text::write(&read).expect("its text");
            let again = text::read(text.as_bytes(), read.device).expect("our own text");
            prop_assert_eq!(again, read);
        }
    }
}

/// The indented block of variantd.journal(5).
fn example() -> String {
    let page = include_str!("../../../../packaging/man/variantd.journal.5.md");
    let (_, text) = page.split_once("# EXAMPLES\n\n").expect("an example");
    let lines = text.lines().take_while(|line| !line.starts_with('#'));
    lines.map(str::trim_start).collect()
}

#[test]
fn the_example_of_the_manual_is_a_record_with_every_key() {
    let device = address("0009:01:00.0");
    let read = text::read(example().as_bytes(), device).expect("readable");
    let ours = text::write(&read).expect("its text");
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
    assert_eq!(json(&ours), json(&example()));
    let page = include_str!("../../../../packaging/man/variantd.journal.5.md");
    for key in [
        "version", "device", "owner", "target", "before", "phase", "leader", "guest", "lender",
        "units",
    ] {
        assert!(page.contains(&format!("\n`{key}`\n:")), "{key}");
    }
}

#[test]
fn the_manual_names_every_phase() {
    let page = include_str!("../../../../packaging/man/variantd.journal.5.md");
    for phase in [
        Phase::Binding,
        Phase::Bound,
        Phase::Releasing,
        Phase::Degraded,
    ] {
        let name = serde_json::to_string(&phase).expect("text");
        let entry = format!("\n`{}`\n:", name.trim_matches('"'));
        assert!(page.contains(&format!("`{name}`")) && page.contains(&entry));
    }
}
