//! Names of services that may be stopped because they hold GPUs.
//!
//! Must never contain libvirt, the agent itself, or a service that ends a session: libvirt waits for the agent while a
//! guest starts.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Services that hold GPUs: the persistence daemon, MIG's manager, the monitors of NVIDIA and AMD (on DGX and Grace also
/// NVSM's units), the daemon for a notebook's power, and nvidia-imex, which on Grace holds every GPU of its host. Not
/// nvidia-fabricmanager, which other GPUs and guests of a fabric need: it is stopped only if the configuration names it.
pub const KNOWN: [&str; 20] = [
    "nvidia-persistenced.service",
    "nvidia-mig-manager.service",
    "nvidia-imex.service",
    "nvsm.service",
    "nvsm-core.service",
    "nvsm-api-gateway.service",
    "nvsm-lifecycled.service",
    "nvsm-mqtt.service",
    "nvsm-notifier.service",
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

/// Name prefixes of units that are never stopped.
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

/// Maximum length of a unit name (systemd, UNIT_NAME_MAX).
const MAX_NAME: usize = 255;

/// A systemd service that may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// The text does not name a service that may be stopped.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ServiceNameError {
    /// Not a service name.
    #[error("'{0}' is not the name of a service, such as 'nvidia-persistenced.service'")]
    Form(String),
    /// Stopping the service would end guests, sessions or the agent.
    #[error("'{0}' is never stopped: guests, sessions or variantd need it")]
    Protected(String),
}

impl ServiceName {
    /// The services of [`KNOWN`].
    pub fn known() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|name| Self((*name).to_owned()))
    }

    /// The name, with its suffix.
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
            // The message is printed on terminals and in the journal, so it has no control characters.
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
    fn known_services_may_be_stopped() {
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
    fn invalid_service_name_is_refused() {
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
