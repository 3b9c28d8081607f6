//! The time limit of a bind, by driver.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel_glue::driver::DriverName;

use planner::recipe::{Recipe, Recipes, UNSAID};

/// The time limits of binds to the recipes' drivers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindLimits(BTreeMap<DriverName, Duration>);

impl BindLimits {
    /// The limits of the recipes in force; if several recipes name one driver, the longest counts.
    #[must_use]
    pub fn of_recipes(recipes: &Recipes) -> Self {
        let mut limits = BTreeMap::new();
        for Recipe {
            driver,
            bind_seconds,
            ..
        } in recipes.iter()
        {
            let limit: &mut Duration = limits.entry(driver.clone()).or_default();
            *limit = Duration::from_secs(*bind_seconds).max(*limit);
        }
        Self(limits)
    }

    /// The limit for the driver that `is_it` recognises by its name in recipes.
    pub fn of(&self, is_it: impl Fn(&DriverName) -> bool) -> Duration {
        let named = self.0.iter().filter(|(name, _)| is_it(name));
        named.map(|(_, limit)| *limit).max().unwrap_or(UNSAID)
    }

    /// The limit for any driver, including one that no recipe names.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.values().copied().fold(UNSAID, Duration::max)
    }
}
