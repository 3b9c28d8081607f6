//! Text in, text out: completes a definition, or checks that it is complete.

use crate::code::Code;
use crate::domain::Domain;
use crate::edit;
use crate::plan::{Plan, Setting, plan};
use crate::refusal::Refusal;

/// A completed definition and what was planned for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rewrite {
    /// The text; equal to the input, byte for byte, when nothing is missing.
    pub text: String,
    /// The plan.
    pub plan: Plan,
}

/// Completes a definition.
///
/// # Errors
/// The refusals of [`Domain::parse`] and [`plan`].
pub fn rewrite(text: &str, setting: &Setting<'_>) -> Result<Rewrite, Refusal> {
    let plan = plan(setting, &Domain::parse(text)?)?;
    let text = edit::apply(text, &plan.edits()).map_err(|error| {
        let mend = "please report this with the definition";
        Refusal::new(
            Code::XmlValue,
            format!("the plan contradicts itself: {error}"),
            mend,
        )
    })?;
    Ok(Rewrite { text, plan })
}

/// Checks that a definition is what its plan wants, as far as a start may be refused for it: a missing
/// mark is no fault, and devices that wait for a request count only once they are marked.
///
/// # Errors
/// The refusals of [`Domain::parse`] and [`plan`], and one that names the first missing piece.
pub fn verify(text: &str, setting: &Setting<'_>) -> Result<Plan, Refusal> {
    let setting = Setting {
        asked: false,
        ..*setting
    };
    let plan = plan(&setting, &Domain::parse(text)?)?;
    let Some(missing) = plan
        .changes
        .iter()
        .find(|change| change.code != Code::MarkMissing)
    else {
        return Ok(plan);
    };
    let first = plan.devices.first().map(|device| device.address);
    let reason = format!("the definition lacks {}: {}", missing.path, missing.reason);
    let mend = format!("run 'variantctl prepare {}'", plan.domain);
    let refusal = Refusal::new(missing.code, reason, mend).at(missing.path.clone());
    Err(match missing.device.or(first) {
        Some(device) => refusal.of(device),
        None => refusal,
    })
}
