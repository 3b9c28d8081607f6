//! Services that were stopped for a device: in the device's record from before they are stopped until they run again.
//!
//! A service is started again when all devices that it was stopped for are free, so a crash at any point leaves no
//! service stopped.

use super::*;

/// A service that was, or is about to be, stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoppedUnit {
    /// The service.
    pub service: ServiceName,
    /// The devices that it was stopped for.
    pub devices: BTreeSet<PciAddress>,
}

impl Records {
    /// Records that `service` is stopped for `device`, too.
    ///
    /// # Errors
    /// It cannot be recorded: the service must not be stopped then.
    pub fn add_unit(&self, service: &ServiceName, device: PciAddress) -> Result<(), RecordError> {
        let turn = self.turn()?;
        self.change(&turn, device, |record| {
            record.units.insert(service.clone());
        })
    }

    /// Removes a service that runs again from all records.
    ///
    /// # Errors
    /// It remains in one.
    pub fn remove_unit(&self, unit: &StoppedUnit) -> Result<(), RecordError> {
        let turn = self.turn()?;
        for device in &unit.devices {
            self.change(&turn, *device, |record| {
                record.units.remove(&unit.service);
            })?;
        }
        Ok(())
    }

    /// All services by name, and why a record that may name another one cannot be read.
    #[must_use]
    pub fn units(&self) -> (Vec<StoppedUnit>, Option<RecordError>) {
        let mut units: BTreeMap<ServiceName, BTreeSet<PciAddress>> = BTreeMap::new();
        let (records, unread) = self.read_all();
        for record in records {
            for service in record.units {
                units.entry(service).or_default().insert(record.device);
            }
        }
        let units = units.into_iter();
        let units = units.map(|(service, devices)| StoppedUnit { service, devices });
        (units.collect(), unread)
    }
}
