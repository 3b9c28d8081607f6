//! A device's lock, which prevents the agent and `variantd --reserve`, two processes, from changing it at the same
//! time.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use kernel_glue::address::PciAddress;

use super::{DIRECTORY, RecordError, Records, failed};
use crate::instance;
use settings::file;

/// No other process changes the device until this is dropped, or this process ends.
#[derive(Debug)]
pub struct DeviceLock(File);

impl Drop for DeviceLock {
    fn drop(&mut self) {
        // Closing the file is not enough: a child that another thread starts at this moment has a copy of the descriptor until it
        // executes its program, and flock(2) ends with the last copy. If this fails, closing remains.
        let _ = self.0.unlock();
    }
}

impl Records {
    /// Locks the device; `None` while another process has the lock.
    ///
    /// # Errors
    /// Its file cannot be opened.
    pub fn lock(&self, device: PciAddress) -> Result<Option<DeviceLock>, RecordError> {
        let path = self.lock_path(device);
        match open(&path).map(|file| (file.try_lock(), file)) {
            Ok((Ok(()), file)) => Ok(Some(DeviceLock(file))),
            Ok((Err(TryLockError::WouldBlock), _)) => Ok(None),
            Ok((Err(TryLockError::Error(why)), _)) | Err(why) => Err(failed("lock", &path, why)),
        }
    }

    /// Whether a process has the device's lock. Does not take it: a test lock would block other processes.
    #[must_use]
    pub fn is_locked(&self, device: PciAddress) -> bool {
        match fs::metadata(self.lock_path(device)) {
            Ok(file) => instance::holder(&file).is_some(),
            // If that is unknown, a process may have it.
            Err(why) => why.kind() != io::ErrorKind::NotFound,
        }
    }

    fn lock_path(&self, device: PciAddress) -> PathBuf {
        self.run.join(DIRECTORY).join(format!("{device}.lock"))
    }
}

fn open(path: &Path) -> io::Result<File> {
    if let Some(directory) = path.parent() {
        file::create_directory(directory)?;
    }
    OpenOptions::new()
        .write(true)
        .create(true)
        // The file is empty and stays: removing a lock file while another process opens it would give two locks.
        .truncate(false)
        .mode(0o600)
        .open(path)
}

#[cfg(test)]
mod test {
    use super::*;

    #[test]
    fn lock_ends_although_a_starting_child_has_a_copy_of_its_descriptor() {
        let directory = tempfile::tempdir().expect("directory");
        let records = Records::new(directory.path().to_owned());
        let device = "0009:01:00.0".parse().expect("address");
        let lock = records.lock(device).expect("lock").expect("free");
        let _copy = lock.0.try_clone().expect("a copy");
        drop(lock);
        assert!(records.lock(device).expect("lock").is_some());
    }
}
