//! README, documents and manual pages against the program and the tree: commands, examples, links, paths and codes.

mod command;
mod link;
mod markdown;
mod run;

use std::fs;
use std::path::{Path, PathBuf};

/// A document: its path below the repository and its text.
pub(crate) struct Document {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md and every Markdown file below `packaging`.
pub(crate) fn documents() -> Vec<Document> {
    let mut paths = vec![PathBuf::from("README.md")];
    for folder in [
        "packaging",
        "packaging/doc",
        "packaging/kubevirt",
        "packaging/man",
    ] {
        let entries = fs::read_dir(root().join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        let pages = names.filter(|name| Path::new(name).extension().is_some_and(|e| e == "md"));
        paths.extend(pages.map(|name| Path::new(folder).join(name)));
    }
    paths.sort();
    assert!(paths.len() > 20, "{paths:?}");
    let read = |path: PathBuf| {
        let text = fs::read_to_string(root().join(&path)).expect("a document");
        Document { path, text }
    };
    paths.into_iter().map(read).collect()
}

pub(crate) fn document(path: &str) -> Document {
    let mut found = documents().into_iter();
    let found = found.find(|one| one.path == Path::new(path));
    found.expect("a document of this path")
}
