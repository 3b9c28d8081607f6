//! A plan that users read and save: hunks with reasons, and the fingerprints of its inputs.
//!
//! `variantctl plan --json` prints it, and `prepare --plan` passes it to the agent. The agent does not apply it: it makes its own
//! plan from the same inputs, and the two must be equal.

mod basis;
mod diff;
mod facts;
mod form;
mod piece;
mod replaced;

use serde::{Deserialize, Serialize};

use crate::attach::Attached;
use crate::fingerprint::Fingerprint;
use crate::plan::{Change, PlanInput};
use crate::rewrite::{self, Rewrite};
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;
use domain::{Definition, DomainUuid};

pub use basis::Basis;
pub use diff::{Hunk, Reason};
pub(crate) use form::text;
pub use form::{Addition, Note, PlannedDevice};

/// The version of the form.
const VERSION: u32 = 1;
/// Bytes of a saved plan: a definition of 1 MiB as text, as edits and as hunks, and their JSON.
pub const MAX_BYTES: usize = 8 << 20;

/// A plan and what it was made from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SavedPlan {
    /// Version of this form.
    pub version: u32,
    /// The domain's name.
    pub domain: String,
    /// The domain's UUID, where the definition has one.
    #[serde(with = "form::optional")]
    pub uuid: Option<DomainUuid>,
    /// What the plan was made from.
    pub basis: Basis,
    /// The devices that have a recipe.
    pub devices: Vec<PlannedDevice>,
    /// What is added, with the edits of the definition's bytes. If elements of an older plan are replaced, the edits apply to the
    /// definition without those.
    pub changes: Vec<Addition>,
    /// What the user should know.
    pub notes: Vec<Note>,
    /// The unified diff, with the reasons.
    pub hunks: Vec<Hunk>,
    /// False when nothing is missing.
    pub changed: bool,
    /// The completed definition.
    pub text: String,
    /// Fingerprint of the completed definition.
    pub result: Fingerprint,
}

/// Devices, changes and notes of a completed definition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Findings {
    /// Version of this form.
    pub version: u32,
    /// The domain's name.
    pub domain: String,
    /// False when nothing was missing.
    pub changed: bool,
    /// The devices that have a recipe.
    pub devices: Vec<PlannedDevice>,
    /// What was added, and why.
    pub changes: Vec<Note>,
    /// What the user should know.
    pub notes: Vec<Note>,
}

impl Findings {
    /// The findings about a device that is attached to the domain of this name.
    #[must_use]
    pub fn of_attached(domain: &str, attached: &Attached) -> Self {
        let piece = |one: &Change| Note {
            code: one.code,
            device: one.device,
            text: one.reason.clone(),
        };
        Self {
            version: VERSION,
            domain: domain.to_owned(),
            changed: !attached.changes.is_empty(),
            devices: attached.devices.iter().map(PlannedDevice::of).collect(),
            changes: attached.changes.iter().map(piece).collect(),
            notes: attached.notes.iter().map(Note::of).collect(),
        }
    }
}

/// The diff that changes make in `text`, with their reasons; for changes outside a plan.
#[must_use]
pub fn hunks(text: &str, changes: &[Change]) -> Vec<Hunk> {
    diff::hunks(text, changes)
}

/// The diff of a plan for `text`, with its reasons.
pub(crate) fn hunks_of(text: &str, rewrite: &Rewrite) -> Vec<Hunk> {
    let Rewrite {
        text: after,
        base,
        plan,
    } = rewrite;
    match base == text {
        true => diff::hunks(text, &plan.changes),
        false => replaced::hunks(text, base, after, &plan.changes),
    }
}

/// The version alone, to report another version before other differences.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl SavedPlan {
    /// Plans a definition.
    ///
    /// # Errors
    /// The refusals of [`rewrite::rewrite`].
    pub fn make(definition: &Definition, input: &PlanInput<'_>) -> Result<Self, Refusal> {
        let (text, domain) = (definition.text(), definition.domain());
        let rewrite = rewrite::rewrite(definition, input)?;
        let hunks = hunks_of(text, &rewrite);
        let Rewrite {
            text: after, plan, ..
        } = rewrite;
        Ok(Self {
            version: VERSION,
            basis: Basis::of(definition, input),
            domain: domain.name.clone(),
            uuid: domain.uuid.clone(),
            devices: plan.devices.iter().map(PlannedDevice::of).collect(),
            changes: plan.changes.iter().map(Addition::of).collect(),
            notes: plan.notes.iter().map(Note::of).collect(),
            hunks,
            changed: after != text,
            result: Fingerprint::of(&after),
            text: after,
        })
    }

    /// Devices, changes and notes, without the XML and its edits.
    #[must_use]
    pub fn findings(&self) -> Findings {
        let piece = |one: &Addition| Note {
            code: one.code,
            device: one.device,
            text: one.reason.clone(),
        };
        Findings {
            version: VERSION,
            domain: self.domain.clone(),
            changed: self.changed,
            devices: self.devices.clone(),
            changes: self.changes.iter().map(piece).collect(),
            notes: self.notes.clone(),
        }
    }

    /// Reads a saved plan.
    ///
    /// # Errors
    /// A refusal when the text is too large, not a plan, or a plan of another version.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        if text.len() > MAX_BYTES {
            return Err(unreadable(format!(
                "it is larger than {} MiB",
                MAX_BYTES >> 20
            )));
        }
        let broken = |error: serde_json::Error| unreadable(error.to_string());
        let Versioned { version } = serde_json::from_str(text).map_err(broken)?;
        if version != VERSION {
            let reason = format!("it has version {version}, this variantd reads version {VERSION}");
            return Err(unreadable(reason));
        }
        serde_json::from_str(text).map_err(broken)
    }

    /// Checks that planning the definition again gives this plan.
    ///
    /// # Errors
    /// A refusal that names what changed since; refusals of the planner.
    pub fn check(&self, definition: &Definition, input: &PlanInput<'_>) -> Result<(), Refusal> {
        let basis = Basis::of(definition, input);
        let changed = self.basis.changed(&basis);
        if !changed.is_empty() {
            return Err(self.stale(&changed.join(", ")));
        }
        if Self::make(definition, input)? == *self {
            return Ok(());
        }
        let reason = "planning the same definition on the same host gives another plan: this one was edited, or made by \
                      another build of variantd";
        Err(unreadable(reason.into()))
    }

    /// The refusal to apply this plan, because `what` is different now.
    #[must_use]
    pub fn stale(&self, what: &str) -> Refusal {
        let domain = &self.domain;
        let reason = format!("the plan of domain '{domain}' is stale; changed since: {what}");
        let command = line(["variantctl", "plan", "--json", domain]);
        let hint = Hint::naming("plan again with {} and review the differences", &command);
        Refusal::new(Code::PlanStale, reason, hint)
    }

    /// True when `rewrite` adds the same XML for the same reasons in the same order. Positions may differ, because a plan does not
    /// show secrets.
    #[must_use]
    pub fn adds_the_same(&self, rewrite: &Rewrite) -> bool {
        let theirs: Vec<Addition> = rewrite.plan.changes.iter().map(Addition::of).collect();
        let same = |(ours, theirs): (&Addition, &Addition)| ours.is_like(theirs);
        self.changes.len() == theirs.len() && self.changes.iter().zip(&theirs).all(same)
    }
}

fn unreadable(reason: String) -> Refusal {
    let sentence = "make one with {}, and pass it unchanged";
    let hint = Hint::naming(sentence, "variantctl plan --json DOMAIN");
    Refusal::new(
        Code::PlanUnreadable,
        format!("cannot use the plan: {reason}"),
        hint,
    )
}

#[cfg(test)]
mod tests;
