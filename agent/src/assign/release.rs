//! The state of a device after its domain has ended, and how it gets there.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::{Before, RebindError};
use tracing::warn;

use super::bind::{Begun, Terms};
use super::{AssignError, Assigner, OnRefusal, SharedKernel, bind, reference, sorted};
use crate::assignment::{Event, Phase};
use crate::libvirt::DomainRef;
use crate::record::Held;
use domain::refusal::Refusal;
use domain::{Domain, DomainUuid};
use settings::config::Release;

/// The state that the policy requires for a device; `None` if it stays as it is.
///
/// A device that was found in a running guest stays. A device that a guest never had is restored to its previous state:
/// the policy is for guests that have run. The previous state also applies if the policy's driver does not exist.
///
/// # Errors
/// The state cannot be read, or the policy's driver is still being loaded.
pub(super) fn goal(
    kernel: &SharedKernel,
    held: &Held,
    by_policy: bool,
    policy: &Release,
) -> Result<Option<Before>, RebindError> {
    let Some(before) = &held.record.before else {
        return Ok(None);
    };
    match policy {
        // Keep only what is on the target. A device on another driver was changed outside of variantd, and is restored.
        Release::Keep
            if by_policy
                && Before::read(kernel, held.address)?.driver.as_ref()
                    == Some(&held.record.target) =>
        {
            Ok(None)
        }
        Release::Driver(name) if by_policy && before.driver.as_ref() != Some(name) => {
            let wanted = policys(kernel, held.address, name)?;
            Ok(Some(wanted.unwrap_or_else(|| before.clone())))
        }
        _ => Ok(Some(before.clone())),
    }
}

/// A device on the policy's driver; `None` if no module of this kernel contains it.
fn policys(
    kernel: &SharedKernel,
    device: PciAddress,
    name: &DriverName,
) -> Result<Option<Before>, RebindError> {
    let driver = bind::resolve(kernel, device, name)?;
    let found = kernel.registered(driver.as_str());
    let found = found.map_err(|errno| RebindError::Unreadable { device, errno })?;
    if found.is_none() {
        warn!(
            "restoring the previous driver of '{device}': '{name}' ('release' in variantd.conf) \
                cannot be loaded"
        );
    }
    Ok(found.map(|driver| Before {
        // Without the override, VFIO drivers match nothing: their table is override-only (`PCI_ID_F_VFIO_DRIVER_OVERRIDE`).
        driver_override: Some(driver.to_string()),
        driver: Some(driver),
    }))
}

impl Assigner {
    /// Releases all devices of a domain.
    pub(super) fn release_devices(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        self.release_those(domain, |_| true, &Event::Released, OnRefusal::Kept)?;
        Ok(())
    }

    /// Releases those devices of a domain that are `due` by an event; the entry keeps the rest, which is retried.
    /// Returns notes about devices that are not bound to their previous driver.
    pub(super) fn release_those(
        &self,
        domain: &DomainUuid,
        due: impl Fn(&Held) -> bool,
        event: &Event,
        on_refusal: OnRefusal,
    ) -> Result<Vec<Refusal>, AssignError> {
        let released = self.try_to_release(domain, due, event, on_refusal);
        released.inspect_err(|_| self.again.domain(domain))
    }

    fn try_to_release(
        &self,
        domain: &DomainUuid,
        due: impl Fn(&Held) -> bool,
        event: &Event,
        on_refusal: OnRefusal,
    ) -> Result<Vec<Refusal>, AssignError> {
        let entry = self.records.entry(domain);
        let Some(entry) = entry.inspect_err(|_| self.left_over(domain))? else {
            return Ok(Vec::new());
        };
        let uuid = domain.clone();
        let name = entry.name;
        let domain = DomainRef { uuid, name };
        let (due, others): (Vec<_>, Vec<_>) = entry.devices.into_iter().partition(due);
        self.wait_for_qemu(&due);
        let begun: Vec<Begun> = due.iter().map(|held| Begun::by(event, held)).collect();
        self.intend(&domain, &begun, &others);
        let terms = Terms {
            policy: &self.context.rules().config.release,
            on_refusal,
            metrics: &self.context.metrics,
        };
        // A device that fails does not stop the others: each one that is released can start another guest.
        let results = bind::release_devices(&*self.kernel, &begun, terms);
        let (mut left, mut failed, mut notes) = (others, None, Vec::new());
        for (begun, result) in begun.iter().zip(results) {
            left.extend(begun.left(result.as_ref().map(drop)));
            match result {
                Ok(note) => {
                    self.set_note(begun.device, note.as_ref());
                    notes.extend(note);
                }
                Err(error) => drop(failed.get_or_insert(error)),
            }
        }
        self.keep(&domain, sorted(left.into_iter()))?;
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(notes),
        }
    }

    /// A device has left a running guest: releases the devices that the guest's live XML no longer has.
    ///
    /// A VFIO group is assigned as a whole, so a device stays while the guest has another one of its group. It also
    /// stays while a process holds it: the guest may have it again.
    ///
    /// # Errors
    /// Names the device that could not be released; it stays journalled.
    pub fn release_departed(&self, live: &Domain) -> Result<(), AssignError> {
        let domain = reference(live)?.uuid;
        let given: Vec<PciAddress> = live.sources().collect();
        let host = self.context.host().map_err(AssignError::Refused)?;
        let group = |address: &PciAddress| host.devices.get(address)?.iommu_group;
        let stays = |held: &Held| {
            let own = group(&held.address);
            // Devices without a group compare equal as `None`, and share nothing.
            let near = |one: &PciAddress| own.is_some() && group(one) == own;
            given.contains(&held.address) || given.iter().any(near)
        };
        let departed = |held: &Held| held.record.phase == Phase::Bound && !stays(held);
        self.locks.with(&domain, || {
            let held = self.records.entry(&domain)?.map(|entry| entry.devices);
            let mut gone = held.unwrap_or_default();
            gone.retain(departed);
            self.wait_for_qemu(&gone);
            gone.retain(|held| self.is_free(held.address));
            if gone.is_empty() {
                return Ok(());
            }
            let departed = |held: &Held| gone.contains(held);
            self.release_those(&domain, departed, &Event::Released, OnRefusal::Kept)?;
            Ok(())
        })
    }

    /// Journals that devices are about to be released. If that fails they are released anyway: the earlier entry only
    /// means that libvirt is asked first.
    fn intend(&self, domain: &DomainRef, begun: &[Begun], others: &[Held]) {
        let begun = begun.iter().filter_map(|begun| begun.held.clone());
        let all = sorted(begun.chain(others.iter().cloned()));
        if let Err(error) = self.records.set_entry(domain, &all) {
            warn!("{error}");
        }
    }
}
