//! Which services were stopped for which devices: one record per service, written before it is stopped.
//!
//! Beside the journal of guests in the run directory. A record stands until the service was started again, and
//! that is due as soon as nobody has any of its devices: so a crash at any point leaves nothing stopped.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};

use crate::journal::{self, JournalError, Storage, VERSION, failed};
use crate::service::ServiceName;

/// Records by service below a directory.
#[derive(Clone, Debug)]
pub struct Stopped {
    directory: PathBuf,
    storage: Arc<dyn Storage>,
}

/// A service that was, or is about to be, stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    version: u32,
    /// The service.
    pub service: ServiceName,
    /// The devices that it was stopped for.
    pub devices: BTreeSet<PciAddress>,
}

impl journal::Record for Record {
    fn version(&self) -> u32 {
        self.version
    }
}

impl Stopped {
    /// Records in `directory`, which is made at the first; changes go through `storage`.
    #[must_use]
    pub fn new(directory: PathBuf, storage: Arc<dyn Storage>) -> Self {
        Self { directory, storage }
    }

    /// Notes that `service` is stopped for `device`, too.
    ///
    /// # Errors
    /// When it cannot be noted: the service must not be stopped then.
    pub fn add(&self, service: &ServiceName, device: PciAddress) -> Result<(), JournalError> {
        let path = self.path(service);
        let old = journal::load::<Record>(&*self.storage, &path)?;
        let mut devices = old.map_or_else(BTreeSet::new, |record| record.devices);
        devices.insert(device);
        let record = Record {
            version: VERSION,
            service: service.clone(),
            devices,
        };
        journal::text(&record)
            .and_then(|text| self.storage.replace(&path, &text))
            .map_err(|why| failed("write", &path, why))
    }

    /// Drops the record of a service, if there is one.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn remove(&self, service: &ServiceName) -> Result<(), JournalError> {
        let path = self.path(service);
        match self.storage.remove(&path) {
            Err(why) if why.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path, why)),
            _ => Ok(()),
        }
    }

    /// All records that can be read, and why another one cannot be.
    #[must_use]
    pub fn all(&self) -> (Vec<Record>, Option<JournalError>) {
        let (mut all, mut unread) = (Vec::new(), None);
        let paths = journal::list(&*self.storage, &self.directory);
        for path in paths.unwrap_or_else(|why| {
            unread = Some(why);
            Vec::new()
        }) {
            match journal::load::<Record>(&*self.storage, &path) {
                Ok(record) => all.extend(record),
                Err(why) => unread = Some(why),
            }
        }
        all.sort_by(|one, other| one.service.cmp(&other.service));
        (all, unread)
    }

    fn path(&self, service: &ServiceName) -> PathBuf {
        self.directory.join(format!("{service}.json"))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::fixture::{GPU, NIC, address};
    use crate::journal::Files;

    fn scene() -> (tempfile::TempDir, Stopped) {
        let directory = tempfile::tempdir().expect("directory");
        let stopped = Stopped::new(directory.path().join("stopped"), Arc::new(Files));
        (directory, stopped)
    }

    fn service() -> ServiceName {
        ServiceName::known().next().expect("one is known")
    }

    #[test]
    fn a_service_is_noted_once_with_all_its_devices() {
        let (_directory, stopped) = scene();
        assert!(stopped.all().0.is_empty());
        for device in [GPU, NIC, GPU] {
            stopped.add(&service(), address(device)).expect("noted");
        }
        let (all, _) = stopped.all();
        assert_eq!((all.len(), all[0].devices.len()), (1, 2));
        stopped.remove(&service()).expect("removed");
        stopped.remove(&service()).expect("removed twice");
        assert!(stopped.all().0.is_empty());
    }

    #[test]
    fn a_record_that_names_what_is_never_stopped_is_set_aside() {
        let (directory, stopped) = scene();
        stopped.add(&service(), address(GPU)).expect("noted");
        let path = directory
            .path()
            .join("stopped/nvidia-persistenced.service.json");
        let text = fs::read_to_string(&path).expect("record");
        let other = text.replace("nvidia-persistenced", "libvirtd");
        fs::write(&path, other).expect("written");
        assert!(stopped.all().0.is_empty());
        assert!(path.with_extension("damaged").exists());
    }
}
