//! Recorded hosts through a snapshot and back, and what is no snapshot.

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
fn every_recorded_host_comes_back_as_it_was() {
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
fn another_form_is_named_with_the_way_out_whatever_else_it_has() {
    let refused = |text: &str| Snapshot::parse(text.as_bytes(), "a.json").expect_err("refused");
    let newer = refused(r#"{"version": 2, "hosts": [1]}"#);
    assert_eq!(
        newer.to_string(),
        "snapshot 'a.json' has form 2, and this variantd reads 1 (VD-HST-002); read it with a newer variantctl, \
         or write it with one of this version"
    );
    let text = snapshot(&hosts()[0]).text();
    let other = refused(&text.replacen("\"version\":1", "\"version\":7", 1));
    assert_eq!(other.code, Code::SnapshotVersion);
    assert!(refused(r#"{"version": 0}"#).hint.as_str().contains("anew"));
}

#[test]
fn what_is_no_snapshot_is_refused_and_nothing_of_it_is_left_out() {
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
fn what_is_larger_than_any_host_is_not_parsed() {
    let refusal = Snapshot::parse(&vec![b' '; MAX_BYTES + 1], "a.json").expect_err("refused");
    assert_eq!(refusal.code, Code::SnapshotTooLarge);
    let directory = tempfile::tempdir().expect("directory");
    let path = directory.path().join("a.json");
    let file = fs::File::create(&path).expect("file");
    file.set_len(1 << 40).expect("a sparse file");
    let refusal = Snapshot::read(&path).expect_err("refused");
    assert_eq!(refusal.code, Code::SnapshotTooLarge);
}
