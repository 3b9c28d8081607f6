//! Links, paths, manual pages and codes that documents name exist.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};

use domain::code::Code;

use super::markdown::{anchors, code_lines, inline_code, prose};
use super::{Document, documents, root};

/// The targets of `[text](target)` that are not addresses on the web.
fn links(text: &str) -> Vec<String> {
    let text = prose(text);
    let targets = text.split("](").skip(1);
    let targets = targets.filter_map(|rest| Some(rest.split_once(')')?.0));
    targets
        .filter(|target| !target.contains("://"))
        .map(str::to_owned)
        .collect()
}

/// A path without `..`.
fn joined(folder: &Path, target: &str) -> PathBuf {
    let mut path = folder.to_owned();
    for part in Path::new(target).components() {
        match part {
            Component::ParentDir => drop(path.pop()),
            part => path.push(part),
        }
    }
    path
}

fn broken(document: &Document, target: &str) -> Option<String> {
    let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
    let folder = document.path.parent().unwrap_or(Path::new(""));
    let path = match file {
        "" => document.path.clone(),
        file => joined(folder, file),
    };
    let there = root().join(&path);
    if !there.exists() {
        return Some(format!("links to '{target}', which does not exist"));
    }
    let wanted =
        (!anchor.is_empty()).then(|| std::fs::read_to_string(there).expect("a document"))?;
    let known = anchors(&wanted);
    (!known.iter().any(|one| one == anchor))
        .then(|| format!("links to '{target}', which has no such heading"))
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut faults = Vec::new();
    let mut count = 0;
    for document in documents() {
        for target in links(&document.text) {
            count += 1;
            let fault = broken(&document, &target);
            faults.extend(fault.map(|fault| format!("{} {fault}", document.path.display())));
        }
    }
    assert!(count > 20, "{count} links");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Folders of the repository whose files documents name. NEWS.md also names files of earlier versions.
const FOLDERS: [&str; 5] = ["agent", "hooks", "kernel-glue", "packaging", "tests"];

/// Paths in inline code that do not exist. One with a `*` or another placeholder is not checked.
fn missing_paths(text: &str) -> Vec<String> {
    let code = inline_code(text);
    // A command: its first word is the path.
    let paths = code.iter().filter_map(|code| code.split(' ').next());
    let missing = paths.filter(|path| {
        let top = path.split('/').next().unwrap_or_default();
        let plain = !path.contains(['*', '<', '{', '$']) && !path.contains("...");
        FOLDERS.contains(&top) && plain && !root().join(path).exists()
    });
    missing.map(str::to_owned).collect()
}

#[test]
fn every_path_of_the_repository_in_a_document_exists() {
    let mut faults = Vec::new();
    for document in documents() {
        if document.path.ends_with("NEWS.md") {
            continue;
        }
        let missing = missing_paths(&document.text).into_iter();
        faults.extend(missing.map(|path| format!("{}: '{path}'", document.path.display())));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Names of our manual pages in a text, such as `variantd.conf(5)`, each as the file's name.
fn pages(text: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for (at, _) in text.match_indices('(') {
        let name = text[..at]
            .rsplit(|c: char| !(c.is_alphanumeric() || ".-".contains(c)))
            .next();
        let name = name.unwrap_or_default().trim_start_matches('.');
        let section = text[at + 1..].split(')').next().unwrap_or_default();
        let ours = name.starts_with("variant") || name.starts_with("org.variantd1");
        if ours && section.len() == 1 && section.starts_with(|c: char| c.is_ascii_digit()) {
            found.insert(format!("{name}.{section}"));
        }
    }
    found
}

#[test]
fn every_manual_page_that_a_document_names_exists() {
    let mut faults = Vec::new();
    for document in documents() {
        let missing = pages(&document.text)
            .into_iter()
            .filter(|page| !root().join(format!("packaging/man/{page}.md")).exists());
        faults.extend(missing.map(|page| format!("{}: {page}", document.path.display())));
    }
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn every_manual_page_has_examples_in_code_blocks() {
    let documents = documents();
    let pages: Vec<_> = documents
        .iter()
        .filter(|one| one.path.starts_with("packaging/man"))
        .collect();
    assert!(pages.len() > 8, "{} pages", pages.len());
    for page in pages {
        let examples = page.text.split("\n# EXAMPLES\n").nth(1).unwrap_or_default();
        let examples = examples.split("\n# ").next().unwrap_or_default();
        let count = code_lines(examples).len();
        assert!(count > 0, "{}: no example", page.path.display());
    }
}

/// What has the form of a code: VD, three letters, three digits.
fn codes(text: &str) -> BTreeSet<&str> {
    let found = text
        .match_indices("VD-")
        .filter_map(|(at, _)| text.get(at..at + 10));
    let shaped = |code: &&str| {
        let (family, number) = (&code.as_bytes()[3..6], &code.as_bytes()[7..]);
        family.iter().all(u8::is_ascii_uppercase) && number.iter().all(u8::is_ascii_digit)
    };
    found.filter(shaped).collect()
}

#[test]
fn every_code_that_a_document_names_is_in_the_table() {
    let table: BTreeSet<String> = Code::ALL.iter().map(ToString::to_string).collect();
    for document in documents() {
        let unknown: Vec<_> = codes(&document.text)
            .into_iter()
            .filter(|code| !table.contains(*code))
            .collect();
        assert!(
            unknown.is_empty(),
            "{}: {unknown:?}",
            document.path.display()
        );
    }
}

#[test]
fn link_check_finds_missing_targets() {
    let document = Document {
        path: "packaging/doc/a.md".into(),
        text: "[a](security.md) [b](gone.md) [c](security.md#nothing) [d](../../README.md#map)"
            .to_owned(),
    };
    let targets = links(&document.text);
    let broken: Vec<bool> = targets
        .iter()
        .map(|target| broken(&document, target).is_some())
        .collect();
    assert_eq!(broken, [false, true, true, false]);
    let table = "| x | `agent/src/`, `agent/src/gone.rs`, `agent/recipes/*.toml`, `doctor/read/` |";
    assert_eq!(missing_paths(table), ["agent/src/gone.rs"]);
    let named = pages("see variantd.conf(5), variantctls(1) and virsh(1)");
    assert_eq!(
        named,
        BTreeSet::from(["variantctls.1".to_owned(), "variantd.conf.5".to_owned()])
    );
    assert_eq!(codes("VD-XYZ-999 VD-xyz-1"), BTreeSet::from(["VD-XYZ-999"]));
}
