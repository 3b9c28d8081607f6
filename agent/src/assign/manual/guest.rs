//! Devices of guests whose libvirt is not this host's, such as KubeVirt's: their management system calls before the start and after the
//! end.
//!
//! ```text
//! bind:    devices without a recipe are left out -> each device with its companions; on failure: those of this call are released
//! release: QEMU has closed the devices -> each device whose record names the guest
//! ```
//!
//! The records are the only list of a guest's devices: after the end no other program may know them.

use kernel_glue::address::PciAddress;
use tracing::warn;

use super::{
    Asker, AssignError, Assigner, BindOptions, BindOutcome, GroupAnswer, ManualBind, missing,
};
use crate::assign::{bind, error};
use crate::assignment::Record;
use crate::libvirt::DomainRef;
use crate::record::Purpose;
use domain::DomainUuid;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

impl Assigner {
    /// Binds the devices of a guest that is about to start, each to the driver that its recipe names. A device without a recipe is left
    /// as it is. A device that a reservation or an administrator has bound to that driver stays bound after the guest's end.
    ///
    /// # Errors
    /// As [`bind_group_manually`](Self::bind_group_manually), or another guest uses a device; the devices of this call are released.
    pub fn bind_guest(
        &self,
        guest: &DomainRef,
        devices: &[PciAddress],
    ) -> Result<Vec<GroupAnswer>, AssignError> {
        let services = self.context.rules().config.stop_services.clone();
        let mut bound: Vec<GroupAnswer> = Vec::new();
        for device in self.with_recipe(devices)? {
            let options = BindOptions::default();
            let answer = self
                .refuse_lent(device)
                .and_then(|()| self.bind_group(Asker::Guest(guest), device, options, &services));
            match answer {
                Ok(answer) => bound.push(answer),
                Err(error) => {
                    self.unbind(&bound);
                    return Err(error);
                }
            }
        }
        Ok(bound)
    }

    /// Releases the devices that [`bind_guest`](Self::bind_guest) bound for a guest.
    ///
    /// # Errors
    /// The first failure. Each device is tried; those that could not be released stay recorded, so that the caller can retry.
    pub fn release_guest(&self, guest: &DomainUuid) -> Result<Vec<GroupAnswer>, AssignError> {
        let is_for = |purpose: &Purpose| {
            let recorded = purpose.guest.as_ref();
            recorded.is_some_and(|recorded| recorded.uuid == *guest)
        };
        let devices = self.records.bound_for(is_for)?;
        self.wait_until_closed(&devices);
        let released = devices
            .into_iter()
            .map(|device| self.release_group_manually(device));
        let released: Vec<_> = released.collect();
        released.into_iter().collect()
    }

    /// Records a bound device for whom `bind` is: the next guest, if another guest has left it bound; or no guest, if an
    /// administrator or a reservation asks for a device that is bound for a guest, so that it stays bound after that guest's end.
    /// Called with the device's lock.
    ///
    /// # Errors
    /// A process still has the device open, and `bind` is for another guest.
    pub(super) fn hand_over(&self, bind: &ManualBind) -> Result<(), AssignError> {
        let Some(old) = &bind.old else {
            return Ok(());
        };
        let guest = bind.purpose.guest.as_ref();
        match (guest, &old.purpose.guest) {
            (Some(guest), Some(other)) if other.uuid != guest.uuid => {
                self.refuse_open(bind.rebind.device, &other.name)?;
            }
            (None, Some(_)) => {}
            _ => return Ok(()),
        }
        let purpose = Purpose {
            guest: guest.cloned(),
            ..old.purpose.clone()
        };
        let record = Record {
            owner: bind.owner,
            ..old.record.clone()
        };
        Ok(self.note_record(old.device, &purpose, Some(&record))?)
    }

    /// The devices that a recipe covers.
    fn with_recipe(&self, devices: &[PciAddress]) -> Result<Vec<PciAddress>, AssignError> {
        let host_view = self.context.look();
        let mut covered = Vec::new();
        for device in devices {
            let found = host_view.device(*device).map_err(AssignError::Refused)?;
            let found = found.ok_or_else(|| missing(*device))?;
            if host_view.rules.recipes.for_device(found).is_some() {
                covered.push(*device);
            }
        }
        Ok(covered)
    }

    /// An administrator's bind to another driver than the recipe's would be lost at the guest's end.
    fn refuse_lent(&self, device: PciAddress) -> Result<(), AssignError> {
        let Some(manual) = self.records.manual(device)? else {
            return Ok(());
        };
        let wanted = self.wanted(device, None)?;
        let is_wanted = manual.record.target == bind::resolve(&*self.kernel, device, &wanted)?;
        if manual.purpose.guest.is_some() || manual.is_unsettled() || is_wanted {
            return Ok(());
        }
        let target = &manual.record.target;
        let reason =
            format!("an administrator has bound it to '{target}', and guests need '{wanted}'");
        let hint = Hint::run(format!("variantctl release {device}"));
        Err(AssignError::Refused(
            Refusal::new(Code::DeviceTaken, reason, hint).of(device),
        ))
    }

    /// Refuses a device that was bound for another guest, which has it open.
    pub(in crate::assign) fn refuse_lent_to_another(
        &self,
        domain: &DomainUuid,
        device: PciAddress,
    ) -> Result<(), AssignError> {
        let manual = self.records.manual(device)?;
        match manual.and_then(|manual| manual.purpose.guest) {
            Some(other) if other.uuid != *domain => self.refuse_open(device, &other.name),
            _ => Ok(()),
        }
    }

    fn refuse_open(&self, device: PciAddress, holder: &str) -> Result<(), AssignError> {
        match self.kernel.vfio_users(device) {
            Ok(users) if users.is_empty() => Ok(()),
            _ => Err(error::taken(device, holder)),
        }
    }

    /// Releases what a failed call has bound, the last device first.
    fn unbind(&self, bound: &[GroupAnswer]) {
        let changed = bound
            .iter()
            .filter(|one| one.device.outcome == BindOutcome::Bound);
        for answer in changed.rev() {
            let device = answer.device.device;
            if let Err(error) = self.release_group_manually(device) {
                warn!("cannot release '{device}': {error}");
            }
        }
    }
}

#[cfg(test)]
mod tests;
