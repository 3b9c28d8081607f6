//! The time limit of a bind, by driver and device.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;

use planner::recipe::{Recipe, Recipes, UNSAID};

/// The time limits of binds to the recipes' drivers, and of devices that need longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindLimits {
    drivers: BTreeMap<DriverName, Duration>,
    devices: BTreeMap<PciId, Duration>,
}

impl BindLimits {
    /// The limits of the recipes in force; if several recipes name one driver, the longest counts.
    #[must_use]
    pub fn of_recipes(recipes: &Recipes) -> Self {
        let mut limits = Self::default();
        for Recipe {
            driver,
            bind_seconds,
            devices,
            ..
        } in recipes.iter()
        {
            let limit = limits.drivers.entry(driver.clone()).or_default();
            *limit = Duration::from_secs(*bind_seconds).max(*limit);
            for member in devices {
                let limit = limits.devices.entry(member.id).or_default();
                *limit = Duration::from_secs(member.bind_seconds.unwrap_or(0)).max(*limit);
            }
        }
        limits
    }

    /// The limit for a device, and for the driver that `is_it` recognises by its name in recipes.
    pub fn of(&self, device: Option<PciId>, is_it: impl Fn(&DriverName) -> bool) -> Duration {
        let named = self.drivers.iter().filter(|(name, _)| is_it(name));
        let named = named.map(|(_, limit)| *limit).max().unwrap_or(UNSAID);
        named.max(self.of_device(device))
    }

    /// The limit for a device and any driver, including one that no recipe names.
    #[must_use]
    pub fn with_any_driver(&self, device: Option<PciId>) -> Duration {
        let drivers = self.drivers.values().copied().fold(UNSAID, Duration::max);
        drivers.max(self.of_device(device))
    }

    /// The limit for any device and driver.
    #[must_use]
    pub fn longest(&self) -> Duration {
        let any = self.with_any_driver(None);
        self.devices.values().copied().fold(any, Duration::max)
    }

    fn of_device(&self, device: Option<PciId>) -> Duration {
        let limit = device.and_then(|id| self.devices.get(&id));
        limit.copied().unwrap_or_default()
    }
}
