//! Why a device was not assigned or not released, as one message with the fix.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::RebindError;
use thiserror::Error;

use crate::record::{Held, RecordError};
use domain::code::Code;
use domain::refusal::Refusal;

/// A failed operation on a domain's devices.
#[derive(Debug, Error)]
pub enum AssignError {
    /// variantd refuses.
    #[error(transparent)]
    Refused(Refusal),
    /// The definition lacks an element that a repair may add.
    #[error(transparent)]
    Incomplete(Refusal),
    /// The host returned an error; the message has the form of a refusal.
    #[error("{0}")]
    Failed(Refusal),
}

impl AssignError {
    /// Its parts.
    #[must_use]
    pub fn refusal(&self) -> &Refusal {
        match self {
            Self::Refused(refusal) | Self::Incomplete(refusal) | Self::Failed(refusal) => refusal,
        }
    }
}

impl From<RebindError> for AssignError {
    fn from(error: RebindError) -> Self {
        let (code, hint) = match &error {
            RebindError::InUse { .. } => {
                let hint = "stop the processes that hold it, then retry";
                return Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), hint));
            }
            RebindError::Locked {
                device,
                errno: None,
            } => {
                let hint = format!(
                    "stop its users ('nvidia-smi -i {device}' lists them), run 'nvidia-smi -i \
                        {device} -pm 0', then retry"
                );
                return Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), hint));
            }
            // The order matters: a driver that is still loading is also a `NoDriver`.
            _ if error.is_loading() => (Code::ModuleStuck, LOADING),
            RebindError::NoDriver { .. } => (
                Code::BindFailed,
                "run a kernel that has the driver, or name another one",
            ),
            RebindError::Changed(_) => (
                Code::BindFailed,
                "retry; if that program manages the device as well, as driverctl does, leave the device to one of them",
            ),
            _ if error.is_hung() => (Code::BindStuck, WAIT),
            _ if error.is_degraded() => (Code::BindDegraded, RETRY),
            _ if error.is_not_ready() => (
                Code::BindNotReady,
                "check its link and memory in 'journalctl -k' and retry; if that fails again, \
                    reset it or restart the host",
            ),
            _ => (
                Code::BindFailed,
                "see the driver's messages in 'journalctl -k'",
            ),
        };
        let refusal = Refusal::new(code, error.to_string(), hint);
        Self::Failed(match code {
            Code::BindStuck | Code::BindDegraded => refusal.by(RECOVER),
            _ => refusal,
        })
    }
}

impl From<RecordError> for AssignError {
    fn from(error: RecordError) -> Self {
        let (code, hint) = match &error {
            RecordError::Failed { .. } => (
                Code::JournalFailed,
                "free space there and make it writable for variantd: nothing is bound without a \
                    journal entry",
            ),
            RecordError::Newer { .. } => (
                Code::JournalNewer,
                "install that version again, or remove the file if the domain's devices need not \
                    be released",
            ),
        };
        Self::Failed(Refusal::new(code, error.to_string(), hint))
    }
}

/// The fix for a write in progress.
const WAIT: &str = "see 'journalctl -k' and 'variantctl show DEVICE' for its holder; when it has \
    ended, run 'variantctl recover DEVICE'";

/// The fix for a module that is being loaded.
const LOADING: &str =
    "see 'ps -C modprobe' and 'journalctl -k' for the reason; when it has ended, retry";

/// The fix for *degraded*.
const RETRY: &str = "see 'journalctl -k', then run 'variantctl recover DEVICE'";

/// Recovers all devices in that state.
const RECOVER: [&str; 2] = ["variantctl", "recover"];

/// A bind failed; `stuck` are the devices that could not be restored.
pub(super) fn failed_bind(error: RebindError, stuck: &[Held]) -> AssignError {
    let unnamed: Vec<String> = stuck
        .iter()
        .filter(|held| !(error.is_degraded() && error.is_about(held.address)))
        .map(|held| format!("'{}'", held.address))
        .collect();
    if unnamed.is_empty() {
        return error.into();
    }
    let reason = format!("{error}; {} could not be restored", unnamed.join(", "));
    AssignError::Failed(Refusal::new(Code::BindDegraded, reason, RETRY).by(RECOVER))
}

/// The device's config space reads as all ones.
pub(super) fn silent(device: PciAddress) -> AssignError {
    let reason = "it does not answer: its config space reads as all ones";
    let hint =
        "check its link and power in 'journalctl -k', then rescan its bus or restart the host";
    AssignError::Refused(Refusal::new(Code::BindSilent, reason, hint).of(device))
}

/// An earlier change of the device could not be undone.
pub(super) fn degraded(device: PciAddress) -> AssignError {
    let reason = "an earlier change of its driver could not be undone";
    let refusal = Refusal::new(Code::BindDegraded, reason, RETRY).of(device);
    AssignError::Refused(refusal.by(["variantctl", "recover", &device.to_string()]))
}

/// The device is bound to another driver than planned after libvirt's own device work.
pub(super) fn wrong_driver(
    device: PciAddress,
    wanted: &DriverName,
    found: Option<&DriverName>,
) -> AssignError {
    let on = found.map_or("no driver".into(), |driver| format!("'{driver}'"));
    let reason = format!("it is bound to {on} instead of '{wanted}'");
    let hint = "remove <driver model> from its hostdev, or bind it before the start";
    AssignError::Refused(Refusal::new(Code::BindWrongDriver, reason, hint).of(device))
}

/// The caller named a driver that is not for the device.
pub(super) fn driver_refused(device: PciAddress, driver: &DriverName) -> AssignError {
    let reason = format!(
        "'{driver}' is not allowed: no recipe names this driver, and modules.alias does not list \
            it for this device"
    );
    let hint = "use 'vfio-pci' or a listed driver, or add a recipe (variantd.recipe(5))";
    AssignError::Refused(Refusal::new(Code::DriverRefused, reason, hint).of(device))
}

/// A device was released, and its previous driver does not accept it.
pub(super) fn left_without_driver(
    device: PciAddress,
    driver: Option<&DriverName>,
    why: &RebindError,
) -> Refusal {
    let driver = driver.map_or("another driver".into(), |driver| format!("'{driver}'"));
    let reason = format!("it was released without its previous driver {driver}: {why}");
    let hint = format!(
        "guests can use it; to use it on the host when {driver} is available, run 'echo {device} > \
            /sys/bus/pci/drivers_probe'"
    );
    Refusal::new(Code::LeftWithoutDriver, reason, hint).of(device)
}

/// Another domain holds the device.
pub(super) fn taken(device: PciAddress, holder: &str) -> AssignError {
    let reason = format!("it is assigned to domain '{holder}'");
    let hint = format!("shut '{holder}' down first");
    AssignError::Refused(Refusal::new(Code::DeviceTaken, reason, hint).of(device))
}

/// An administrator binds or releases the device at present.
pub(super) fn busy(device: PciAddress) -> AssignError {
    let reason = "another operation binds or releases it";
    let hint = "retry when it has ended";
    AssignError::Refused(Refusal::new(Code::DeviceBusy, reason, hint).of(device))
}
