//! What both halves of the agent see: the host, the recipes, the versions and the configuration.
//!
//! Holds no libvirt handle, since the hook's half has it too.

use std::sync::{Arc, PoisonError, RwLock};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::failure::Failure;
use kernel_glue::host::Host;

use crate::code::Code;
use crate::config::Config;
use crate::domain::Domain;
use crate::learned::Learned;
use crate::plan::{Plan, Setting};
use crate::recipe::{Prepare, Recipe, Recipes};
use crate::refusal::Refusal;
use crate::rewrite::{self, Rewrite};

/// Reads the host anew; called for each operation, since drivers change under us.
pub type ReadHost = Box<dyn Fn() -> Result<Host, Failure> + Send + Sync>;

/// The surroundings of every operation.
pub struct Site {
    read_host: ReadHost,
    /// What libvirt said of itself.
    pub learned: Learned,
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

impl Site {
    /// Surroundings on the host that `read_host` reads.
    #[must_use]
    pub fn new(read_host: ReadHost, learned: Learned, rules: Rules) -> Self {
        let rules = RwLock::new(Arc::new(rules));
        Self {
            read_host,
            learned,
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

    /// The host as it is now.
    ///
    /// # Errors
    /// A refusal when it cannot be read.
    pub fn host(&self) -> Result<Host, Refusal> {
        (self.read_host)().map_err(|failure| {
            let reason = format!("{failure}: {}", failure.reason());
            Refusal::new(Code::HostUnreadable, reason, "run 'variantctl doctor'")
        })
    }

    /// Completes a definition for this host.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn rewrite(&self, xml: &str, replace: bool) -> Result<Rewrite, Refusal> {
        self.with_setting(replace, |setting| rewrite::rewrite(xml, setting))
    }

    /// Checks that a definition is complete for this host.
    ///
    /// # Errors
    /// The engine's refusal.
    pub fn verify(&self, xml: &str) -> Result<Plan, Refusal> {
        self.with_setting(false, |setting| rewrite::verify(xml, setting))
    }

    /// Whether a domain has the agent's mark or a device with a recipe, and when such devices'
    /// definitions are completed.
    ///
    /// # Errors
    /// When the text is no domain or the host cannot be read.
    pub fn interest(&self, xml: &str) -> Result<Interest, Refusal> {
        let domain = Domain::parse(xml)?;
        if domain.hostdevs.is_empty() && domain.mark.is_none() {
            return Ok(Interest::None);
        }
        let (host, rules) = (self.host()?, self.rules());
        let recipes = recipes_of(&domain, &host, &rules.recipes);
        Ok(if recipes.iter().any(|r| r.prepare == Prepare::OnDefine) {
            Interest::OnDefine
        } else if !recipes.is_empty() || domain.mark.is_some() {
            Interest::OnRequest
        } else {
            Interest::None
        })
    }

    /// The domain's devices that have a recipe, with the driver the recipe names.
    ///
    /// # Errors
    /// When the text is no domain or the host cannot be read.
    pub fn covered(&self, xml: &str) -> Result<Vec<(PciAddress, DriverName)>, Refusal> {
        let domain = Domain::parse(xml)?;
        let (host, rules) = (self.host()?, self.rules());
        let driver = |source| {
            let recipe = rules.recipes.for_device(host.devices.get(&source)?)?;
            Some((source, recipe.driver.clone()))
        };
        let sources = domain.hostdevs.iter().map(|hostdev| hostdev.source);
        Ok(sources.filter_map(driver).collect())
    }

    fn with_setting<T>(
        &self,
        replace: bool,
        work: impl FnOnce(&Setting<'_>) -> Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        let (host, rules) = (self.host()?, self.rules());
        work(&Setting {
            host: &host,
            recipes: &rules.recipes,
            versions: self.learned.versions()?,
            replace,
            asked: true,
        })
    }
}

/// How far a domain is the agent's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// Not at all.
    None,
    /// It is completed only when somebody asks.
    OnRequest,
    /// It is completed as soon as it is defined.
    OnDefine,
}

fn recipes_of<'a>(domain: &Domain, host: &Host, recipes: &'a Recipes) -> Vec<&'a Recipe> {
    let sources = domain.hostdevs.iter().map(|hostdev| hostdev.source);
    sources
        .filter_map(|source| recipes.for_device(host.devices.get(&source)?))
        .collect()
}
