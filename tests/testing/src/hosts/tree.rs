//! Files and links by path, before they are written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::Path;

/// The entry at a path.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    File(Vec<u8>),
    Link(String),
}

/// Entries by path below the host's directory.
pub type Tree = BTreeMap<String, Entry>;

/// A text file's entry, with its newline.
pub fn line(text: impl std::fmt::Display) -> Entry {
    Entry::File(format!("{text}\n").into_bytes())
}

/// Replaces the entries at `dir`.
pub fn write(dir: &Path, tree: &Tree) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    for (path, entry) in tree {
        let path = dir.join(path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        match entry {
            Entry::File(content) => fs::write(&path, content)?,
            Entry::Link(target) => symlink(target, &path)?,
        }
    }
    Ok(())
}
