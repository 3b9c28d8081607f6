//! The README's map names files and folders that exist. The test `documents` of `ctl` checks the paths in all documents.

use std::path::Path;

use anyhow::{Context, Result};

pub(crate) fn check(root: &Path, readme: &str) -> Result<Vec<String>> {
    let start = readme.find("## Map\n").context("README.md has no map")?;
    let map = readme[start..].split("\n\n").nth(1).unwrap_or_default();
    let mut findings = Vec::new();
    let (mut top, mut inner) = ("", "");
    for line in map.lines() {
        let indent = line.len() - line.trim_start().len();
        let first = line.split_whitespace().next().unwrap_or_default();
        match indent {
            4 => (top, inner) = (first, ""),
            6 => inner = first,
            _ => {}
        }
        let found = |name: &str| exists(root, top, inner, name);
        let missing = names(line, indent == 4).filter(|name| !found(name));
        findings.extend(
            missing.map(|name| {
                format!("README.md's map has '{name}' of '{top}', which does not exist")
            }),
        );
    }
    Ok(findings)
}

/// The words of a line that are names of files or folders.
fn names(line: &str, with_first: bool) -> impl Iterator<Item = &str> {
    let words = line
        .split_whitespace()
        .map(|word| word.trim_end_matches([',', ';', ')', '.', ':']));
    let words = words.map(|word| word.trim_start_matches('('));
    words.enumerate().filter_map(move |(at, word)| {
        let is_name = word.ends_with(".rs") || word.ends_with('/');
        (is_name || with_first && at == 0).then_some(word)
    })
}

fn exists(root: &Path, top: &str, inner: &str, name: &str) -> bool {
    let top_folder = root.join(top);
    let inner = inner.trim_end_matches('/');
    let folders = [
        root.to_owned(),
        top_folder.clone(),
        top_folder.join("src"),
        top_folder.join(inner),
        top_folder.join(inner).join("src"),
        top_folder.join("src").join(inner),
    ];
    folders.iter().any(|folder| folder.join(name).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_does_not_exist_is_found() {
        let root = tempfile::tempdir().expect("scratch directory");
        std::fs::create_dir_all(root.path().join("agent/src/plan")).expect("folder");
        let readme =
            "# x\n\n## Map\n\n    agent   library\n      plan/  decides   edit.rs  edits\n\n";
        let findings = check(root.path(), readme).expect("a map");
        assert_eq!(
            findings,
            ["README.md's map has 'edit.rs' of 'agent', which does not exist"]
        );
    }
}
