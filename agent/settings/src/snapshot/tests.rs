//! Recorded hosts written as snapshots and read back, and texts that are not snapshots.

use std::fs;
use std::path::PathBuf;

use super::*;

fn hosts() -> Vec<PathBuf> {
    let names = testing::hosts::names();
    let directories = names.iter().map(|name| testing::hosts::directory(name));
    directories.collect()
}

fn snapshot(path: &Path) -> Snapshot {
    let host = Host::read(path).expect("a recorded host");
    Snapshot::new(host, Runs::default(), Vec::new())
}

#[test]
fn recorded_hosts_are_unchanged_after_a_snapshot() {
    let hosts = hosts();
    assert!(hosts.len() > 10);
    for path in hosts {
        let before = snapshot(&path);
        let text = before.text();
        assert!(text.len() < 256 << 10, "{path:?}: {} bytes", text.len());
        let after = Snapshot::parse(text.as_bytes(), "it").expect("a snapshot");
        assert_eq!(before, after, "{path:?}");
        assert_eq!(after.text(), text, "written twice is written alike");
    }
}

#[test]
fn a_snapshot_keeps_the_cpus_and_refuses_more_than_a_host_has() {
    let path = testing::hosts::directory("gb200-4gpu");
    let before = snapshot(&path);
    let capacity = Capacity::read(&path, &before.host.numa).expect("capacity");
    assert!(capacity.online.is_some());
    let with = before.with_capacity(Some(capacity.clone()));
    let after = Snapshot::parse(with.text().as_bytes(), "it").expect("a snapshot");
    assert_eq!(after.capacity, Some(capacity.clone()));
    for wrong in [
        Capacity {
            cores: vec![(0..65_000).collect()],
            ..capacity.clone()
        },
        Capacity {
            online: Some((0..9000).collect()),
            ..capacity
        },
    ] {
        let text = after.clone().with_capacity(Some(wrong)).text();
        let refusal = Snapshot::parse(text.as_bytes(), "it").expect_err("refused");
        assert_eq!(refusal.code, Code::SnapshotUnreadable, "{refusal}");
    }
}

#[test]
fn unknown_format_version_is_reported_with_the_fix() {
    let refused = |text: &str| Snapshot::parse(text.as_bytes(), "a.json").expect_err("refused");
    let newer = refused(r#"{"version": 2, "hosts": [1]}"#);
    assert_eq!(
        newer.to_string(),
        "snapshot 'a.json' has format version 2; this variantd reads version 1 (VD-HST-002); use a newer variantctl, \
         or write the snapshot with this version"
    );
    let text = snapshot(&hosts()[0]).text();
    let other = refused(&text.replacen("\"version\":1", "\"version\":7", 1));
    assert_eq!(other.code, Code::SnapshotVersion);
    assert!(refused(r#"{"version": 0}"#).hint.as_str().contains("again"));
}

#[test]
fn parse_refuses_invalid_and_unknown_fields() {
    let text = snapshot(&hosts()[0]).text();
    let more = text.replacen("\"host\":{", "\"host\":{\"more\":1,", 1);
    let cut = &text[..text.len() / 2];
    let twice = {
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let first = value["host"]["devices"][0].clone();
        let devices = value["host"]["devices"].as_array_mut().expect("devices");
        devices.push(first);
        value.to_string()
    };
    let node = text.replacen("\"numa_node\":0", "\"numa_node\":99999", 1);
    for wrong in ["", "{}", "[]", "{\"version\":1}", &more, cut, &twice, &node] {
        let refusal = Snapshot::parse(wrong.as_bytes(), "a.json").expect_err("refused");
        assert_eq!(refusal.code, Code::SnapshotUnreadable, "{refusal}");
        assert!(
            refusal.hint.as_str().contains("variantctl snapshot"),
            "{refusal}"
        );
    }
}

#[test]
fn parse_refuses_a_snapshot_above_the_limit() {
    let refusal = Snapshot::parse(&vec![b' '; MAX_BYTES + 1], "a.json").expect_err("refused");
    assert_eq!(refusal.code, Code::SnapshotTooLarge);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.json");
    let file = fs::File::create(&path).expect("file");
    file.set_len(1 << 40).expect("a sparse file");
    let refusal = Snapshot::read(&path).expect_err("refused");
    assert_eq!(refusal.code, Code::SnapshotTooLarge);
}
