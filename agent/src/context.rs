//! What both halves of the agent see: the host, the recipes, the versions and the configuration.
//!
//! Holds no libvirt handle, since the hook's half has it too.

use std::sync::{Arc, PoisonError, RwLock};

use kernel_glue::failure::Failure;
use kernel_glue::host::Host;

use crate::attempt::Attempts;
use crate::known_versions::KnownVersions;
use crate::opted_out::OptedOut;
use crate::region::Shown;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::from_libvirt::KnownNetworks;
use planner::recipe::Recipes;
use settings::config::Config;

/// Reads the host anew; called for each operation, since drivers change under us.
pub type ReadHost = Box<dyn Fn() -> Result<Host, Failure> + Send + Sync>;

/// The surroundings of every operation.
pub struct Context {
    read_host: ReadHost,
    /// What libvirt said of itself.
    pub known_versions: KnownVersions,
    /// The networks that it named.
    pub networks: KnownNetworks,
    /// Domains whose preparation was taken back.
    pub opted_out: OptedOut,
    /// What was tried for definitions and did not last.
    pub attempts: Attempts,
    /// What VFIO showed of devices when somebody asked.
    pub shown: Shown,
    /// What can be replaced while the agent runs.
    rules: RwLock<Arc<Rules>>,
}

/// Recipes and configuration, replaced together on reload.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The recipes in force.
    pub recipes: Recipes,
    /// The configuration.
    pub config: Config,
}

impl Context {
    /// Surroundings on the host that `read_host` reads.
    #[must_use]
    pub fn new(
        read_host: ReadHost,
        known_versions: KnownVersions,
        opted_out: OptedOut,
        rules: Rules,
    ) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        Self {
            read_host,
            known_versions,
            networks: KnownNetworks::default(),
            opted_out,
            attempts: Attempts::default(),
            shown: Shown::default(),
            rules,
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    /// Puts other rules into force; operations that have begun end by the old ones.
    pub fn reload(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// The host as it is now, with what VFIO showed of its devices before.
    ///
    /// # Errors
    /// A refusal when it cannot be read.
    pub fn host(&self) -> Result<Host, Refusal> {
        let host = (self.read_host)();
        let mut host = host.map_err(|failure| {
            let reason = format!("{failure}: {}", failure.reason());
            Refusal::new(
                Code::HostUnreadable,
                reason,
                "see that /sys is mounted and 'variantctl list --all' works as root",
            )
        })?;
        self.shown.add_to(&mut host);
        Ok(host)
    }
}
