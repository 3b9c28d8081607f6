//! Claims a reserved device when it appears, before any module for it is loaded.
//!
//! ```text
//! udev: device appears -> claim: record (not done) -> the rule writes the override -> modules load, none binds it
//! variantd-reserve.service -> restore what is not done -> bind
//! ```

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;

use super::{AssignError, Assigner};
use crate::assignment::{Claim, Event, Owner, next};
use crate::record::Purpose;

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
        let _lock = self.lock_for_admin(device)?;
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
}
