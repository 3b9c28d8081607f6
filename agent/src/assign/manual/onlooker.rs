//! Plans a bind without the agent: on a recorded host, a snapshot, or this host while the agent does not run.
//!
//! Reads and never writes: it takes no lock and keeps no record.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::live::Live;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;

use super::{AssignError, Assigner, BindOptions, GroupAnswer, error};
use crate::context::{Context, Rules};
use crate::known_versions::KnownVersions;
use crate::opted_out::OptedOut;
use crate::record::{RecordError, Records, peek};

/// A directory that does not exist: no record.
const NO_RECORDS: &str = "/nonexistent/variantd";

/// The input of the plan: a host, and the files that it was read from.
pub struct Onlooker {
    /// The host.
    pub host: Host,
    /// Its files; none for a snapshot.
    pub files: Option<Live>,
    /// Set for this host: its `/proc` shows the holders of a device, and this run directory the guest of a device.
    pub run: Option<PathBuf>,
}

impl Onlooker {
    /// The writes of a bind, and the obstacles.
    ///
    /// # Errors
    /// As [`Assigner::plan_manual_group`].
    pub fn plan(
        self,
        rules: Rules,
        device: PciAddress,
        bind_options: BindOptions,
    ) -> Result<GroupAnswer, AssignError> {
        self.refuse_held(device)?;
        let (host, state) = (self.host.clone(), Path::new(NO_RECORDS));
        let context = Context::new(
            Box::new(move || Ok(host.clone())),
            KnownVersions::load(state.join("versions")),
            OptedOut::load(state.join("declined")),
            rules,
        );
        let records = Records::new(NO_RECORDS.into());
        Assigner::new(Arc::new(self), Arc::new(context), records)
            .plan_group_unlocked(device, bind_options)
    }

    /// Skipped for a user who may not read the records.
    fn refuse_held(&self, device: PciAddress) -> Result<(), AssignError> {
        let Some(run) = &self.run else {
            return Ok(());
        };
        match peek::holder(run, device) {
            Ok(Some(domain)) => Err(error::taken(device, &domain)),
            Ok(None) => Ok(()),
            Err(RecordError::Failed { why, .. })
                if why.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    fn device(&self, address: PciAddress) -> Result<&Device, Errno> {
        self.host.devices.get(&address).ok_or(Errno::ENODEV)
    }

    /// The driver of this name that some device is bound to, so it is registered.
    fn in_use(&self, name: &str) -> Option<DriverName> {
        let module = |name: &str| name.replace('-', "_");
        let mut drivers = self
            .host
            .devices
            .values()
            .filter_map(|one| one.driver.as_ref());
        let found = drivers.find(|driver| module(driver.as_str()) == module(name));
        found.cloned()
    }
}

impl Kernel for Onlooker {
    fn write(&self, _: &Attribute, _: &str) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn load_module(&self, _: &str) -> Result<(), Errno> {
        Err(Errno::EROFS)
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        Ok(self.device(device)?.driver.clone())
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        Ok(self.device(device)?.driver_override.clone())
    }

    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno> {
        let known = match &self.files {
            Some(files) => files.registered(name)?,
            None => None,
        };
        Ok(known.or_else(|| self.in_use(name)))
    }

    /// A recorded host does not have all of modules.alias, so nothing is refused for it.
    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        match (&self.files, &self.run) {
            (Some(files), Some(_)) => files.lists(device, driver),
            _ => Ok(true),
        }
    }

    fn vfio_users(&self, _: PciAddress) -> Result<Vec<u32>, Errno> {
        Ok(Vec::new())
    }

    fn regions(&self, _: PciAddress) -> Result<Regions, RegionError> {
        Err(RegionError::NotPermitted)
    }

    /// A recorded host has no processes.
    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        let Some(files) = &self.files else {
            return Ok(Occupancy::default());
        };
        match files.occupancy(device) {
            Err(_) if self.run.is_none() => Ok(Occupancy::default()),
            occupancy => occupancy,
        }
    }

    fn names_memory(&self, driver: &DriverName) -> bool {
        let files = self.files.as_ref();
        files.is_none_or(|files| files.names_memory(driver))
    }

    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        let files = self.files.as_ref();
        files.map_or(Ok(false), |files| files.is_unconfined(device))
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        let files = self.files.as_ref();
        files.map_or(Ok(None), |files| files.unbind_lock(device))
    }
}
