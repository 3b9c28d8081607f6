//! What the guest's driver needs by its recipe, and whether it gets that.

use std::collections::BTreeSet;

use kernel_glue::atomics::{Width, Widths};
use kernel_glue::device::Device;

use super::answer::{Answer, Finding, PerWidth};
use crate::recipe::{self, Recipes};
use domain::code::Code;

/// A driver's need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The recipe; `None` if no recipe covers the device.
    pub recipe: Option<String>,
    /// How much.
    pub need: recipe::Need,
    /// The widths.
    pub widths: Widths,
    /// One of them is enough.
    pub any: bool,
    /// How the driver does atomic operations without them.
    pub otherwise: Option<String>,
}

impl Need {
    /// The need of the driver for a device.
    #[must_use]
    pub fn of(recipes: &Recipes, device: &Device) -> Self {
        let otherwise = recipes.otherwise(device.id);
        let recipe = recipes
            .for_device(device)
            .or(otherwise.map(|(recipe, _)| recipe));
        let atomics = recipe.map(|recipe| &recipe.atomics);
        let elsewhere = otherwise.map(|(_, means)| means.to_owned());
        Self {
            recipe: recipe.map(|recipe| recipe.name.clone()),
            need: match elsewhere {
                Some(_) => recipe::Need::Ignore,
                None => atomics.map_or(recipe::Need::Ignore, |atomics| atomics.need),
            },
            widths: atomics.map_or(Widths::default(), |atomics| widths(&atomics.widths)),
            any: atomics.is_some_and(|atomics| atomics.any),
            otherwise: elsewhere,
        }
    }

    /// Whether the driver gets it.
    pub(super) fn judge(&self, verdict: &PerWidth) -> Answer {
        if let Some(means) = &self.otherwise {
            let reason = format!("its driver has atomic operations {means}");
            return Answer::Open(Finding::new(Code::AtomicsOtherwise, reason));
        }
        let code = match self.need {
            recipe::Need::Ignore => return Answer::Yes,
            recipe::Need::Require => Code::AtomicsLacking,
            recipe::Need::Prefer => Code::AtomicsMissed,
        };
        let of = |ok: Option<bool>| {
            self.widths
                .iter()
                .filter(move |w| verdict.of(*w).ok() == ok)
        };
        let (yes, open) = (of(Some(true)).count(), of(None).next());
        let enough = match self.any {
            true => yes > 0,
            false => yes == self.widths.iter().count(),
        };
        // If one width is enough, the one with the fewest failing rules is reported. If all are needed, a width that fails in hardware
        // is reported before one that fails in the definition, which can be changed.
        let rules = |width: &Width| verdict.judgement(*width).failing.len();
        let in_hardware = |width: &Width| {
            let finding = verdict.of(*width).finding();
            finding.is_some_and(|finding| finding.at.is_some())
        };
        let no = match self.any {
            true => of(Some(false)).min_by_key(rules),
            false => of(Some(false)).find(in_hardware).or(of(Some(false)).next()),
        };
        match (enough, no, open) {
            (true, ..) => Answer::Yes,
            (false, None, Some(width)) => self.undecided(verdict, width),
            (false, Some(_), Some(width)) if self.any => self.undecided(verdict, width),
            (false, Some(width), _) => Answer::No(self.finding(code, verdict, width)),
            (false, None, None) => Answer::Yes,
        }
    }

    fn undecided(&self, verdict: &PerWidth, width: Width) -> Answer {
        Answer::Open(self.finding(Code::AtomicsUndecided, verdict, width))
    }

    /// The need, and every rule that fails for the reported width.
    fn finding(&self, code: Code, verdict: &PerWidth, width: Width) -> Finding {
        let causes: Vec<String> = verdict
            .judgement(width)
            .findings()
            .map(|cause| format!("{} ({})", cause.reason, cause.code))
            .collect();
        let verb = match self.need {
            recipe::Need::Require => "needs",
            _ => "prefers",
        };
        let alike = self.alike(verdict, width);
        let short = match code {
            Code::AtomicsUndecided => format!("{width} bits are open"),
            _ if self.any || (alike == self.widths && self.widths.iter().count() > 1) => {
                "it gets none of them".to_owned()
            }
            _ => format!("{alike} bits fail"),
        };
        let wanted = if self.any { "any of " } else { "" };
        let reason = format!(
            "its driver {verb} AtomicOps of {wanted}{} bits, {short}: {}",
            self.widths,
            causes.join("; ")
        );
        let at = verdict.of(width).finding().and_then(|cause| cause.at);
        Finding { code, at, reason }
    }

    /// The wanted widths that fail first by the same rule at the same element as this one.
    fn alike(&self, verdict: &PerWidth, width: Width) -> Widths {
        let rule = |width: Width| {
            let finding = verdict.of(width).finding();
            finding.map(|finding| (finding.code, finding.at))
        };
        let same = |other: &Width| rule(*other) == rule(width);
        self.widths.iter().filter(same).collect()
    }
}

fn widths(bits: &BTreeSet<u32>) -> Widths {
    let named = |width: &Width| bits.contains(&width.bits());
    Width::ALL.into_iter().filter(named).collect()
}
