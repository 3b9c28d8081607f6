//! How entries get onto the disk: the one door through which a test makes the journal fail.

use std::fmt::Debug;
use std::fs;
use std::io;
use std::path::Path;

use crate::file;

/// Changes files. Reading needs no door: it changes nothing.
pub trait Storage: Debug + Send + Sync {
    /// Called for each entry; readers see the old text or the new one, also after a crash.
    ///
    /// # Errors
    /// The text may be there or not: the last step that can fail is the directory's sync.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Called when an entry has ended.
    ///
    /// # Errors
    /// When the file is not there, or stays.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The files themselves, readable by root alone.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Storage for Files {
    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        file::replace(path, text, 0o600)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}
