//! What was changed on the host for which domain: one file per domain, written before the change.
//!
//! An entry stands from before the first write of a bind until every device is given back. It lives
//! in the run directory, since drivers and overrides do not survive a reboot either.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use nix::errno::Errno;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tracing::error;

use crate::bell::Bell;
use crate::domain::DomainUuid;
use crate::libvirt::DomainRef;

use entry::{LIMIT, Outline};

pub(crate) use entry::VERSION;
pub use entry::{Entry, Held, State, Unusable};
pub use storage::{Files, Storage};

mod entry;
mod storage;

/// What a file beside the journal says; the version tells whether we can use it.
pub(crate) trait Record: DeserializeOwned {
    fn version(&self) -> u32;
}

/// One file per domain below a directory.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
    /// Rings after each change.
    bell: Bell,
}

/// What the journal says, as far as it can be read.
#[derive(Debug, Default)]
pub struct Survey {
    /// The entries that can be read.
    pub found: Vec<(DomainRef, Entry)>,
    /// Why another one cannot be read now; it may be later. One of a newer version is not meant: that stays so.
    pub unread: Option<JournalError>,
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
        let bell = Bell::default();
        Self {
            directory,
            storage,
            bell,
        }
    }

    /// The entry of a domain.
    ///
    /// # Errors
    /// When the file is there and cannot be read, or is from a newer version; a damaged one is set
    /// aside and counts as none.
    pub fn read(&self, domain: &DomainUuid) -> Result<Option<Entry>, JournalError> {
        self.load(&self.path(domain))
    }

    /// Writes an entry; it is on disk when this returns.
    ///
    /// # Errors
    /// When it may not be: nothing may be changed on the host then.
    pub fn write(&self, domain: &DomainUuid, entry: &Entry) -> Result<(), JournalError> {
        let path = self.path(domain);
        let text = text(entry);
        let written = text.and_then(|text| self.storage.replace(&path, &text));
        self.bell.ring();
        written.map_err(|why| failed("write", &path, why))
    }

    /// Removes an entry, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, domain: &DomainUuid) -> Result<(), JournalError> {
        let path = self.path(domain);
        let removed = self.storage.remove(&path);
        self.bell.ring();
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(failed("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    /// All entries that can be read; says which cannot.
    #[must_use]
    pub fn all(&self) -> Vec<(DomainRef, Entry)> {
        self.survey().found
    }

    /// The same, and whether there may be more.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(why) => {
                error!("{why}: its devices stay where they are");
                survey.unread = Some(why);
                return survey;
            }
        };
        for path in paths {
            match self.load(&path) {
                Ok(Some(entry)) => {
                    let domain = entry.domain();
                    survey.found.extend(domain.map(|domain| (domain, entry)));
                }
                Ok(None) => {}
                Err(why) => {
                    error!("{why}: its devices stay where they are");
                    if let JournalError::Failed { why: cause, .. } = &why
                        && !is_no_file(cause)
                    {
                        survey.unread.get_or_insert(why);
                    }
                }
            }
        }
        survey
    }

    /// The domains that have an entry, by the names of the files: also of one that cannot be read now.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn domains(&self) -> Result<Vec<DomainUuid>, JournalError> {
        let names = self.paths()?.into_iter();
        let names = names.filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
        Ok(names.collect())
    }

    /// All entries by file, as [`Self::all`], but for who only looks: nothing is set aside or logged.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn peek(&self) -> io::Result<Vec<(String, Peeked<Entry>)>> {
        let parse = |path: &Path, bytes: &[u8]| {
            let uuid = path.file_stem().unwrap_or_default().to_string_lossy();
            Entry::parse(bytes, &uuid)
        };
        peek(&self.directory, parse)
    }

    /// All entries that can be read, for who looks often: says nothing of the others.
    pub(crate) fn readable(&self) -> impl Iterator<Item = (DomainRef, Entry)> {
        let paths = self.paths().unwrap_or_default().into_iter();
        let read = paths.filter_map(|path| self.load(&path).ok()?);
        read.filter_map(|entry| Some((entry.domain()?, entry)))
    }

    /// Rings after each change of an entry.
    #[must_use]
    pub fn bell(&self) -> &Bell {
        &self.bell
    }

    /// The name of a domain that holds the device, other than `domain`; also by an entry of a newer version.
    ///
    /// # Errors
    /// When an entry that may name the device cannot be read: nobody else may have the device then.
    pub fn holder(
        &self,
        device: PciAddress,
        domain: Option<&DomainUuid>,
    ) -> Result<Option<String>, JournalError> {
        let uuid = domain.map(ToString::to_string);
        for path in self.paths()? {
            let bytes = match self.storage.read(&path, LIMIT + 1) {
                Err(why) if is_no_file(&why) => continue,
                read => read.map_err(|why| failed("read", &path, why))?,
            };
            let Some(outline) = bytes.and_then(|text| Outline::parse(&text)) else {
                continue;
            };
            if outline.has(device) && Some(&outline.uuid) != uuid.as_ref() {
                return Ok(Some(outline.name));
            }
        }
        Ok(None)
    }

    fn paths(&self) -> Result<Vec<PathBuf>, JournalError> {
        list(&*self.storage, &self.directory)
    }

    fn bytes(&self, path: &Path) -> Result<Option<Vec<u8>>, JournalError> {
        let read = self.storage.read(path, LIMIT + 1);
        read.map_err(|why| failed("read", path, why))
    }

    fn load(&self, path: &Path) -> Result<Option<Entry>, JournalError> {
        let Some(bytes) = self.bytes(path)? else {
            return Ok(None);
        };
        let uuid = path.file_stem().unwrap_or_default().to_string_lossy();
        match Entry::parse(&bytes, &uuid) {
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

    /// What its changes go through.
    pub(crate) fn storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// A directory beside the journal's.
    pub(crate) fn beside(&self, name: &str) -> PathBuf {
        self.directory.with_file_name(name)
    }

    fn path(&self, domain: &DomainUuid) -> PathBuf {
        self.directory.join(format!("{domain}.json"))
    }
}

/// A directory, a link or a pipe in the place of an entry: we have not written that, so it holds nothing.
fn is_no_file(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EISDIR | Errno::ELOOP | Errno::ENXIO))
}

/// Reads a record; none when it is not there, or is damaged and set aside.
pub(crate) fn load<T: Record>(
    storage: &dyn Storage,
    path: &Path,
) -> Result<Option<T>, JournalError> {
    let read = storage.read(path, LIMIT + 1);
    let Some(bytes) = read.map_err(|why| failed("read", path, why))? else {
        return Ok(None);
    };
    match parse(&bytes) {
        Ok(record) => Ok(Some(record)),
        Err(reason) => set_aside(path, &reason)
            .map(|()| None)
            .map_err(|why| failed("set aside", path, why)),
    }
}

/// The text of a record, which can be read again.
pub(crate) fn text(record: &impl Serialize) -> io::Result<String> {
    let text = serde_json::to_string_pretty(record).map_err(io::Error::other)?;
    match text.len() as u64 > LIMIT {
        true => {
            let why = format!(
                "it would have {} bytes, and {LIMIT} are read again",
                text.len()
            );
            Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
        }
        false => Ok(text),
    }
}

/// The files of a directory that are entries or records, by name.
pub(crate) fn list(storage: &dyn Storage, directory: &Path) -> Result<Vec<PathBuf>, JournalError> {
    let paths = storage.list(directory);
    let mut paths = paths.map_err(|why| failed("list", directory, why))?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    Ok(paths)
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

/// A file of a journal, as it is.
#[derive(Debug)]
pub enum Peeked<T> {
    /// It can be used.
    Good(T),
    /// It cannot: why.
    Damaged(String),
    /// A newer variantd wrote it.
    Newer(u32),
    /// It cannot be read: why.
    Hidden(io::Error),
}

/// The records of a directory by file.
pub(crate) fn peek_records<T: Record>(directory: &Path) -> io::Result<Vec<(String, Peeked<T>)>> {
    peek(directory, |_, bytes| {
        parse(bytes).map_err(Unusable::Damaged)
    })
}

fn peek<T>(
    directory: &Path,
    parse: impl Fn(&Path, &[u8]) -> Result<T, Unusable>,
) -> io::Result<Vec<(String, Peeked<T>)>> {
    let mut paths = Files.list(directory)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    let one = |path: PathBuf| {
        let peeked = match Files.read(&path, LIMIT + 1).transpose()? {
            Err(why) => Peeked::Hidden(why),
            Ok(bytes) => match parse(&path, &bytes) {
                Ok(one) => Peeked::Good(one),
                Err(Unusable::Damaged(why)) => Peeked::Damaged(why),
                Err(Unusable::Newer(version)) => Peeked::Newer(version),
            },
        };
        Some((path.display().to_string(), peeked))
    };
    Ok(paths.into_iter().filter_map(one).collect())
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
    JournalError::Failed {
        action,
        path: path.display().to_string(),
        why,
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod test;
