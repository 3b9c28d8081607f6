//! Services of the host that hold GPUs: which of them may be stopped, and how.
//!
//! Must never stop libvirt, the agent itself, or a service that ends a session: libvirt waits for the agent while a
//! guest starts.

mod systemd;

use std::fmt;

use thiserror::Error;

pub use settings::service::{KNOWN, ServiceName, ServiceNameError};
pub use systemd::Systemd;
pub(crate) use systemd::{STOP, run};

/// A service could not be stopped or started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// The unit does not exist.
    #[error("unit '{0}' does not exist")]
    Gone(String),
    /// The unit did not end in time; systemd may still be stopping it.
    #[error("'{unit}' did not stop within {seconds} s")]
    Late {
        /// The unit.
        unit: String,
        /// The timeout.
        seconds: u64,
    },
    /// Stopping it would stop another unit, which is not listed.
    #[error("stopping '{unit}' would also stop '{other}'")]
    Others {
        /// The unit.
        unit: String,
        /// The unit that needs it.
        other: String,
    },
    /// The service manager returned an error, or did not answer.
    #[error("cannot {action} '{unit}': {why}")]
    Failed {
        /// The request.
        action: Action,
        /// The unit.
        unit: String,
        /// The reason.
        why: String,
    },
}

/// A request to the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Which units need a unit.
    Inquire,
    /// Stop a unit.
    Stop,
    /// Start a unit.
    Start,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inquire => "query",
            Self::Stop => "stop",
            Self::Start => "start",
        })
    }
}

/// The service manager.
pub trait Services: Send + Sync {
    /// The running units that systemd would stop with `unit`; called before a stop.
    ///
    /// # Errors
    /// The manager does not answer.
    fn dependents(&self, unit: &ServiceName) -> Result<Vec<String>, ServiceError>;

    /// Stops the unit, and returns when none of its processes is left; called after the stop was journalled.
    ///
    /// # Errors
    /// [`ServiceError`]; the unit may have been stopped, or may be stopping.
    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError>;

    /// Starts the unit when all devices that it was stopped for are free. Does not wait; does nothing to a running
    /// unit.
    ///
    /// # Errors
    /// [`ServiceError::Gone`] if it no longer needs a start.
    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError>;
}

/// Never stops a service.
#[derive(Clone, Copy, Debug)]
pub struct Untouched;

impl Services for Untouched {
    fn dependents(&self, unit: &ServiceName) -> Result<Vec<String>, ServiceError> {
        Err(untouched(Action::Stop, unit))
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        Err(untouched(Action::Stop, unit))
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        Err(untouched(Action::Start, unit))
    }
}

fn untouched(action: Action, unit: &ServiceName) -> ServiceError {
    ServiceError::Failed {
        action,
        unit: unit.to_string(),
        why: "only the agent does that".into(),
    }
}
