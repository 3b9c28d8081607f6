//! How long a bind may take, by driver.

use std::collections::BTreeMap;
use std::time::Duration;

use kernel_glue::driver::DriverName;

use planner::recipe::{Recipe, Recipes, UNSAID};

/// How long a bind to the drivers of the recipes may take.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BindLimits(BTreeMap<DriverName, Duration>);

impl BindLimits {
    /// By the recipes in force; of several that name one driver the longest counts.
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

    /// For the driver that `is_it` knows by the names that recipes give it.
    pub fn of(&self, is_it: impl Fn(&DriverName) -> bool) -> Duration {
        let named = self.0.iter().filter(|(name, _)| is_it(name));
        named.map(|(_, limit)| *limit).max().unwrap_or(UNSAID)
    }

    /// For any driver, also one that no recipe names.
    #[must_use]
    pub fn longest(&self) -> Duration {
        self.0.values().copied().fold(UNSAID, Duration::max)
    }
}
