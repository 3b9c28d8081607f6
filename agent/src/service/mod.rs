//! Services of the host that hold GPUs: which of them may be stopped, and what stops them.
//!
//! Must never name libvirt, the agent itself, or what ends a session: libvirt waits for us while a guest starts.

mod systemd;

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(crate) use systemd::STOP;
pub use systemd::Systemd;

/// Services that hold GPUs and that nothing else needs: the persistence daemon, the monitors of NVIDIA and AMD,
/// and the daemon for a notebook's power. Not nvidia-fabricmanager and nvidia-imex, which other GPUs, guests and hosts
/// of a fabric need: those are stopped where the configuration names them.
pub const KNOWN: [&str; 12] = [
    "nvidia-persistenced.service",
    "nvidia-powerd.service",
    "nvidia-dcgm.service",
    "dcgm.service",
    "nvidia-dcgm-exporter.service",
    "dcgm-exporter.service",
    "rdc.service",
    "gpuagent.service",
    "amd-metrics-exporter.service",
    "amd-smi-exporter.service",
    "amd_smi_exporter.service",
    "rocm-smi-exporter.service",
];

/// What the names of units begin with that are never stopped.
const PROTECTED: [&str; 14] = [
    "libvirt",
    "virt",
    "variantd",
    "systemd-",
    "dbus",
    "user@",
    "user-runtime-dir@",
    "getty@",
    "serial-getty@",
    "ssh",
    "display-manager",
    "gdm",
    "lightdm",
    "sddm",
];

/// The longest name of a unit (systemd, UNIT_NAME_MAX).
const MAX_NAME: usize = 255;

/// A systemd service that may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// A text names no service that may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceNameError {
    /// It is no service's name.
    #[error("'{0}' is not the name of a service, such as 'nvidia-persistenced.service'")]
    Form(String),
    /// Stopping it would end guests, sessions or ourselves.
    #[error("'{0}' is never stopped: guests, sessions or variantd need it")]
    Protected(String),
}

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
        action: &'static str,
        /// The unit.
        unit: String,
        /// Why not.
        why: String,
    },
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
        Err(untouched("stop", unit))
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        Err(untouched("stop", unit))
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        Err(untouched("start", unit))
    }
}

fn untouched(action: &'static str, unit: &ServiceName) -> ServiceError {
    ServiceError::Failed {
        action,
        unit: unit.to_string(),
        why: "only the agent does that".into(),
    }
}

impl ServiceName {
    /// The known ones.
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|name| Self((*name).to_owned()))
    }

    /// The name, with its ending.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl TryFrom<String> for ServiceName {
    type Error = ServiceNameError;

    fn try_from(text: String) -> Result<Self, ServiceNameError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        let stem = text.strip_suffix(".service").unwrap_or_default();
        let known = stem.starts_with(|c: char| c.is_ascii_alphanumeric());
        if !known || text.len() > MAX_NAME || !text.chars().all(allowed) {
            let shown = text.chars().filter(|c| !c.is_control()).take(MAX_NAME);
            return Err(ServiceNameError::Form(shown.collect()));
        }
        match PROTECTED.iter().any(|start| text.starts_with(start)) {
            true => Err(ServiceNameError::Protected(text)),
            false => Ok(Self(text)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Result<ServiceName, ServiceNameError> {
        text.to_owned().try_into()
    }

    #[test]
    fn what_is_known_may_be_stopped() {
        for known in ServiceName::known() {
            assert_eq!(name(known.as_str()), Ok(known));
        }
    }

    #[test]
    fn guests_sessions_and_the_agent_are_never_stopped() {
        for text in [
            "libvirtd.service",
            "libvirt-guests.service",
            "virtqemud.service",
            "variantd.service",
            "systemd-logind.service",
            "systemd-machined.service",
            "dbus-broker.service",
            "user@1000.service",
            "sshd.service",
            "gdm3.service",
        ] {
            let protected = ServiceNameError::Protected(text.into());
            assert_eq!(name(text), Err(protected), "{text}");
        }
    }

    #[test]
    fn what_is_no_service_is_no_name() {
        for text in [
            "",
            ".service",
            "nvidia-persistenced",
            "session-3.scope",
            "system.slice",
            "../x.service",
            "a b.service",
            "a\n.service",
            "-x.service",
            &format!("{}.service", "x".repeat(300)),
        ] {
            assert!(
                matches!(name(text), Err(ServiceNameError::Form(_))),
                "{text}"
            );
        }
    }
}
