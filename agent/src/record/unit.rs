//! Services that were stopped for a device: on the device's record from before they are stopped until they run again.
//!
//! That is due as soon as nobody has any of the devices that a service was stopped for: so a crash at any point leaves
//! nothing stopped.

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
    /// Notes that `service` is stopped for `device`, too.
    ///
    /// # Errors
    /// When it cannot be noted: the service must not be stopped then.
    pub fn add_unit(&self, service: &ServiceName, device: PciAddress) -> Result<(), RecordError> {
        let turn = self.turn()?;
        self.change(&turn, device, |record| {
            record.units.insert(service.clone());
        })
    }

    /// Takes a service that runs again off all records.
    ///
    /// # Errors
    /// When it stays on one.
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
