//! The journal on a temporary directory.

use std::fs;

use super::*;

fn domain() -> DomainRef {
    DomainRef {
        uuid: "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"
            .parse()
            .expect("uuid"),
        name: "d0".into(),
    }
}

fn entry() -> Entry {
    let held = Held {
        address: "0009:01:00.0".parse().expect("address"),
        driver: "nvgrace_gpu_vfio_pci".parse().expect("driver"),
        before: None,
        state: State::Bound,
    };
    Entry::new(&domain(), vec![held])
}

fn journal() -> (tempfile::TempDir, Journal) {
    let directory = tempfile::tempdir().expect("directory");
    let journal = Journal::new(directory.path().join("journal"));
    (directory, journal)
}

#[test]
fn an_entry_reads_as_it_was_written_until_it_is_removed() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    assert_eq!(journal.read(&uuid).expect("no entry"), None);
    journal.write(&uuid, &entry()).expect("write");
    assert_eq!(journal.read(&uuid).expect("entry"), Some(entry()));
    assert_eq!(journal.all(), [(domain(), entry())]);
    journal.remove(&uuid).expect("remove");
    journal.remove(&uuid).expect("remove again");
    assert!(journal.all().is_empty());
}

/// The text of an entry that names its device two times.
fn twice(text: &str) -> String {
    let (head, tail) = text.split_once("[{").expect("a device");
    let device = tail.strip_suffix("]}").expect("the end");
    format!("{head}[{{{device},{{{device}]}}")
}

#[test]
fn an_entry_of_a_newer_version_is_left_alone_and_still_holds_its_devices() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    journal.write(&uuid, &entry()).expect("write");
    let text = serde_json::to_string(&entry()).expect("text");
    let newer = text.replace("\"version\":1", "\"version\":7,\"more\":true");
    fs::write(journal.path(&uuid), &newer).expect("newer");
    let said = journal.read(&uuid).expect_err("newer").to_string();
    assert!(
        said.ends_with("has version 7, which a newer variantd wrote"),
        "{said}"
    );
    assert!(journal.all().is_empty());
    let device = entry().devices[0].address;
    let other = "70700b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"
        .parse()
        .expect("uuid");
    let holder = |device, domain| journal.holder(device, domain).expect("readable");
    assert_eq!(holder(device, Some(&other)).as_deref(), Some("d0"));
    assert_eq!(holder(device, Some(&uuid)), None);
    assert!(holder(device, None).is_some());
    let free = "0009:01:00.1".parse().expect("address");
    assert_eq!(holder(free, None), None);
    assert_eq!(
        fs::read_to_string(journal.path(&uuid)).expect("kept"),
        newer
    );
}

#[test]
fn what_is_no_regular_entry_is_an_error_and_waits_for_nobody() {
    let (_directory, journal) = journal();
    let (uuid, path) = (domain().uuid, journal.path(&domain().uuid));
    fs::create_dir_all(&path).expect("a directory in its place");
    assert!(journal.read(&uuid).is_err());
    assert!(journal.all().is_empty());
    fs::remove_dir(&path).expect("gone");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    assert_eq!(journal.read(&uuid).expect("set aside"), None);
    std::os::unix::fs::symlink("/etc/passwd", &path).expect("a link");
    assert!(journal.read(&uuid).is_err());
}

#[test]
fn a_journal_that_cannot_be_read_now_is_not_taken_for_an_empty_one() {
    let (_directory, journal) = journal();
    let path = journal.path(&domain().uuid);
    let directory = path.parent().expect("the journal");
    assert!(journal.domains().expect("none yet").is_empty());
    fs::write(directory, "a file in its place").expect("written");
    let device = entry().devices[0].address;
    let said = journal.holder(device, None).expect_err("unknown");
    assert!(said.to_string().contains("cannot list"), "{said}");
    assert!(journal.domains().is_err() && journal.survey().unread.is_some());
}

#[test]
fn a_half_written_file_beside_an_entry_is_no_entry() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    journal.write(&uuid, &entry()).expect("write");
    fs::write(journal.path(&uuid).with_extension("json.new"), "{").expect("half");
    assert_eq!(journal.all(), [(domain(), entry())]);
    journal.write(&uuid, &entry()).expect("write over it");
    assert_eq!(journal.read(&uuid).expect("entry"), Some(entry()));
}

#[test]
fn a_damaged_entry_is_set_aside() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    let other = serde_json::to_string(&entry()).expect("text");
    for damaged in [
        "".to_owned(),
        "{\"version\":1".to_owned(),
        other.replace("\"version\":1", "\"version\":0"),
        other.replace("6f1f0b9e", "70700b9e"),
        other.replace("\"bound\"", "\"half\""),
        twice(&other),
        other.replace("0009:01:00.0", "x"),
        " ".repeat(70_000),
    ] {
        journal.write(&uuid, &entry()).expect("write");
        fs::write(journal.path(&uuid), &damaged).expect("damage");
        assert_eq!(journal.read(&uuid).expect("set aside"), None);
        assert!(!journal.path(&uuid).exists());
        let aside = journal.path(&uuid).with_extension("damaged");
        assert_eq!(fs::read_to_string(aside).expect("kept"), damaged);
    }
}

/// An entry whose text has so many bytes.
fn entry_of(bytes: usize) -> Entry {
    let mut entry = entry();
    let length = serde_json::to_string_pretty(&entry).expect("text").len();
    entry.name.push_str(&"x".repeat(bytes - length));
    entry
}

#[test]
fn an_entry_that_can_be_written_can_be_read_and_a_larger_one_leaves_the_old() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    let limit = usize::try_from(LIMIT).expect("a length");
    let largest = entry_of(limit);
    journal.write(&uuid, &largest).expect("the largest");
    assert_eq!(
        journal.read(&uuid).expect("readable"),
        Some(largest.clone())
    );
    for more in [1, 2, 4096] {
        let refused = journal.write(&uuid, &entry_of(limit + more));
        let said = refused.expect_err("too large").to_string();
        let sizes = format!(
            "it would have {} bytes, and {LIMIT} are read again",
            limit + more
        );
        assert!(said.contains(&sizes), "{said}");
        assert_eq!(
            journal.read(&uuid).expect("readable"),
            Some(largest.clone())
        );
    }
}

#[test]
fn a_record_beside_the_journal_that_can_be_written_can_be_read() {
    let limit = usize::try_from(LIMIT).expect("a length");
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("record.json");
    let text = text(&entry_of(limit)).expect("the largest");
    Files.replace(&path, &text).expect("written");
    let read: Option<Entry> = load(&Files, &path).expect("readable");
    assert_eq!(read, Some(entry_of(limit)));
    assert!(super::text(&entry_of(limit + 1)).is_err());
}

impl Record for Entry {
    fn version(&self) -> u32 {
        VERSION
    }
}

/// The indented block of variantd.journal(5).
fn example() -> String {
    let page = include_str!("../../packaging/man/variantd.journal.5.md");
    let (_, text) = page.split_once("# EXAMPLE\n\n").expect("an example");
    let lines = text.lines().take_while(|line| !line.starts_with('#'));
    lines.map(str::trim_start).collect()
}

#[test]
fn the_example_of_the_manual_is_an_entry_with_every_key() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    fs::create_dir_all(journal.path(&uuid).parent().expect("parent")).expect("directory");
    fs::write(journal.path(&uuid), example()).expect("write");
    let read = journal.read(&uuid).expect("readable").expect("no entry");
    let shown: serde_json::Value = serde_json::from_str(&example()).expect("JSON");
    assert_eq!(serde_json::to_value(&read).expect("JSON"), shown);
}

#[test]
fn the_manual_names_every_state() {
    let page = include_str!("../../packaging/man/variantd.journal.5.md");
    for state in [
        State::Binding,
        State::Bound,
        State::Releasing,
        State::Degraded,
    ] {
        let name = serde_json::to_string(&state).expect("text");
        let entry = format!("\n`{}`\n:", name.trim_matches('"'));
        assert!(page.contains(&format!("`{name}`")) && page.contains(&entry));
    }
}
