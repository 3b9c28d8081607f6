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

#[test]
fn a_damaged_entry_is_set_aside() {
    let (_directory, journal) = journal();
    let uuid = domain().uuid;
    let other = serde_json::to_string(&entry()).expect("text");
    for damaged in [
        "".to_owned(),
        "{\"version\":1".to_owned(),
        other.replace("\"version\":1", "\"version\":2"),
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
