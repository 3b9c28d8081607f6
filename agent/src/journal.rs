//! What was changed on the host for which domain: one file per domain, written before the change.
//!
//! An entry stands from before the first write of a bind until every device is given back. It lives
//! in the run directory, since drivers and overrides do not survive a reboot either.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tracing::error;

use crate::domain::DomainUuid;
use crate::file;
use crate::libvirt::DomainRef;

/// The version written; another one is set aside like a damaged file.
pub(crate) const VERSION: u32 = 1;
/// Larger than any entry we write.
const LIMIT: u64 = 64 << 10;

/// What a file of the run directory says; the version tells whether we can use it.
pub(crate) trait Record: DeserializeOwned {
    fn version(&self) -> u32;
}

impl Record for Entry {
    fn version(&self) -> u32 {
        self.version
    }
}

/// One file per domain below a directory.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

/// What one domain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    version: u32,
    uuid: String,
    /// The domain's name at the time.
    pub name: String,
    /// Its devices, in address order.
    pub devices: Vec<Held>,
}

/// A device that a domain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The device.
    pub address: PciAddress,
    /// The driver it was, or is about to be, bound to.
    pub driver: DriverName,
    /// Driver and override before; `None` when the device was found in a running guest, and then
    /// it stays where it is.
    pub before: Option<Before>,
}

/// An entry could not be read or written.
#[derive(Debug, Error)]
#[error("cannot {action} journal entry '{path}': {why}")]
pub struct JournalError {
    action: &'static str,
    path: String,
    why: io::Error,
}

impl Entry {
    /// An entry about `domain`.
    #[must_use]
    pub fn new(domain: &DomainRef, devices: Vec<Held>) -> Self {
        Self {
            version: VERSION,
            uuid: domain.uuid.to_string(),
            name: domain.name.clone(),
            devices,
        }
    }

    /// The entry's line for a device.
    #[must_use]
    pub fn held(&self, device: PciAddress) -> Option<&Held> {
        self.devices.iter().find(|held| held.address == device)
    }

    /// The domain; `None` when the file's name and content differ.
    fn domain(&self) -> Option<DomainRef> {
        Some(DomainRef {
            uuid: self.uuid.parse().ok()?,
            name: self.name.clone(),
        })
    }
}

impl Journal {
    /// A journal in `directory`, which is made at the first entry.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The entry of a domain.
    ///
    /// # Errors
    /// When the file is there and cannot be read; a damaged one is set aside and counts as none.
    pub fn read(&self, domain: &DomainUuid) -> Result<Option<Entry>, JournalError> {
        let path = self.path(domain);
        let entry: Option<Entry> = load(&path).map_err(|why| failed("read", &path, why))?;
        Ok(entry.filter(|entry| entry.uuid == domain.to_string()))
    }

    /// Writes an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// When it is not: nothing may be changed on the host then.
    pub fn write(&self, domain: &DomainUuid, entry: &Entry) -> Result<(), JournalError> {
        let path = self.path(domain);
        let text = serde_json::to_string_pretty(entry).map_err(io::Error::other);
        text.and_then(|text| file::replace(&path, &text, 0o600))
            .map_err(|why| failed("write", &path, why))
    }

    /// Removes an entry, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, domain: &DomainUuid) -> Result<(), JournalError> {
        let path = self.path(domain);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// All entries that can be read.
    #[must_use]
    pub fn all(&self) -> Vec<(DomainRef, Entry)> {
        let files = fs::read_dir(&self.directory).into_iter().flatten();
        let paths = files.flatten().map(|file| file.path());
        let entries = paths.filter(|path| path.extension().is_some_and(|e| e == "json"));
        let read = entries.filter_map(|path| load::<Entry>(&path).ok().flatten());
        read.filter_map(|entry| Some((entry.domain()?, entry)))
            .collect()
    }

    /// A directory beside the journal's.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.with_file_name(name)
    }

    fn path(&self, domain: &DomainUuid) -> PathBuf {
        self.directory.join(format!("{domain}.json"))
    }
}

/// Reads a file; none when it is not there, or is damaged and set aside.
pub(crate) fn load<T: Record>(path: &Path) -> io::Result<Option<T>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(LIMIT + 1).read_to_end(&mut bytes)?;
    match parse(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(reason) => set_aside(path, &reason).map(|()| None),
    }
}

fn parse<T: Record>(bytes: &[u8]) -> Result<T, String> {
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is larger than {LIMIT} bytes"));
    }
    let record: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match record.version() {
        VERSION => Ok(record),
        other => Err(format!("it has version {other}")),
    }
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

pub(crate) fn failed(action: &'static str, path: &Path, why: io::Error) -> JournalError {
    JournalError {
        action,
        path: path.display().to_string(),
        why,
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod test;
