//! The records: one file per device that says who has it and how it was before, written before the device is touched.
//!
//! In the run directory, since drivers and overrides do not survive a reboot either. A record stands until the device is
//! as it was, and until the services that were stopped for it run again. variantd.journal(5) has the format.
//!
//! The devices of one domain are written one after another. A guest starts only once all of them are `bound`: so while one
//! of them is `binding` on disk, all count as that, and an agent that died between two writes takes all of them back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use nix::errno::Errno;
use thiserror::Error;
use tracing::error;

use crate::libvirt::DomainRef;
use crate::notifier::Notifier;
use crate::service::ServiceName;
use domain::DomainUuid;

pub use crate::assignment::{Owner, Phase, Record};
pub use entry::{Entry, Held, Survey};
pub use lock::DeviceLock;
pub use migrate::of_older_version;
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

/// What is on record of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The device.
    pub device: PciAddress,
    /// The domain that has it.
    pub domain: Option<OfDomain>,
    /// What an administrator or a reservation has done; under a domain that borrows the device, what it goes back to.
    pub manual: Option<Manual>,
    /// Services that were stopped for it, and do not run again yet.
    pub units: BTreeSet<ServiceName>,
}

/// A domain's assignment of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OfDomain {
    /// The domain, by its name at the time.
    pub domain: DomainRef,
    /// How far it is.
    pub record: Record,
}

/// A device that was bound outside of any guest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manual {
    /// The device.
    pub device: PciAddress,
    /// The device that it was bound along with, of whose IOMMU group it is.
    pub leader: Option<PciAddress>,
    /// How far it is; what it was before is known.
    pub record: Record,
}

/// A record could not be read or written.
#[derive(Debug, Error)]
pub enum RecordError {
    /// The file, or its directory, says no.
    #[error("cannot {action} journal entry '{path}': {why}")]
    Failed {
        /// What was to be done.
        action: &'static str,
        /// The record.
        path: String,
        /// Why not.
        why: io::Error,
    },
    /// A newer variantd wrote it, and may mean what we do not know.
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
    /// Held while a file is read and written again, never longer; whether files of an older version are migrated.
    turn: Mutex<bool>,
    /// Rings after each change.
    notifier: Notifier,
}

impl DeviceRecord {
    /// Of which nothing is known.
    #[must_use]
    pub fn new(device: PciAddress) -> Self {
        Self {
            device,
            domain: None,
            manual: None,
            units: BTreeSet::new(),
        }
    }

    /// Nothing is left to be written down.
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
    /// True while neither a bind nor a release has come to its end.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.record.phase.is_unsettled()
    }
}

impl Records {
    /// The records below `run`, whose directory is made at the first. What an older version has left there is migrated at
    /// the first use, so that only the owner of `run` may use them: all others [`peek`](peek::all).
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

    /// Rings after each change of a record.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        &self.notifier
    }

    /// Returns once the lock was had that every call needs.
    pub(crate) fn answers(&self) {
        drop(self.turn.lock());
    }

    /// Whether an older version has left files that are not migrated yet.
    #[must_use]
    pub fn has_older(run: &Path) -> bool {
        migrate::is_due(run)
    }

    /// The name of a domain that has the device, other than `domain`; also by a record of a newer version.
    ///
    /// # Errors
    /// When that cannot be known: nobody else may have the device then.
    pub fn holder(
        &self,
        device: PciAddress,
        domain: Option<&DomainUuid>,
    ) -> Result<Option<String>, RecordError> {
        drop(self.turn()?);
        let bytes = match self.bytes(device) {
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

    /// What stands of a device that is bound outside of any guest.
    ///
    /// # Errors
    /// When the file is there and cannot be read; a damaged one is set aside and counts as none.
    pub fn manual(&self, device: PciAddress) -> Result<Option<Manual>, RecordError> {
        drop(self.turn()?);
        Ok(self.load(device)?.and_then(|found| found.manual))
    }

    /// Writes that down, or that nothing is left of it; it is on disk when this returns.
    ///
    /// # Errors
    /// When it may not be: nothing may be changed on the host then.
    pub fn set_manual(
        &self,
        device: PciAddress,
        manual: Option<Manual>,
    ) -> Result<(), RecordError> {
        let turn = self.turn()?;
        self.change(&turn, device, |record| record.manual = manual)
    }

    /// The devices that have a record of whatever kind, in address order, by the names of the files: also of one that cannot
    /// be read now.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn devices(&self) -> Result<Vec<PciAddress>, RecordError> {
        drop(self.turn()?);
        self.listed()
    }

    /// What was bound along with `leader`.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn along(&self, leader: PciAddress) -> Result<Vec<Manual>, RecordError> {
        let mut along = Vec::new();
        for device in self.devices()? {
            let manual = self.manual(device)?;
            along.extend(manual.filter(|one| one.leader == Some(leader)));
        }
        Ok(along)
    }

    /// All records that can be read, for who looks often: says nothing of the others.
    pub(crate) fn readable(&self) -> Vec<DeviceRecord> {
        let Ok(devices) = self.devices() else {
            return Vec::new();
        };
        let read = devices.into_iter().filter_map(|one| self.load(one).ok()?);
        together(read.collect())
    }

    /// Changes a device's record, and ends it when nothing is left of it.
    fn change(
        &self,
        _turn: &MutexGuard<'_, bool>,
        device: PciAddress,
        change: impl FnOnce(&mut DeviceRecord),
    ) -> Result<(), RecordError> {
        let old = self.load(device)?;
        let mut new = old.clone().unwrap_or_else(|| DeviceRecord::new(device));
        change(&mut new);
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
        self.notifier.notify();
        match done {
            Err(why) if is_over && why.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done.map_err(|why| failed(action, &path, why)),
        }
    }

    /// A device's record; one that is damaged is set aside and counts as none.
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

    /// The domain that a device's record of whatever version names; none where that cannot be known.
    fn outline(&self, device: PciAddress) -> Result<Option<DomainRef>, RecordError> {
        let bytes = self.bytes(device)?;
        Ok(bytes.and_then(|bytes| text::outline(&bytes, device).ok()?))
    }

    /// The text of a device's record, not more of it than shows that it is too long.
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

    /// Nobody else changes a record meanwhile; what an older version has left is migrated.
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
    /// Something that is no file is in the place of the record.
    fn is_no_file(&self) -> bool {
        matches!(self, Self::Failed { why, .. } if is_no_file(why))
    }
}

/// The files of a directory that are records, by name.
fn list(storage: &dyn Storage, directory: &Path) -> Result<Vec<PathBuf>, RecordError> {
    files(storage, directory).map_err(|why| failed("list", directory, why))
}

fn files(storage: &dyn Storage, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut paths = storage.list(directory)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    Ok(paths)
}

/// A directory, a link or a pipe in the place of a record: we have not written that, so it says nothing.
fn is_no_file(why: &io::Error) -> bool {
    let errno = why.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EISDIR | Errno::ELOOP | Errno::ENXIO))
}

/// Keeps the file for a person to look at; its devices stay where they are.
fn set_aside(path: &Path, reason: &str) -> Result<(), RecordError> {
    let aside = path.with_extension("damaged");
    error!(
        "journal entry '{}' cannot be used ({reason}): kept as '{}'; its devices stay on their driver",
        path.display(),
        aside.display()
    );
    fs::rename(path, aside).map_err(|why| failed("set aside", path, why))
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
