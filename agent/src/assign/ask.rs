//! Queries VFIO for the regions of a domain's devices while no start needs them.

use std::sync::PoisonError;

use kernel_glue::address::PciAddress;
use kernel_glue::region::{RegionError, Regions};
use tracing::{debug, warn};

use super::Assigner;
use crate::region::{on_its_driver, refusal};
use domain::Domain;
use domain::refusal::Refusal;

impl Assigner {
    /// Queries the devices of a definition that are bound to their recipe's driver and not assigned to a domain, and
    /// keeps the results for every later plan. Resets those devices. Devices that cannot be queried are planned by the
    /// recipe's table.
    ///
    /// # Errors
    /// The host cannot be read.
    pub fn ask_regions(&self, domain: &Domain) -> Result<(), Refusal> {
        let host_view = self.context.look();
        for hostdev in &domain.hostdevs {
            let device = host_view.host()?.devices.get(&hostdev.source);
            let known = device.and_then(|device| {
                let recipe = host_view.rules.recipes.for_device(device)?;
                Some((device, on_its_driver(device, recipe)))
            });
            let Some((device, Ok(()))) = known else {
                continue;
            };
            match self.ask(device.address) {
                None => {}
                Some(Ok(regions)) => {
                    self.context.shown.learn(device, regions);
                    self.notifier().notify();
                }
                // Expected while another program has the device; the plan then uses the recipe's table.
                Some(Err(error @ RegionError::InUse(_))) => debug!("'{}': {error}", device.address),
                Some(Err(error)) => warn!("{}", refusal(device.address, &error)),
            }
        }
        Ok(())
    }

    /// `None` if a domain holds the device, or a query of it is running.
    fn ask(&self, device: PciAddress) -> Option<Result<Regions, RegionError>> {
        let _asking = Asking::begin(self, device)?;
        // Also not while an administrator binds the device.
        let _lock = self.lock(device).ok()?;
        Some(self.kernel.regions(device))
    }
}

/// A device that is being queried; a claim of it waits until this is dropped.
struct Asking<'a>(&'a Assigner, PciAddress);

impl<'a> Asking<'a> {
    fn begin(assigner: &'a Assigner, device: PciAddress) -> Option<Self> {
        let claims = assigner.claims.lock();
        let mut asked = claims.unwrap_or_else(PoisonError::into_inner);
        // Read under the lock of claims, as a claim does: either the claim sees this query, or this query sees the claim's record.
        let is_free = matches!(assigner.records.holder(device, None), Ok(None));
        (is_free && asked.insert(device)).then(|| Self(assigner, device))
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        let claims = self.0.claims.lock();
        let mut asked = claims.unwrap_or_else(PoisonError::into_inner);
        asked.remove(&self.1);
        self.0.asked.notify_all();
    }
}
