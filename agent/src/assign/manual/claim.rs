//! Claims a reserved device when it appears, before any module for it is loaded.
//!
//! ```text
//! udev: device appears -> claim: record (not done) -> the rule writes the override -> modules load, none binds it
//! variantd-reserve.service -> wait for the override of a claim -> restore what is not done -> bind
//! ```
//!
//! At boot both may run at the same time, and no caller retries a reservation that failed. So each waits while the other has
//! the device's lock. The rule writes the override after the claim has ended its lock, so the bind also waits for that: the write
//! must not come between two of its own.

use std::time::Duration;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;

use super::{AssignError, Assigner};
use crate::assign::check::Budget;
use crate::assignment::{Claim, Event, Owner, Phase, next};
use crate::record::{DeviceLock, Purpose};
use domain::code::Code;

/// The time limit of each wait of a claim and a bind for each other; udev ends a rule's program after 180 s (`event_timeout`,
/// udev.conf(5)).
const WAIT: Duration = Duration::from_secs(10);

impl Assigner {
    /// Records that a device is about to get an override; returns the driver for it. `None` for a device that has a
    /// driver, an override or a record already, or that a guest has: it is bound when its reservation is applied.
    ///
    /// # Errors
    /// The device does not exist, no driver is known for it, or the record cannot be written.
    pub fn claim_reserved(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Option<DriverName>, AssignError> {
        let driver = self.wanted(device, driver)?;
        let _lock = self.lock_for_reservation(device)?;
        let now = self.now(device)?;
        let is_free = now.driver.is_none() && now.driver_override.is_none();
        if !is_free || self.records.manual(device)?.is_some() {
            return Ok(None);
        }
        let claim = Claim {
            owner: Owner::Reservation,
            target: driver.clone(),
            now,
            is_taken: self.records.holder(device, None)?.is_some(),
            lender: None,
        };
        let step = next(None, &Event::Appeared(claim));
        let Some(record) = step.record else {
            return Ok(None);
        };
        self.note_record(device, &Purpose::default(), Some(&record))?;
        Ok(Some(driver))
    }

    /// The device's lock, after another operation has ended.
    pub(super) fn lock_for_reservation(
        &self,
        device: PciAddress,
    ) -> Result<DeviceLock, AssignError> {
        let mut budget = Budget::new(WAIT);
        loop {
            match self.lock_for_admin(device) {
                Err(error) if error.refusal().code == Code::DeviceBusy && budget.pause() => {}
                done => return done,
            }
        }
    }

    /// Like [`settle_manual`](Self::settle_manual), after udev has written the override of a claim. A module that udev loads may
    /// bind the device while it is restored: then it is restored again.
    pub(super) fn settle_claim(&self, device: PciAddress) -> Result<(), AssignError> {
        let mut budget = Budget::new(WAIT);
        while self.awaits_override(device)? && budget.pause() {}
        loop {
            match self.settle_manual(device) {
                Err(AssignError::Failed(_)) if budget.pause() => {}
                done => return done,
            }
        }
    }

    /// Whether the device is claimed, and has no override yet.
    fn awaits_override(&self, device: PciAddress) -> Result<bool, AssignError> {
        let Some(manual) = self.records.manual(device)? else {
            return Ok(false);
        };
        let record = manual.record;
        let is_claim = record.owner == Owner::Reservation && record.phase == Phase::Binding;
        Ok(is_claim && record.before.as_ref() == Some(&self.now(device)?))
    }
}
