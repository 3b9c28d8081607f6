//! What the guest's driver needs, by its recipe, and whether it gets that.

use std::collections::BTreeSet;

use kernel_glue::atomics::{Width, Widths};
use kernel_glue::device::Device;

use super::answer::{Answer, Finding, PerWidth};
use crate::code::Code;
use crate::recipe::{self, Recipes};

/// A driver's need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// The recipe that says so; `None` where no recipe knows the device.
    pub recipe: Option<String>,
    /// How much.
    pub need: recipe::Need,
    /// The widths.
    pub widths: Widths,
    /// One of them is enough.
    pub any: bool,
    /// How the driver has atomic operations without them.
    pub otherwise: Option<String>,
}

impl Need {
    /// Of the driver for a device.
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
        // What one width is enough for may fail for another reason than the device's own.
        let in_guest = |width: &Width| {
            let finding = verdict.of(*width).finding();
            self.any && finding.is_some_and(|finding| finding.at.is_none())
        };
        let no = of(Some(false)).find(in_guest).or(of(Some(false)).next());
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

    /// What is wanted and why the first width that is short of it is.
    fn finding(&self, code: Code, verdict: &PerWidth, width: Width) -> Finding {
        let cause = verdict.of(width).finding();
        let (why, at) = cause.map_or((String::new(), None), |cause| {
            (format!(": {} ({})", cause.reason, cause.code), cause.at)
        });
        let wanted = match self.any {
            true => format!("any of {} bits", self.widths),
            false => format!("{} bits", self.widths),
        };
        let verb = match self.need {
            recipe::Need::Require => "needs",
            _ => "prefers",
        };
        let reason = format!("its driver {verb} AtomicOps of {wanted}, {width} bits fail{why}");
        let reason = match code {
            Code::AtomicsUndecided => reason.replace("bits fail", "bits are open"),
            _ => reason,
        };
        Finding { code, at, reason }
    }
}

fn widths(bits: &BTreeSet<u32>) -> Widths {
    let named = |width: &Width| bits.contains(&width.bits());
    Width::ALL.into_iter().filter(named).collect()
}
