//! The drivers that a caller may name for a device: the permission to bind does not include loading any module.
//!
//! An override makes every driver probe every device, and loading a module runs its code. So a driver that a caller or
//! a reservation names must be vfio-pci, be named by a recipe or the configuration, be listed for the device by the
//! kernel's modules, or be its current or previous driver. Checked before a module is loaded.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::RebindError;

use super::{AssignError, Assigner, error};
use crate::context::Rules;
use settings::config::Release;

/// The driver that accepts every device and does nothing to it.
const PLAIN: &str = "vfio_pci";

impl Assigner {
    /// Checks that the device may be bound to a driver.
    ///
    /// # Errors
    /// A refusal for any other driver; a failure if that is unknown.
    pub(super) fn permit(
        &self,
        rules: &Rules,
        device: PciAddress,
        driver: &DriverName,
    ) -> Result<(), AssignError> {
        if is_named(rules, driver) || self.has_had(device, driver)? {
            return Ok(());
        }
        // modules.alias is data of the installed kernel, so a caller cannot add a driver to it.
        match self.kernel.lists(device, driver) {
            Ok(true) => Ok(()),
            Ok(false) => Err(error::driver_refused(device, driver)),
            Err(errno) => Err(RebindError::Unreadable { device, errno }.into()),
        }
    }

    /// Whether the device is bound to the driver, or was before variantd bound it.
    fn has_had(&self, device: PciAddress, driver: &DriverName) -> Result<bool, AssignError> {
        let unreadable = |errno| RebindError::Unreadable { device, errno };
        let now = self.kernel.driver(device).map_err(unreadable)?;
        let record = self.records.manual(device)?;
        let before = record.and_then(|manual| manual.record.before?.driver);
        let mut had = [now, before].into_iter().flatten();
        Ok(had.any(|had| had == *driver))
    }
}

fn is_named(rules: &Rules, driver: &DriverName) -> bool {
    let of_recipe = || rules.recipes.iter().map(|recipe| &recipe.driver);
    let is_it = |named: &DriverName| module(named) == module(driver);
    let of_release = matches!(&rules.config.release, Release::Driver(named) if is_it(named));
    module(driver) == PLAIN || of_release || of_recipe().any(is_it)
}

/// The name of the driver's module.
fn module(driver: &DriverName) -> String {
    // kbuild makes module names with underscores (scripts/Makefile.lib); driver names such as vfio-pci keep their hyphen.
    driver.as_str().replace('-', "_")
}
