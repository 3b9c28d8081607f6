//! The records: one file per device with its owner and its previous state, written before the device is changed.
//!
//! They are in the run directory, because drivers and overrides do not survive a reboot either. A record exists until
//! the device is restored, and until the services that were stopped for it run again. variantd.journal(5) has the
//! format.
//!
//! The records of one domain's devices are written one after another. A guest starts only after all of them are
//! `bound`. So while one of them is `binding` on disk, all count as binding, and after a crash between two writes all
//! are undone.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use nix::errno::Errno;
use thiserror::Error;
use tracing::error;

use crate::assignment::OwnerKind;
use crate::libvirt::DomainRef;
use crate::notifier::Notifier;
use crate::service::ServiceName;
use domain::DomainUuid;
use settings::file;

pub use crate::assignment::{Owner, Phase, Record};
pub use entry::{Entry, Held, Survey};
pub use lock::DeviceLock;
pub use migrate::{MigrateBackError, NoOlderForm, of_older_version, older_form};
pub use peek::Peeked;
pub use storage::{Files, Storage};
pub use text::{LIMIT, Unusable, VERSION, read, write};
pub use unit::StoppedUnit;

mod entry;
mod lock;
mod migrate;
pub mod peek;
mod storage;
mod text;
mod unit;

/// The directory's name in the run directory.
const DIRECTORY: &str = "records";

/// The record of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The device.
    pub device: PciAddress,
    /// The domain that has it.
    pub domain: Option<OfDomain>,
    /// The owner is an administrator or a reservation; under a domain that borrows the device, the state to which it
    /// returns.
    pub manual: Option<Manual>,
    /// Services that were stopped for it, and do not run again yet.
    pub units: BTreeSet<ServiceName>,
}

/// A domain's assignment of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfDomain {
    /// The domain, with its name at the time.
    pub domain: DomainRef,
    /// Its record.
    pub record: Record,
}

/// A device that was bound outside of any guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// The device.
    pub device: PciAddress,
    /// What it was bound for.
    pub purpose: Purpose,
    /// Its record, which has a previous state.
    pub record: Record,
}

/// What a device was bound for; without a field, for any guest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Purpose {
    /// The leader: the device that it was bound with, whose IOMMU group it is in.
    pub leader: Option<PciAddress>,
    /// A guest whose libvirt is not this host's: its management system binds and releases.
    pub guest: Option<DomainRef>,
}

/// A record could not be read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file or its directory returned an error.
    #[error("cannot {action} journal entry '{path}': {why}")]
    Failed {
        /// The action.
        action: &'static str,
        /// The record.
        path: String,
        /// The reason.
        why: io::Error,
    },
    /// A newer variantd wrote it, and may use unknown fields.
    #[error("journal entry '{path}' has version {version}, which a newer variantd wrote")]
    Newer {
        /// The record.
        path: String,
        /// Its version.
        version: u32,
    },
}

/// The records of a run directory.
#[derive(Debug)]
pub struct Records {
    run: PathBuf,
    storage: Arc<dyn Storage>,
    /// Held while a file is read and written again, never longer; the value says whether files of an older version are
    /// migrated.
    turn: Mutex<bool>,
    /// Notified after each change.
    notifier: Notifier,
}

impl DeviceRecord {
    /// An empty record.
    #[must_use]
    pub fn new(device: PciAddress) -> Self {
        Self {
            device,
            domain: None,
            manual: None,
            units: BTreeSet::new(),
        }
    }

    /// True if nothing is left to record.
    fn is_over(&self) -> bool {
        self.domain.is_none() && self.manual.is_none() && self.units.is_empty()
    }

    fn is_of(&self, domain: &DomainUuid) -> bool {
        self.domain
            .as_ref()
            .is_some_and(|of| of.domain.uuid == *domain)
    }
}

impl Manual {
    /// True while a bind or release has not ended.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.record.phase.is_unsettled()
    }

    /// The kind of its owner.
    pub(crate) fn owner_kind(&self) -> OwnerKind {
        OwnerKind::of(self.record.owner, self.purpose.guest.is_some())
    }
}

impl Records {
    /// The records below `run`; the directory is created at the first write. Files of an older version are migrated at
    /// the first use, so only the owner of `run` may use this: other processes use [`peek`](peek::all).
    #[must_use]
    pub fn new(run: PathBuf) -> Self {
        Self::with_storage(run, Arc::new(Files))
    }

    /// The same, read and changed through `storage`.
    #[must_use]
    pub fn with_storage(run: PathBuf, storage: Arc<dyn Storage>) -> Self {
        Self {
            run,
            storage,
            turn: Mutex::new(false),
            notifier: Notifier::default(),
        }
    }

    /// Notifies after each change of a record.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Takes the lock that every call needs, and returns.
    pub(crate) fn answers(&self) {
        drop(self.turn.lock());
    }

    /// Whether there are files of an older version that are not migrated yet.
    #[must_use]
    pub fn has_older(run: &Path) -> bool {
        migrate::is_due(run)
    }

    /// The name of another domain than `domain` that has the device, including records of a newer version.
    ///
    /// # Errors
    /// That is unknown: no other owner may get the device then.
    pub fn holder(
        &self,
        device: PciAddress,
        domain: Option<&DomainUuid>,
    ) -> Result<Option<String>, RecordError> {
        drop(self.turn()?);
        let bytes = match self.bytes(device) {
            // variantd writes regular files only, so this path records no owner.
            Err(why) if why.is_no_file() => None,
            read => read?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        match text::outline(&bytes, device) {
            Ok(Some(holder)) if Some(&holder.uuid) != domain => Ok(Some(holder.name)),
            Ok(_) => Ok(None),
            Err(version) => Err(newer(&self.path(device), version)),
        }
    }

    /// The manual part of a device's record.
    ///
    /// # Errors
    /// The file exists and cannot be read; a damaged one is set aside and counts as none.
    pub fn manual(&self, device: PciAddress) -> Result<Option<Manual>, RecordError> {
        drop(self.turn()?);
        Ok(self.load(device)?.and_then(|found| found.manual))
    }

    /// Writes the manual part of a device's record, or removes it; it is on disk when this returns.
    ///
    /// # Errors
    /// It may not be on disk: nothing may be changed on the host then.
    pub fn set_manual(
        &self,
        device: PciAddress,
        manual: Option<Manual>,
    ) -> Result<(), RecordError> {
        let turn = self.turn()?;
        self.change(&turn, device, |record| record.manual = manual)
    }

    /// The devices that have a record, in address order, by the names of the files: including unreadable ones.
    ///
    /// # Errors
    /// The directory cannot be listed.
    pub fn devices(&self) -> Result<Vec<PciAddress>, RecordError> {
        drop(self.turn()?);
        self.listed()
    }

    /// The devices that were bound outside of any guest for such a purpose.
    ///
    /// # Errors
    /// A record cannot be read.
    pub fn bound_for(
        &self,
        such: impl Fn(&Purpose) -> bool,
    ) -> Result<Vec<PciAddress>, RecordError> {
        let mut found = Vec::new();
        for device in self.devices()? {
            let manual = self.manual(device)?;
            found.extend(manual.filter(|one| such(&one.purpose)).map(|_| device));
        }
        Ok(found)
    }

    /// All readable records, for frequent reads: does not report the others.
    pub(crate) fn readable(&self) -> Vec<DeviceRecord> {
        let Ok(devices) = self.devices() else {
            return Vec::new();
        };
        let read = devices.into_iter().filter_map(|one| self.load(one).ok()?);
        together(read.collect())
    }

    /// Changes a device's record, and removes it if nothing is left in it.
    fn change(
        &self,
        turn: &MutexGuard<'_, bool>,
        device: PciAddress,
        change: impl FnOnce(&mut DeviceRecord),
    ) -> Result<(), RecordError> {
        let old = self.load(device)?;
        self.change_from(turn, device, old, change)
    }

    /// Like [`change`](Self::change), for a record that was just read.
    fn change_from(
        &self,
        _turn: &MutexGuard<'_, bool>,
        device: PciAddress,
        old: Option<DeviceRecord>,
        change: impl FnOnce(&mut DeviceRecord),
    ) -> Result<(), RecordError> {
        let mut new = old.clone().unwrap_or_else(|| DeviceRecord::new(device));
        change(&mut new);
        // Without a change there is no write and no notification, which would make others read everything again.
        match old {
            Some(old) if old == new => Ok(()),
            None if new.is_over() => Ok(()),
            _ => self.store(&new),
        }
    }

    fn store(&self, record: &DeviceRecord) -> Result<(), RecordError> {
        let path = self.path(record.device);
        let is_over = record.is_over();
        let (action, done) = match is_over {
            true => ("remove", self.storage.remove(&path)),
            false => {
                let text = text::write(record);
                (
                    "write",
                    text.and_then(|text| self.storage.replace(&path, &text)),
                )
            }
        };
        // Also after an error: the file may have changed before it.
        self.notifier.notify();
        match done {
            // An administrator, or systemd-tmpfiles, has removed it already.
            Err(why) if is_over && why.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|why| failed(action, &path, why)),
        }
    }

    /// A device's record; a damaged one is set aside and counts as none.
    fn load(&self, device: PciAddress) -> Result<Option<DeviceRecord>, RecordError> {
        let Some(bytes) = self.bytes(device)? else {
            return Ok(None);
        };
        let path = self.path(device);
        match text::read(&bytes, device) {
            Ok(record) => Ok(Some(record)),
            Err(Unusable::Newer(version)) => Err(newer(&path, version)),
            Err(Unusable::Damaged(reason)) => set_aside(&path, &reason).map(|()| None),
        }
    }

    /// The domain in a device's record of any version; `None` if that is unknown.
    fn outline(&self, device: PciAddress) -> Result<Option<DomainRef>, RecordError> {
        let bytes = self.bytes(device)?;
        Ok(bytes.and_then(|bytes| text::outline(&bytes, device).ok()?))
    }

    /// Reads a device's record, up to the size limit plus one byte.
    fn bytes(&self, device: PciAddress) -> Result<Option<Vec<u8>>, RecordError> {
        let path = self.path(device);
        let read = self.storage.read(&path, LIMIT + 1);
        read.map_err(|why| failed("read", &path, why))
    }

    fn listed(&self) -> Result<Vec<PciAddress>, RecordError> {
        let paths = list(&*self.storage, &self.run.join(DIRECTORY))?.into_iter();
        let devices = paths.filter_map(|path| path.file_stem()?.to_str()?.parse().ok());
        let mut devices: Vec<PciAddress> = devices.collect();
        devices.sort_unstable();
        Ok(devices)
    }

    /// Locks the records; migrates files of an older version.
    fn turn(&self) -> Result<MutexGuard<'_, bool>, RecordError> {
        let mut turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        if !*turn {
            self.migrate()?;
            *turn = true;
        }
        Ok(turn)
    }

    fn path(&self, device: PciAddress) -> PathBuf {
        self.run.join(DIRECTORY).join(format!("{device}.json"))
    }
}

/// While a device of a domain is `binding`, no guest runs with the others.
fn together(mut records: Vec<DeviceRecord>) -> Vec<DeviceRecord> {
    let phases = records.iter().filter_map(|one| one.domain.as_ref());
    let binding = phases.filter(|of| of.record.phase == Phase::Binding);
    let binding: BTreeSet<DomainUuid> = binding.map(|of| of.domain.uuid.clone()).collect();
    let of_domain = records.iter_mut().filter_map(|one| one.domain.as_mut());
    for of in of_domain.filter(|of| binding.contains(&of.domain.uuid)) {
        if of.record.phase == Phase::Bound {
            of.record.phase = Phase::Binding;
        }
    }
    records
}

impl RecordError {
    /// The path of the record is not a regular file.
    fn is_no_file(&self) -> bool {
        matches!(self, Self::Failed { why, .. } if is_no_file(why))
    }
}

/// The record files of a directory, by name.
fn list(storage: &dyn Storage, directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    files(storage, directory).map_err(|why| failed("list", directory, why))
}

fn files(storage: &dyn Storage, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = storage.list(directory)?;
    // Leaves out the temporary files of a write that a crash has interrupted, and the damaged files that were set aside.
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    Ok(paths)
}

/// A directory, a link or a pipe at the path of a record: variantd did not write it, so it is ignored.
fn is_no_file(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EISDIR | Errno::ELOOP | Errno::ENXIO))
}

/// Keeps the file for an administrator to inspect; its devices keep their drivers.
fn set_aside(path: &Path, reason: &str) -> Result<(), RecordError> {
    let aside = path.with_extension("damaged");
    error!(
        "cannot use journal entry '{}' ({reason}): kept as '{}'; its devices keep their drivers",
        path.display(),
        aside.display()
    );
    file::rename(path, &aside).map_err(|why| failed("set aside", path, why))
}

fn failed(action: &'static str, path: &Path, why: io::Error) -> RecordError {
    let path = path.display().to_string();
    RecordError::Failed { action, path, why }
}

fn newer(path: &Path, version: u32) -> RecordError {
    let path = path.display().to_string();
    RecordError::Newer { path, version }
}

#[cfg(test)]
mod tests;
