//! What came of preparing a domain, in the form that callers get as JSON.

use domain::DomainUuid;
use serde::{Deserialize, Serialize};

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// What came of preparing a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
    /// A report of a domain's name and UUID, without a plan.
    #[must_use]
    pub fn new(name: &str, uuid: &DomainUuid, outcome: Outcome) -> Self {
        Self {
            schema: SCHEMA,
            domain: name.to_owned(),
            uuid: uuid.to_string(),
            outcome,
            changes: Vec::new(),
            notes: Vec::new(),
            sentence: None,
            code: None,
        }
    }
}
