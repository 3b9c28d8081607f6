//! Claims: which domain holds which device, written before the device is changed.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::{Before, RebindError};

use super::{AssignError, Assigner, bind, error};
use crate::assignment::{Action, Claim, Event, Owner, Phase, Record, Refused, next};
use crate::libvirt::DomainRef;
use crate::record::{DeviceLock, Held};
use domain::{Domain, DomainUuid};
use planner::plan::Planned;

impl Assigner {
    /// The driver names of planned devices on this host; loads their modules.
    pub(super) fn resolve(&self, devices: &[Planned]) -> Result<Vec<DriverName>, AssignError> {
        let resolved = devices
            .iter()
            .map(|device| bind::resolve(&*self.kernel, device.address, &device.driver));
        Ok(resolved.collect::<Result<_, _>>()?)
    }

    /// Records that the domain holds the devices, unless another domain does. Returns all devices of the domain.
    pub(super) fn claim(
        &self,
        domain: &DomainRef,
        devices: &[Planned],
    ) -> Result<Vec<Held>, AssignError> {
        // Before `claims` is locked, because that lock delays the starts of all guests.
        // A module may take long to load: only this domain waits for that.
        let drivers = self.resolve(devices)?;
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // A region query has the device open for a moment, and QEMU would find it busy.
        let is_asked =
            |asked: &mut BTreeSet<PciAddress>| devices.iter().any(|d| asked.contains(&d.address));
        let claims = self.asked.wait_while(claims, is_asked);
        let _claim = claims.unwrap_or_else(PoisonError::into_inner);
        // `variantctl bind` without the agent is another process: only these file locks exclude it.
        let lock = |device: &Planned| self.lock(device.address);
        let _locks: Vec<DeviceLock> = devices.iter().map(lock).collect::<Result<_, _>>()?;
        let old = self.records.entry(&domain.uuid)?;
        let old = old.map_or(Vec::new(), |entry| entry.devices);
        let mut held = old.clone();
        for (device, driver) in devices.iter().zip(drivers) {
            let known = held.iter().position(|held| held.address == device.address);
            // The old record has the state before the first bind; reading it again would find the variant driver.
            let old = known.map(|index| held.remove(index));
            held.push(self.hold(&domain.uuid, device.address, driver, old.as_ref())?);
        }
        held.sort_by_key(|held| held.address);
        if let Err(error) = self.records.set_entry(domain, &held) {
            // Nothing was bound: removes the records again, and retries if that fails.
            let _ = self.records.set_entry(domain, &old);
            // Each device has a file of its own, so the failed write may have changed some of them, and the removal may fail, too.
            self.again.unfinished();
            return Err(error.into());
        }
        for held in &held {
            self.set_note(held.address, None);
        }
        Ok(held)
    }

    /// Checks that a running domain can get the devices: no other guest and no interrupted change has them. Changes nothing.
    ///
    /// # Errors
    /// Names the first device that it cannot get.
    pub fn may_claim(&self, domain: &DomainUuid, devices: &[Planned]) -> Result<(), AssignError> {
        let entry = self.records.entry(domain)?;
        for Planned {
            address, driver, ..
        } in devices
        {
            let own = entry.as_ref().and_then(|entry| entry.held(*address));
            self.hold(domain, *address, driver.clone(), own)?;
            self.refuse_lent_to_another(domain, *address)?;
        }
        Ok(())
    }

    /// Checks that no other domain holds a host device of the definition, in any form, with or without a recipe.
    ///
    /// # Errors
    /// Names the first device that another domain holds.
    pub(super) fn not_taken(&self, domain: &Domain) -> Result<(), AssignError> {
        let uuid = domain.uuid.as_ref();
        for source in domain.sources() {
            if let Some(other) = self.records.holder(source, uuid)? {
                return Err(error::taken(source, &other));
            }
        }
        Ok(())
    }

    /// The device's line for the requesting domain, which has `old`.
    fn hold(
        &self,
        domain: &DomainUuid,
        device: PciAddress,
        target: DriverName,
        old: Option<&Held>,
    ) -> Result<Held, AssignError> {
        let holder = self.records.holder(device, Some(domain))?;
        // The previous state is read once, at the first claim. A later read could find the state of an interrupted bind.
        let now = match old.and_then(|held| held.record.before.clone()) {
            Some(before) => before,
            None => Before::read(&*self.kernel, device)?,
        };
        let lender = match holder {
            Some(_) => None,
            None => self.records.manual(device)?,
        };
        let claim = Claim {
            owner: Owner::Domain,
            target,
            now,
            is_taken: holder.is_some(),
            lender: lender.map(|manual| manual.record.phase),
        };
        let old = old.map(|held| &held.record);
        let record = claimed(device, old, claim, holder.as_deref())?;
        let address = device;
        Ok(Held { address, record })
    }

    /// The domain's devices that have a recipe, as they would be adopted.
    pub(super) fn covered(&self, domain: &Domain) -> Result<Vec<Held>, AssignError> {
        let covered = self
            .context
            .look()
            .covered(domain)
            .map_err(AssignError::Refused)?;
        let held = covered.into_iter().map(|(address, driver)| {
            let registered = self.kernel.registered(driver.as_str());
            let unreadable = |errno| RebindError::Unreadable {
                device: address,
                errno,
            };
            let record = Record {
                owner: Owner::Domain,
                target: registered.map_err(unreadable)?.unwrap_or(driver),
                // Its driver before the guest is unknown, so a release leaves the device as it is.
                before: None,
                phase: Phase::Bound,
                replaces: None,
            };
            Ok(Held { address, record })
        });
        held.collect()
    }
}

/// The record of a requested device; `holder` is the domain that has it.
///
/// # Errors
/// A refusal while a domain has it, or an earlier change of it was not undone.
pub(super) fn claimed(
    device: PciAddress,
    record: Option<&Record>,
    claim: Claim,
    holder: Option<&str>,
) -> Result<Record, AssignError> {
    let step = next(record, &Event::Claim(claim));
    match (step.action(), step.record) {
        (Some(Action::Bind), Some(record)) => Ok(record),
        (Some(Action::Refuse(Refused::Taken)), _) => {
            Err(error::taken(device, holder.unwrap_or_default()))
        }
        _ => Err(error::degraded(device)),
    }
}
