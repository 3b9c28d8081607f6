//! Claims: which domain holds which device, written before the device is touched.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::{Before, RebindError};

use super::{AssignError, Assigner, bind, error};
use crate::bound::DeviceLock;
use crate::domain::Domain;
use crate::journal::{Entry, Held, State};
use crate::libvirt::DomainRef;
use crate::plan::Planned;

impl Assigner {
    /// The drivers of planned devices by the names that they have on this host, their modules loaded.
    pub(super) fn resolve(&self, devices: &[Planned]) -> Result<Vec<DriverName>, AssignError> {
        let resolved = devices
            .iter()
            .map(|device| bind::resolve(&*self.kernel, device.address, &device.driver));
        Ok(resolved.collect::<Result<_, _>>()?)
    }

    /// Journals that the domain holds the devices, unless another domain does.
    pub(super) fn claim(
        &self,
        domain: &DomainRef,
        devices: &[Planned],
    ) -> Result<Entry, AssignError> {
        // A module may take its time to load: nobody waits for that but this domain.
        let drivers = self.resolve(devices)?;
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever asks holds the device open for a moment, and QEMU would find it busy.
        let is_asked =
            |asked: &mut BTreeSet<PciAddress>| devices.iter().any(|d| asked.contains(&d.address));
        let claims = self.asked.wait_while(claims, is_asked);
        let _claim = claims.unwrap_or_else(PoisonError::into_inner);
        let lock = |device: &Planned| self.lock(device.address);
        let _locks: Vec<DeviceLock> = devices.iter().map(lock).collect::<Result<_, _>>()?;
        for device in devices {
            if let Some(other) = self.journal.holder(device.address, Some(&domain.uuid))? {
                return Err(error::taken(device.address, &other));
            }
            // What a bind by hand has left half-way is no state to come back to.
            if self
                .bound
                .read(device.address)?
                .is_some_and(|by_hand| !by_hand.done)
            {
                return Err(error::degraded(device.address));
            }
        }
        let mut held = self
            .journal
            .read(&domain.uuid)?
            .map_or(Vec::new(), |e| e.devices);
        for (device, driver) in devices.iter().zip(drivers) {
            let known = held.iter().position(|held| held.address == device.address);
            let old = known.map(|index| held.remove(index));
            held.push(self.hold(device, driver, old)?);
        }
        held.sort_by_key(|held| held.address);
        let entry = Entry::new(domain, held);
        self.journal.write(&domain.uuid, &entry)?;
        for held in &entry.devices {
            self.set_note(held.address, None);
        }
        Ok(entry)
    }

    /// Sees that no other domain holds a host device that the definition uses in whatever form, with a recipe or without.
    ///
    /// # Errors
    /// Names the first device that another domain holds.
    pub(super) fn not_taken(&self, xml: &str) -> Result<(), AssignError> {
        let domain = Domain::parse(xml).map_err(AssignError::Refused)?;
        let uuid = domain.uuid.as_ref();
        for source in domain.sources() {
            if let Some(other) = self.journal.holder(source, uuid)? {
                return Err(error::taken(source, &other));
            }
        }
        Ok(())
    }

    /// What an earlier start of the domain noted as the state before still counts.
    fn hold(
        &self,
        device: &Planned,
        driver: DriverName,
        old: Option<Held>,
    ) -> Result<Held, AssignError> {
        if old
            .as_ref()
            .is_some_and(|held| held.state == State::Degraded)
        {
            return Err(error::degraded(device.address));
        }
        let before = match old.and_then(|held| held.before) {
            Some(before) => before,
            None => Before::read(&*self.kernel, device.address)?,
        };
        Ok(Held {
            address: device.address,
            driver,
            before: Some(before),
            state: State::Binding,
        })
    }

    /// The domain's devices that have a recipe, as they would be adopted.
    pub(super) fn covered(&self, xml: &str) -> Result<Vec<Held>, AssignError> {
        let covered = self
            .site
            .look()
            .covered(xml)
            .map_err(AssignError::Refused)?;
        let held = covered.into_iter().map(|(address, driver)| {
            let registered = self.kernel.registered(driver.as_str());
            let unreadable = |errno| RebindError::Unreadable {
                device: address,
                errno,
            };
            Ok(Held {
                address,
                driver: registered.map_err(unreadable)?.unwrap_or(driver),
                before: None,
                state: State::Bound,
            })
        });
        held.collect()
    }
}
