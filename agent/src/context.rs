//! The context of both halves of the agent: the host, the recipes, the versions and the configuration.
//!
//! Has no libvirt handle, because the hook's half uses it, too.

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use kernel_glue::capacity::Capacity;
use kernel_glue::failure::Failure;
use kernel_glue::host::Host;
use kernel_glue::numa::Numa;

use crate::attempt::Attempts;
use crate::known_versions::KnownVersions;
use crate::metrics::Metrics;
use crate::opted_out::OptedOut;
use crate::region::Shown;
use crate::sharing::AssignedDevices;
use crate::stack::known::KnownStack;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::from_libvirt::KnownNetworks;
use planner::recipe::Recipes;
use planner::stack::Stack;
use settings::config::Config;

/// Reads the host; called for each operation, because other programs change drivers.
pub type ReadHost = Box<dyn Fn() -> Result<Host, Failure> + Send + Sync>;
/// Reads what guests can have of the host with these nodes.
pub type ReadCapacity = Box<dyn Fn(&Numa) -> Result<Capacity, Failure> + Send + Sync>;

/// The context of every operation.
pub struct Context {
    read_host: ReadHost,
    /// Reads CPUs and huge pages of the host.
    pub read_capacity: ReadCapacity,
    /// The versions that libvirt reported.
    pub known_versions: KnownVersions,
    /// What the installed libvirt and QEMU can express.
    pub known_stack: KnownStack,
    /// The networks that libvirt reported.
    pub networks: KnownNetworks,
    /// Domains whose preparation was reverted.
    pub opted_out: OptedOut,
    /// Attempts that did not last.
    pub attempts: Attempts,
    /// The devices of all definitions.
    pub assigned: AssignedDevices,
    /// Regions that VFIO reported on request.
    pub shown: Shown,
    /// What the agent counts.
    pub metrics: Metrics,
    /// Rules that can be replaced while the agent runs.
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
    /// The context of the host that `read_host` reads.
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
            read_capacity: Box::new(|numa| Capacity::read(Path::new("/"), numa)),
            known_versions,
            known_stack: KnownStack::default(),
            networks: KnownNetworks::default(),
            opted_out,
            attempts: Attempts::default(),
            assigned: AssignedDevices::default(),
            shown: Shown::default(),
            metrics: Metrics::default(),
            rules,
        }
    }

    /// The rules in force.
    #[must_use]
    pub fn rules(&self) -> Arc<Rules> {
        let rules = self.rules.read().unwrap_or_else(PoisonError::into_inner);
        rules.clone()
    }

    /// Replaces the rules; operations that have begun use the old ones until they end.
    pub fn reload(&self, rules: Rules) {
        *self.rules.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(rules);
    }

    /// What the installed libvirt and QEMU can express; by version until they were asked.
    ///
    /// # Errors
    /// libvirt was never reached on this host.
    pub fn stack(&self) -> Result<Stack, Refusal> {
        let versions = self.known_versions.versions()?;
        Ok(self.known_stack.stack(versions))
    }

    /// The present host, with the regions that VFIO reported before.
    ///
    /// # Errors
    /// A refusal if it cannot be read.
    pub fn host(&self) -> Result<Host, Refusal> {
        let mut host = (self.read_host)().map_err(unreadable)?;
        self.shown.add_to(&mut host);
        Ok(host)
    }

    /// The agent's metrics at this time, as text.
    #[must_use]
    pub fn metrics_text(&self) -> String {
        self.metrics.text(self.known_versions.versions().ok())
    }

    /// The present CPUs and huge pages of the host.
    ///
    /// # Errors
    /// A refusal if they cannot be read.
    pub fn capacity(&self, numa: &Numa) -> Result<Capacity, Refusal> {
        (self.read_capacity)(numa).map_err(unreadable)
    }
}

fn unreadable(failure: Failure) -> Refusal {
    let reason = format!("{failure}: {}", failure.reason());
    let hint = "check that /sys is mounted and that 'variantctl list --all' works as root";
    Refusal::new(Code::HostUnreadable, reason, hint)
}
