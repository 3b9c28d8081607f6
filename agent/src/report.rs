//! What came of preparing a domain, in the form that callers get as JSON.

use serde::Serialize;

use crate::failure::PrepareError;
use crate::libvirt::DomainRef;
use crate::plan::Plan;

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// What came of preparing a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// The domain's name.
    pub domain: String,
    /// The domain's UUID.
    pub uuid: String,
    /// What came of it.
    pub outcome: Outcome,
    /// What was added, or is missing when it could not be.
    pub changes: Vec<Item>,
    /// What the user should know.
    pub notes: Vec<Item>,
    /// The refusal's or failure's sentence.
    pub sentence: Option<String>,
    /// The refusal's code.
    pub code: Option<String>,
}

/// What came of it, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing in it is ours.
    Foreign,
    /// It waits for somebody to ask.
    OnRequest,
    /// It was complete already.
    Complete,
    /// It was completed now.
    Completed,
    /// What was added was taken back.
    Reverted,
    /// It cannot be completed.
    Refused,
    /// libvirt could not be asked, or said no.
    Failed,
}

/// One change or note.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Item {
    /// The stable code.
    pub code: String,
    /// The device it is about.
    pub device: Option<String>,
    /// Where in the XML.
    pub path: Option<String>,
    /// Why, or what.
    pub text: String,
}

impl Outcome {
    /// The word, as in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Foreign => "foreign",
            Self::OnRequest => "on-request",
            Self::Complete => "complete",
            Self::Completed => "completed",
            Self::Reverted => "reverted",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl Report {
    /// A report without a plan.
    #[must_use]
    pub fn new(domain: &DomainRef, outcome: Outcome) -> Self {
        Self {
            schema: SCHEMA,
            domain: domain.name.clone(),
            uuid: domain.uuid.to_string(),
            outcome,
            changes: Vec::new(),
            notes: Vec::new(),
            sentence: None,
            code: None,
        }
    }

    /// A report of what `plan` changed and notes.
    #[must_use]
    pub fn of_plan(domain: &DomainRef, outcome: Outcome, plan: &Plan) -> Self {
        let changes = plan.changes.iter().map(|change| Item {
            code: change.code.to_string(),
            device: change.device.map(|device| device.to_string()),
            path: Some(change.path.clone()),
            text: change.reason.clone(),
        });
        let notes = plan.notes.iter().map(|note| Item {
            code: note.code.to_string(),
            device: note.device.map(|device| device.to_string()),
            path: None,
            text: note.text.clone(),
        });
        Self {
            changes: changes.collect(),
            notes: notes.collect(),
            ..Self::new(domain, outcome)
        }
    }

    /// A report of a refusal or failure.
    #[must_use]
    pub fn of_error(domain: &DomainRef, error: &PrepareError) -> Self {
        let (outcome, code) = match error {
            PrepareError::Refused(refusal) => (Outcome::Refused, Some(refusal.code.to_string())),
            _ => (Outcome::Failed, None),
        };
        Self {
            sentence: Some(error.to_string()),
            code,
            ..Self::new(domain, outcome)
        }
    }
}
