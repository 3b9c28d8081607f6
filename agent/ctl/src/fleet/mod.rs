//! Plans for many hosts: the hosts on which a guest fits, and the differences between them. Pure except for `ask`.
//!
//! Each plan starts from the definition without added elements, so that plans can be compared.

mod ask;
mod shape;

use kernel_glue::address::PciAddress;
use kernel_glue::capacity::Capacity;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;

use agent::snapshot::Runs;
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Definition, NumaMode};
use planner::layout::may_need_facts;
use planner::plan::{NumaFacts, NumaInput, Plan, PlanInput};
use planner::recipe::Recipes;
use planner::revert::revert;
use planner::rewrite;
use planner::target::{Arch, Target, Versions};

pub(crate) use ask::{Asked, ask};
pub(crate) use shape::Shape;

/// A guest, and the options of its plans.
#[derive(Clone, Debug)]
pub(crate) struct Question<'a> {
    /// The given definition, when it was completed for some host.
    completed: Option<Definition>,
    /// The definition from before it was completed.
    base: Definition,
    /// Its architecture, where it names one that recipes know.
    arch: Option<Arch>,
    recipes: &'a Recipes,
    target: Option<Target>,
    replace: bool,
    /// Sets the domain's option for EGM.
    egm: Option<bool>,
    /// Sets the domain's option for the NUMA layout.
    numa: Option<NumaMode>,
}

/// Host devices that the guest gets past libvirt, or perhaps from a network that no snapshot shows.
fn unchecked(plan: &Plan) -> impl Iterator<Item = Finding> {
    let notes = plan.notes.iter();
    let notes = notes.filter(|note| note.code == Code::DeviceUnjudged);
    notes.map(|note| Finding {
        code: note.code,
        device: note.device,
        text: note.text.clone(),
    })
}

/// A finding on one host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// The stable code.
    pub code: Code,
    /// The device it is about, if one.
    pub device: Option<PciAddress>,
    /// What: lower case, no full stop.
    pub text: String,
}

/// The answer for one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// The added elements; `None` when the guest does not fit, which the findings explain.
    pub shape: Option<Shape>,
    /// The findings.
    pub findings: Vec<Finding>,
}

impl<'a> Question<'a> {
    /// A question about a definition.
    ///
    /// # Errors
    /// When what was added before cannot be removed.
    pub(crate) fn new(
        definition: Definition,
        recipes: &'a Recipes,
        target: Option<Target>,
        replace: bool,
    ) -> Result<Self, Refusal> {
        let (completed, base) = match definition.domain().mark {
            Some(_) => {
                let base = revert(&definition)?.parse()?;
                (Some(definition), base)
            }
            None => (None, definition),
        };
        let arch = base.domain().arch.as_deref();
        Ok(Self {
            arch: arch.and_then(|name| name.parse().ok()),
            completed,
            base,
            recipes,
            target,
            replace,
            egm: None,
            numa: None,
        })
    }

    /// The same with these options of the domain.
    pub(crate) fn with_options(self, egm: Option<bool>, numa: Option<NumaMode>) -> Self {
        Self { egm, numa, ..self }
    }

    /// True if plans read CPUs and huge pages of some hosts.
    pub(crate) fn needs_capacity(&self) -> bool {
        may_need_facts(self.recipes, self.numa, self.base.domain())
    }

    /// Plans for one host.
    #[must_use]
    pub(crate) fn of(&self, host: &Host, capacity: Option<&Capacity>, runs: Runs) -> Answer {
        let input = PlanInput {
            replace: self.replace,
            egm: self.egm,
            numa: NumaInput {
                wanted: self.numa,
                facts: capacity.map(|capacity| NumaFacts {
                    capacity,
                    others: &[],
                }),
            },
            target: self.target.unwrap_or(runs.target()),
            ..PlanInput::newest(host, self.recipes)
        };
        match self.planned(&input, runs) {
            Ok((shape, findings)) => Answer {
                shape: Some(shape),
                findings,
            },
            Err(refusal) => Answer {
                shape: None,
                findings: vec![refusal.into()],
            },
        }
    }

    fn planned(&self, input: &PlanInput<'_>, runs: Runs) -> Result<(Shape, Vec<Finding>), Refusal> {
        self.runs_natively(runs)?;
        let plan = rewrite::planned(&self.base, input)?;
        if let Some(unmet) = &plan.unmet {
            return Err(unmet.clone());
        }
        let mut findings = drivers(input.host, &plan)?;
        findings.extend(unchecked(&plan));
        if runs.versions.is_none() && self.target.is_none() && !plan.devices.is_empty() {
            findings.push(Finding::new(
                Code::FleetVersions,
                format!(
                    "its versions are unknown; planned for {}",
                    Versions::NEWEST_TESTED
                ),
            ));
        }
        if let Some(completed) = &self.completed {
            findings.extend(rewrite::verify(completed, input).err().map(as_it_is));
        }
        Ok((Shape::of(&plan, input.target.versions()), findings))
    }

    fn runs_natively(&self, runs: Runs) -> Result<(), Refusal> {
        match (self.arch, runs.arch) {
            (Some(guest), Some(host)) if guest != host => Err(Refusal::new(
                Code::FleetArch,
                format!(
                    "the guest is {}, and the host {}: it would be emulated",
                    guest.as_str(),
                    host.as_str()
                ),
                "look for a host of its architecture",
            )),
            _ => Ok(()),
        }
    }
}

impl Finding {
    fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            device: None,
            text: text.into(),
        }
    }
}

impl From<Refusal> for Finding {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            device: refusal.device,
            text: format!("{}; {}", refusal.reason, refusal.hint),
        }
    }
}

/// A finding when the elements for another host must be replaced.
fn as_it_is(refusal: Refusal) -> Finding {
    let mut finding = Finding::from(refusal);
    finding.text = format!(
        "completed for another host, it would not start: {}",
        finding.text
    );
    finding
}

/// Checks that the host has the driver of each planned device.
fn drivers(host: &Host, plan: &Plan) -> Result<Vec<Finding>, Refusal> {
    let alike = |name: &DriverName| name.as_str().replace('-', "_");
    let mut unknown = Vec::new();
    for planned in &plan.devices {
        let wanted = alike(&planned.driver);
        // A driver that some device uses exists, also one that is built in or that modules.alias does not list.
        let mut drivers = host.devices.values().filter_map(|one| one.driver.as_ref());
        if drivers.any(|driver| alike(driver) == wanted)
            || host.variants.iter().any(|one| one.module == wanted)
        {
            continue;
        }
        // Without modules.alias it is not known which other drivers the kernel has.
        if !host.variants.is_empty() {
            let reason = format!("its kernel has no driver '{}'", planned.driver);
            let hint = "install a kernel that has it";
            return Err(Refusal::new(Code::FleetDriver, reason, hint).of(planned.address));
        }
        unknown.push(Finding {
            device: Some(planned.address),
            ..Finding::new(
                Code::FleetDriverUnknown,
                format!("it is unknown whether its kernel has '{}'", planned.driver),
            )
        });
    }
    Ok(unknown)
}

#[cfg(test)]
mod tests;
