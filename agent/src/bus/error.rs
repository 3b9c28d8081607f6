//! Errors as callers see them: a name under `org.variantd1.Error` and one sentence.

use zbus::DBusError;

use super::device;
use crate::assign::AssignError;
use crate::failure::PrepareError;
use crate::inventory::PublishError;
use crate::refusal::Refusal;
use crate::reserve::ReserveError;

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
    /// There is no such domain or device.
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

impl From<ReserveError> for BusError {
    fn from(error: ReserveError) -> Self {
        match error {
            ReserveError::Assign(error) => device::error(error),
            other => Self::Failed(other.to_string()),
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
