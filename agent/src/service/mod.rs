//! Services of the host that hold GPUs: which of them may be stopped, and what stops them.
//!
//! Must never name libvirt, the agent itself, or what ends a session: libvirt waits for us while a guest starts.

mod systemd;

use std::fmt;

use thiserror::Error;

pub use settings::service::{KNOWN, ServiceName, ServiceNameError};
pub(crate) use systemd::STOP;
pub use systemd::Systemd;

/// A service could not be stopped or started.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceError {
    /// There is no such unit.
    #[error("there is no unit '{0}'")]
    Gone(String),
    /// It did not end in time; systemd may still be about it.
    #[error("'{unit}' has not ended within {seconds} s")]
    Late {
        /// The unit.
        unit: String,
        /// How long we waited.
        seconds: u64,
    },
    /// Stopping it would stop another unit, which nobody named.
    #[error("stopping '{unit}' would stop '{other}', too")]
    Others {
        /// The unit.
        unit: String,
        /// What needs it.
        other: String,
    },
    /// The service manager said no, or could not be asked.
    #[error("cannot {action} '{unit}': {why}")]
    Failed {
        /// What was tried.
        action: Action,
        /// The unit.
        unit: String,
        /// Why not.
        why: String,
    },
}

/// What is asked of the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Which units need one.
    Inquire,
    /// To stop it.
    Stop,
    /// To start it.
    Start,
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Inquire => "ask about",
            Self::Stop => "stop",
            Self::Start => "start",
        })
    }
}

/// The service manager.
pub trait Services: Send + Sync {
    /// Called before a stop: the units that run and that systemd stops with `unit`.
    ///
    /// # Errors
    /// When the manager cannot be asked.
    fn dependents(&self, unit: &ServiceName) -> Result<Vec<String>, ServiceError>;

    /// Called once the stop is journalled. Returns when no process of the unit is left.
    ///
    /// # Errors
    /// [`ServiceError`]; the unit may have been stopped, or be about to.
    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError>;

    /// Called when no guest has a device any more that the unit was stopped for. Waits for nothing; does nothing
    /// to a unit that runs.
    ///
    /// # Errors
    /// [`ServiceError::Gone`] when it needs no start any more.
    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError>;
}

/// Where no service is ever stopped.
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
