//! A view of the context: what one operation reads of host, recipes and versions.
//!
//! Reads the host at most once, and not at all for a domain without host devices.

use std::cell::OnceCell;
use std::sync::Arc;

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::{Gap, Host};

use crate::context::{Context, Rules};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Attachment, Definition, Domain, NumaMode};
use planner::attach::{self, Affects, Attached};
use planner::from_libvirt::FromLibvirt;
use planner::layout::{Other, may_need_facts, needs_facts};
use planner::plan::{NumaFacts, NumaInput, Plan, PlanInput};
use planner::recipe::Prepare;
use planner::rewrite::{self, Rewrite};
use planner::saved_plan::SavedPlan;
use planner::target::Target;

/// The inputs of one operation.
pub struct HostView<'a> {
    context: &'a Context,
    /// The rules at its start.
    pub rules: Arc<Rules>,
    host: OnceCell<Host>,
    /// libvirt's answer about iommufd for this domain.
    pub(crate) iommufd: Option<bool>,
    /// The caller sets the domain's option for EGM.
    pub(crate) egm: Option<bool>,
    /// The caller sets the domain's option for the NUMA layout.
    pub(crate) numa: Option<NumaMode>,
    /// CPUs and huge pages, and the other guests; for a domain whose plan reads them.
    facts: Option<(Capacity, Vec<Other>)>,
    /// The definitions are formatted by libvirt.
    pub(crate) formatted: bool,
    /// libvirt's other answers: its networks as of the last query.
    pub(crate) libvirt: FromLibvirt,
}

/// How far a domain concerns the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// An unrelated guest.
    None,
    /// It is completed only on request.
    OnRequest,
    /// It is completed as soon as it is defined.
    OnDefine,
}

impl Context {
    /// A view of the context for one operation.
    #[must_use]
    pub fn look(&self) -> HostView<'_> {
        HostView::new(self, self.rules())
    }
}

impl<'a> HostView<'a> {
    pub(crate) fn new(context: &'a Context, rules: Arc<Rules>) -> Self {
        Self {
            context,
            rules,
            host: OnceCell::new(),
            iommufd: None,
            egm: None,
            numa: None,
            facts: None,
            formatted: false,
            libvirt: FromLibvirt {
                networks: context.networks.now(),
                ..FromLibvirt::default()
            },
        }
    }

    /// The host, as read at the first call.
    ///
    /// # Errors
    /// A refusal if it cannot be read.
    pub fn host(&self) -> Result<&Host, Refusal> {
        if let Some(host) = self.host.get() {
            return Ok(host);
        }
        let host = self.context.host()?;
        Ok(self.host.get_or_init(|| host))
    }

    /// A device of the host; `None` if it certainly does not exist.
    ///
    /// # Errors
    /// A refusal if the host, or a decisive file of the device, cannot be read.
    pub fn device(&self, address: PciAddress) -> Result<Option<&Device>, Refusal> {
        let host = self.host()?;
        match host.doubt(address) {
            Some(gap) => Err(unknown(address, gap)),
            None => Ok(host.devices.get(&address)),
        }
    }

    /// Completes a definition for this host.
    ///
    /// # Errors
    /// The planner's refusal.
    pub fn rewrite(&self, definition: &Definition, replace: bool) -> Result<Rewrite, Refusal> {
        rewrite::rewrite(definition, &self.input(replace)?)
    }

    /// Completes an incoming or restored guest; empty if nothing is missing. A guest with a mark was completed on its
    /// source host, and must look the same here.
    ///
    /// # Errors
    /// The planner's refusal.
    pub fn filter(&self, definition: &Definition) -> Result<String, Refusal> {
        if definition.domain().mark.is_some() {
            return Ok(String::new());
        }
        let text = self.rewrite(definition, false)?.text;
        Ok(match text == definition.text() {
            true => String::new(),
            false => text,
        })
    }

    /// Plans a definition for this host, in the form that people read and save.
    ///
    /// # Errors
    /// The planner's refusal.
    pub fn propose(&self, definition: &Definition, replace: bool) -> Result<SavedPlan, Refusal> {
        SavedPlan::make(definition, &self.input(replace)?)
    }

    /// Judges a device that is to be attached to a definition, and completes it.
    ///
    /// # Errors
    /// As [`attach::attach`].
    pub fn attach(
        &self,
        definition: &Definition,
        device: Attachment,
        affects: Affects,
    ) -> Result<Attached, Refusal> {
        attach::attach(definition, device, affects, &self.input(false)?)
    }

    /// Checks that a saved plan equals the present plan of a definition.
    ///
    /// # Errors
    /// As [`SavedPlan::check`].
    pub fn check(&self, definition: &Definition, saved: &SavedPlan) -> Result<(), Refusal> {
        let input = PlanInput {
            egm: saved.basis.egm,
            numa: self.numa_input(saved.basis.numa),
            ..self.input(saved.basis.replace)?
        };
        saved.check(definition, &input)
    }

    /// Checks that a definition is complete for this host.
    ///
    /// # Errors
    /// The planner's refusal.
    pub fn verify(&self, definition: &Definition) -> Result<Plan, Refusal> {
        rewrite::verify(definition, &self.input(false)?)
    }

    /// Checks what the kernel shows only while the definition's devices are bound.
    ///
    /// # Errors
    /// As [`rewrite::verify_bound`].
    pub fn verify_bound(&self, definition: &Definition) -> Result<(), Refusal> {
        rewrite::verify_bound(definition, &self.input(false)?)
    }

    /// Whether a domain has the agent's mark or a device with a recipe, and when definitions with such devices are
    /// completed.
    ///
    /// # Errors
    /// The host cannot be read.
    pub fn interest(&self, domain: &Domain) -> Result<Interest, Refusal> {
        if domain.hostdevs.is_empty() && domain.mark.is_none() {
            return Ok(Interest::None);
        }
        let devices = self.devices(domain)?;
        let now = devices.iter().any(|d| d.when == Prepare::OnDefine);
        Ok(match devices.is_empty() && domain.mark.is_none() {
            true => Interest::None,
            false if now => Interest::OnDefine,
            false => Interest::OnRequest,
        })
    }

    /// The domain's devices that variantd assigns, with the driver that their recipe names: those that are prepared on
    /// define, and those that were prepared on request.
    ///
    /// # Errors
    /// The host cannot be read.
    pub fn covered(&self, domain: &Domain) -> Result<Vec<(PciAddress, DriverName)>, Refusal> {
        if domain.hostdevs.is_empty() {
            return Ok(Vec::new());
        }
        let ours =
            |device: &Covered| device.when == Prepare::OnDefine || domain.is_marked(device.address);
        let devices = self.devices(domain)?.into_iter();
        Ok(devices
            .filter(ours)
            .map(|device| (device.address, device.driver))
            .collect())
    }

    fn devices(&self, domain: &Domain) -> Result<Vec<Covered>, Refusal> {
        let mut covered = Vec::new();
        for hostdev in &domain.hostdevs {
            covered.extend(self.covered_device(hostdev.source)?);
        }
        Ok(covered)
    }

    fn covered_device(&self, address: PciAddress) -> Result<Option<Covered>, Refusal> {
        let known = self.host()?.devices.get(&address);
        // A device that is known and without a recipe is unrelated, even if one of its other files is unreadable.
        if known.is_some_and(|device| self.rules.recipes.for_device(device).is_none()) {
            return Ok(None);
        }
        let device = self.device(address)?;
        let recipe = device.and_then(|device| self.rules.recipes.for_device(device));
        Ok(recipe.map(|recipe| Covered {
            address,
            driver: recipe.driver.clone(),
            when: recipe.prepare,
        }))
    }

    /// Reads the facts for a NUMA layout, if the plan for a domain reads them. `domains` has all domains, called only then.
    ///
    /// # Errors
    /// A refusal if the host cannot be read.
    pub(crate) fn read_facts(
        &mut self,
        domain: &Domain,
        domains: impl FnOnce() -> Vec<Domain>,
    ) -> Result<(), Refusal> {
        let recipes = &self.rules.recipes;
        // The host is not read for a domain that needs no layout on any host.
        let is_possible = may_need_facts(recipes, self.numa, domain);
        if !is_possible || !needs_facts(self.host()?, recipes, self.numa, domain) {
            return Ok(());
        }
        let numa = &self.host()?.numa;
        let capacity = self.context.capacity(numa)?;
        let others = Other::beside(numa, domain, &domains());
        self.facts = Some((capacity, others));
        Ok(())
    }

    fn numa_input(&self, wanted: Option<NumaMode>) -> NumaInput<'_> {
        let facts = self.facts.as_ref();
        NumaInput {
            wanted,
            facts: facts.map(|(capacity, others)| NumaFacts { capacity, others }),
        }
    }

    fn input(&self, replace: bool) -> Result<PlanInput<'_>, Refusal> {
        Ok(PlanInput {
            host: self.host()?,
            recipes: &self.rules.recipes,
            target: Target {
                iommufd: self.iommufd,
                ..self.context.stack()?.into()
            },
            replace,
            egm: self.egm,
            numa: self.numa_input(self.numa),
            asked: true,
            formatted: self.formatted,
            libvirt: &self.libvirt,
        })
    }
}

/// An unreadable device does not count as a missing one.
fn unknown(device: PciAddress, gap: &Gap) -> Refusal {
    let reason = format!("cannot read '{}': {}", gap.path, gap.reason);
    let hint = "see 'journalctl -k' for the device, then retry";
    Refusal::new(Code::HostUnreadable, reason, hint).of(device)
}

/// A device of a domain that has a recipe.
struct Covered {
    address: PciAddress,
    driver: DriverName,
    when: Prepare,
}
