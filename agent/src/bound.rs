//! What is bound outside of any guest: one record per device, written before the device is touched.
//!
//! Beside the journal of guests in the run directory. A record stands until the device is released;
//! one that is not `done` is of a change that failed half-way or was cut off. The locks keep the agent
//! and `variantd --reserve`, two processes, from working on one device at the same time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::{Deserialize, Serialize};

use crate::assignment::{self, Owner, Phase};
use crate::bell::Bell;
use crate::instance;
use crate::journal::{self, Files, JournalError, Peeked, Storage, VERSION, failed};

/// Records and locks by device below a directory.
#[derive(Clone, Debug)]
pub struct Bound {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
    /// Rings after each change.
    bell: Bell,
}

/// A device that was bound by hand or by a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The device.
    pub device: PciAddress,
    /// The driver it was, or is about to be, bound to.
    pub driver: DriverName,
    /// Driver and override before.
    pub before: Before,
    /// False from before the first write until the last one has succeeded.
    pub done: bool,
    /// The device that it was bound along with, of whose IOMMU group it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leader: Option<PciAddress>,
}

/// Nobody else works on the device until this is dropped, or its process has ended.
#[derive(Debug)]
pub struct DeviceLock(#[expect(dead_code, reason = "held open")] File);

impl journal::Record for Record {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Record {
    /// What is stored of a device's record; `leader` is the device that it is bound along with.
    pub(crate) fn of(
        device: PciAddress,
        leader: Option<PciAddress>,
        record: &assignment::Record,
    ) -> Option<Self> {
        Some(Self {
            version: VERSION,
            device,
            driver: record.target.clone(),
            before: record.before.clone()?,
            done: record.phase == Phase::Bound,
            leader,
        })
    }

    /// The device's record. One that is not done is restored, whatever was being done.
    pub(crate) fn record(&self) -> assignment::Record {
        assignment::Record {
            owner: Owner::Admin,
            target: self.driver.clone(),
            before: Some(self.before.clone()),
            phase: match self.done {
                true => Phase::Bound,
                false => Phase::Degraded,
            },
            replaces: None,
        }
    }
}

impl Bound {
    /// Records in `directory`, which is made when it is needed; `bell` rings when one changes.
    #[must_use]
    pub fn new(directory: PathBuf, bell: Bell) -> Self {
        Self::with_storage(directory, Arc::new(Files), bell)
    }

    /// The same, read and changed through `storage`.
    #[must_use]
    pub fn with_storage(directory: PathBuf, storage: Arc<dyn Storage>, bell: Bell) -> Self {
        Self {
            directory,
            storage,
            bell,
        }
    }

    /// The device's lock; `None` while somebody else has it.
    ///
    /// # Errors
    /// When its file cannot be opened.
    pub fn lock(&self, device: PciAddress) -> Result<Option<DeviceLock>, JournalError> {
        let path = self.directory.join(format!("{device}.lock"));
        match self.open(&path).map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => Ok(Some(DeviceLock(file))),
            Ok((Err(TryLockError::WouldBlock), _)) => Ok(None),
            Ok((Err(TryLockError::Error(why)), _)) | Err(why) => Err(failed("lock", &path, why)),
        }
    }

    /// Whether somebody has the device's lock. Only looks: who takes a lock to see whether it is free keeps others from it.
    #[must_use]
    pub fn is_locked(&self, device: PciAddress) -> bool {
        match fs::metadata(self.directory.join(format!("{device}.lock"))) {
            Ok(file) => instance::holder(&file).is_some(),
            // Where it cannot be seen, somebody may have it.
            Err(why) => why.kind() != io::ErrorKind::NotFound,
        }
    }

    /// The record of a device.
    ///
    /// # Errors
    /// When the file is there and cannot be read; a damaged one is set aside and counts as none.
    pub fn read(&self, device: PciAddress) -> Result<Option<Record>, JournalError> {
        let path = self.path(device);
        let record: Option<Record> = journal::load(&*self.storage, &path)?;
        Ok(record.filter(|record| record.device == device))
    }

    /// Writes a record; it is on disk when this returns.
    ///
    /// # Errors
    /// When it is not: nothing may be changed on the host then.
    pub fn write(&self, record: &Record) -> Result<(), JournalError> {
        let path = self.path(record.device);
        let text = journal::text(record);
        let written = text.and_then(|text| self.storage.replace(&path, &text));
        self.bell.ring();
        written.map_err(|why| failed("write", &path, why))
    }

    /// Removes a record, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, device: PciAddress) -> Result<(), JournalError> {
        let path = self.path(device);
        let removed = self.storage.remove(&path);
        self.bell.ring();
        match removed {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, why)),
            _ => Ok(()),
        }
    }

    /// The devices that have a record, in address order.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn devices(&self) -> Result<Vec<PciAddress>, JournalError> {
        let paths = journal::list(&*self.storage, &self.directory)?.into_iter();
        let mut devices: Vec<PciAddress> = paths
            .filter_map(|path| path.file_stem()?.to_str()?.parse().ok())
            .collect();
        devices.sort_unstable();
        Ok(devices)
    }

    /// The records of the devices that were bound along with `leader`.
    ///
    /// # Errors
    /// When one cannot be read.
    pub fn along(&self, leader: PciAddress) -> Result<Vec<Record>, JournalError> {
        let mut records = Vec::new();
        for device in self.devices()? {
            records.extend(self.read(device)?.filter(|one| one.leader == Some(leader)));
        }
        Ok(records)
    }

    /// All records by file, for who only looks.
    ///
    /// # Errors
    /// When the directory cannot be listed.
    pub fn peek(&self) -> io::Result<Vec<(String, Peeked<Record>)>> {
        journal::peek_records(&self.directory)
    }

    fn open(&self, path: &Path) -> io::Result<File> {
        fs::create_dir_all(&self.directory)?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)
    }

    fn path(&self, device: PciAddress) -> PathBuf {
        self.directory.join(format!("{device}.json"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{GPU, NIC, VARIANT, address, driver};

    fn scene() -> (tempfile::TempDir, Bound) {
        let directory = tempfile::tempdir().expect("directory");
        let bound = Bound::new(directory.path().join("bound"), Bell::default());
        (directory, bound)
    }

    fn record() -> Record {
        let before = Before {
            driver: Some(driver("nvidia")),
            driver_override: None,
        };
        crate::fixture::interrupted(address(GPU), driver(VARIANT), before)
    }

    #[test]
    fn a_record_is_read_back_until_it_is_removed() {
        let (_directory, bound) = scene();
        bound.write(&record()).expect("written");
        assert_eq!(bound.read(address(GPU)).expect("read"), Some(record()));
        assert_eq!(bound.devices().expect("listed"), [address(GPU)]);
        bound.remove(address(GPU)).expect("removed");
        bound.remove(address(GPU)).expect("removed twice");
        assert_eq!(bound.read(address(GPU)).expect("read"), None);
        assert!(bound.devices().expect("listed").is_empty());
    }

    #[test]
    fn a_damaged_record_is_set_aside_and_counts_as_none() {
        let (directory, bound) = scene();
        bound.write(&record()).expect("written");
        let path = directory.path().join(format!("bound/{GPU}.json"));
        fs::write(&path, "{").expect("damaged");
        assert_eq!(bound.read(address(GPU)).expect("read"), None);
        assert!(path.with_extension("damaged").exists() && !path.exists());
    }

    #[test]
    fn a_lock_is_had_once_at_a_time_and_per_device() {
        let (_directory, bound) = scene();
        let lock = bound.lock(address(GPU)).expect("lock");
        assert!(lock.is_some());
        assert!(bound.lock(address(GPU)).expect("lock").is_none());
        assert!(bound.lock(address(NIC)).expect("lock").is_some());
        assert!(bound.is_locked(address(GPU)) && !bound.is_locked(address(NIC)));
        drop(lock);
        assert!(!bound.is_locked(address(GPU)));
        assert!(bound.lock(address(GPU)).expect("lock").is_some());
    }
}
