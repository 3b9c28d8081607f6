//! The result of preparing a domain, as callers get it in JSON.

use domain::DomainUuid;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The version of the JSON form.
const SCHEMA: u32 = 1;

/// The result of preparing a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Report {
    /// Version of this form.
    pub schema: u32,
    /// The domain's name.
    pub domain: String,
    /// The domain's UUID.
    pub uuid: String,
    /// The outcome.
    pub outcome: Outcome,
    /// The added elements; the missing ones when preparing failed.
    pub changes: Vec<Item>,
    /// Notes for the user.
    pub notes: Vec<Item>,
    /// The message of the refusal or failure.
    pub sentence: Option<String>,
    /// The refusal's code.
    pub code: Option<String>,
    /// What was done, as the planner summarizes it; only in the reply to a caller that asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Value>,
}

/// The outcome of preparing a domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is an unrelated guest.
    Foreign,
    /// It waits for a request.
    OnRequest,
    /// It was complete already.
    Complete,
    /// It was completed now.
    Completed,
    /// The added elements were removed.
    Reverted,
    /// It cannot be completed.
    Refused,
    /// libvirt did not answer, or answered with an error.
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
    /// The reason or the text.
    pub text: String,
}

impl Outcome {
    /// The keyword in JSON.
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
            summary: None,
        }
    }
}
