//! What was changed on the host for which domain: one file per domain, written before the change.
//!
//! An entry stands from before the first write of a bind until every device is given back. It lives
//! in the run directory, since drivers and overrides do not survive a reboot either.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use nix::fcntl::OFlag;
use thiserror::Error;
use tracing::error;

use crate::domain::DomainUuid;
use crate::libvirt::DomainRef;

use entry::{LIMIT, Outline, Unusable};

pub use entry::{Entry, Held, State};
pub use storage::{Files, Storage};

mod entry;
mod storage;

/// One file per domain below a directory.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
}

/// An entry could not be read or written.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The file, or its directory, says no.
    #[error("cannot {action} journal entry '{path}': {why}")]
    Failed {
        /// What was to be done.
        action: &'static str,
        /// The entry.
        path: String,
        /// Why not.
        why: io::Error,
    },
    /// A newer variantd wrote it, and may mean what we do not know.
    #[error("journal entry '{path}' has version {version}, which a newer variantd wrote")]
    Newer {
        /// The entry.
        path: String,
        /// Its version.
        version: u32,
    },
}

impl Journal {
    /// A journal in `directory`, which is made at the first entry.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self::with_storage(directory, Arc::new(Files))
    }

    /// A journal whose changes go through `storage`.
    #[must_use]
    pub fn with_storage(directory: PathBuf, storage: Arc<dyn Storage>) -> Self {
        Self { directory, storage }
    }

    /// The entry of a domain.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is from a newer version; a damaged one is set
    /// aside and counts as none.
    pub fn read(&self, domain: &DomainUuid) -> Result<Option<Entry>, JournalError> {
        load(&self.path(domain))
    }

    /// Writes an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// When it may not be: nothing may be changed on the host then.
    pub fn write(&self, domain: &DomainUuid, entry: &Entry) -> Result<(), JournalError> {
        let path = self.path(domain);
        let text = serde_json::to_string_pretty(entry).map_err(io::Error::other);
        text.and_then(|text| self.storage.replace(&path, &text))
            .map_err(|why| failed("write", &path, why))
    }

    /// Removes an entry, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, domain: &DomainUuid) -> Result<(), JournalError> {
        let path = self.path(domain);
        match self.storage.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// All entries that can be read; says which cannot.
    #[must_use]
    pub fn all(&self) -> Vec<(DomainRef, Entry)> {
        let read = self.paths().filter_map(|path| {
            load(&path).unwrap_or_else(|why| {
                error!("{why}: its devices stay where they are");
                None
            })
        });
        read.filter_map(|entry| Some((entry.domain()?, entry)))
            .collect()
    }

    /// The name of another domain that holds the device, also by an entry of a newer version.
    #[must_use]
    pub fn holder(&self, device: PciAddress, domain: &DomainUuid) -> Option<String> {
        let uuid = domain.to_string();
        let mut holders = self.holders(device);
        let other = holders.find(|outline| outline.uuid != uuid);
        other.map(|outline| outline.name)
    }

    /// True when any domain holds the device.
    #[must_use]
    pub fn holds(&self, device: PciAddress) -> bool {
        self.holders(device).next().is_some()
    }

    fn holders(&self, device: PciAddress) -> impl Iterator<Item = Outline> {
        let outlines = self
            .paths()
            .filter_map(|path| Outline::parse(&bytes(&path).ok()??));
        outlines.filter(move |outline| outline.has(device))
    }

    fn paths(&self) -> impl Iterator<Item = PathBuf> {
        let files = fs::read_dir(&self.directory).into_iter().flatten();
        let paths = files.flatten().map(|file| file.path());
        paths.filter(|path| path.extension().is_some_and(|e| e == "json"))
    }

    fn path(&self, domain: &DomainUuid) -> PathBuf {
        self.directory.join(format!("{domain}.json"))
    }
}

fn load(path: &Path) -> Result<Option<Entry>, JournalError> {
    let bytes = match bytes(path) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(why) => return Err(failed("read", path, why)),
    };
    let uuid = path.file_stem().unwrap_or_default().to_string_lossy();
    match entry::parse(&bytes, &uuid) {
        Ok(entry) => Ok(Some(entry)),
        Err(Unusable::Newer(version)) => {
            let path = path.display().to_string();
            Err(JournalError::Newer { path, version })
        }
        Err(Unusable::Damaged(reason)) => set_aside(path, &reason)
            .map(|()| None)
            .map_err(|why| failed("set aside", path, why)),
    }
}

/// What a file has, one byte over the limit at most; never waits for a pipe, follows no link.
fn bytes(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let opened = OpenOptions::new()
        .read(true)
        .custom_flags(flags.bits())
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(Some(bytes))
}

/// Keeps the file for a person to look at; its devices stay where they are.
fn set_aside(path: &Path, reason: &str) -> io::Result<()> {
    let aside = path.with_extension("damaged");
    error!(
        "journal entry '{}' cannot be used ({reason}): kept as '{}'; its devices stay on their driver",
        path.display(),
        aside.display()
    );
    fs::rename(path, aside)
}

fn failed(action: &'static str, path: &Path, why: io::Error) -> JournalError {
    JournalError::Failed {
        action,
        path: path.display().to_string(),
        why,
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod test;
