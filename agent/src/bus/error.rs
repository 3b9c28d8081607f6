//! Errors as callers see them: a name under `org.variantd1.Error` and one sentence.

use zbus::DBusError;

use crate::assign::AssignError;
use crate::inventory::PublishError;
use crate::prepare::PrepareError;
use crate::refusal::Refusal;

/// An error reply.
#[derive(Debug, DBusError)]
#[zbus(prefix = "org.variantd1.Error")]
pub enum BusError {
    /// The bus itself failed.
    #[zbus(error)]
    ZBus(zbus::Error),
    /// We will not: reason, code in parentheses, way out.
    Refused(String),
    /// We, the host or libvirt could not.
    Failed(String),
    /// There is no such domain.
    NotFound(String),
    /// The caller may not.
    NotAuthorized(String),
    /// It was not done in the time that the caller gave; it goes on.
    TimedOut(String),
}

impl From<AssignError> for BusError {
    fn from(error: AssignError) -> Self {
        let sentence = error.to_string();
        match error {
            AssignError::Refused(_) | AssignError::Incomplete(_) => Self::Refused(sentence),
            AssignError::Failed(_) => Self::Failed(sentence),
        }
    }
}

impl From<PrepareError> for BusError {
    fn from(error: PrepareError) -> Self {
        let sentence = error.to_string();
        match error {
            PrepareError::Refused(_) => Self::Refused(sentence),
            PrepareError::NotFound(_) => Self::NotFound(sentence),
            PrepareError::Libvirt { .. } => Self::Failed(sentence),
        }
    }
}

impl From<Refusal> for BusError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.to_string())
    }
}

impl From<PublishError> for BusError {
    fn from(error: PublishError) -> Self {
        Self::Failed(error.to_string())
    }
}
