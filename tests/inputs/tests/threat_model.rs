//! Each test and scenario that the threat model names exists.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../../packaging/doc/threat-model.md");

fn collect(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder").flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        if path.is_dir() && !["target", "data", "corpus", "work", ".git"].contains(&&*name) {
            collect(&path, names);
        } else if let Some(name) = name.strip_suffix(".sh") {
            names.insert(name.to_owned());
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(&path).expect("a source");
            let tests = text
                .split("#[test]")
                .chain(text.split("#[tokio::test]"))
                .skip(1);
            names.extend(tests.filter_map(|rest| {
                let (_, rest) = rest.split_once("fn ")?;
                Some(rest.split_once('(')?.0.to_owned())
            }));
        }
    }
}

/// The last cell of each row: tests and scenarios.
fn cells() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let rows = PAGE
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'));
    rows.map(|row| {
        let last = row
            .trim_end_matches([' ', '|'])
            .rsplit('|')
            .next()
            .unwrap_or_default();
        (row, last.split('`').skip(1).step_by(2).collect())
    })
}

#[test]
fn every_test_that_the_threat_model_names_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut there = BTreeSet::new();
    for folder in ["agent", "hooks", "kernel-glue", "tests"] {
        collect(&root.join(folder), &mut there);
    }
    let sentences = PAGE.split('`').skip(1).step_by(2);
    let sentences = sentences.filter(|word| word.matches('_').count() > 4);
    let named: BTreeSet<&str> = cells()
        .flat_map(|(_, names)| names)
        .chain(sentences)
        .collect();
    assert!(named.len() > 30, "{named:?}");
    let missing: Vec<_> = named
        .iter()
        .filter(|name| !there.contains(**name))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn every_input_and_every_threat_has_a_test() {
    let rows: Vec<_> = cells().collect();
    assert!(rows.len() > 20, "{} rows", rows.len());
    for (row, names) in rows {
        assert!(!names.is_empty(), "{row}");
    }
}
