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
                let hint = "end what holds it, then try again";
                return Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), hint));
            }
            RebindError::Locked {
                device,
                errno: None,
            } => {
                let hint = format!(
                    "see 'nvidia-smi -i {device}' for who uses it and run 'nvidia-smi -i {device} -pm 0', then try again"
                );
                return Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), hint));
            }
            _ if error.is_loading() => (Code::ModuleStuck, LOADING),
            RebindError::NoDriver { .. } => (
                Code::BindFailed,
                "run a kernel that has the driver, or name another one",
            ),
            _ if error.is_hung() => (Code::BindStuck, WAIT),
            _ if error.is_degraded() => (Code::BindDegraded, RETRY),
            _ if error.is_not_ready() => (
                Code::BindNotReady,
                "see 'journalctl -k' for its link and memory and try again; if it stays so, reset it or restart the host",
            ),
            _ => (
                Code::BindFailed,
                "see 'journalctl -k' for the driver's own words",
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
                "make room there, and see that variantd may write: nothing is bound that is not journalled first",
            ),
            RecordError::Newer { .. } => (
                Code::JournalNewer,
                "install that version again, or remove the file when the domain's devices need not be given back",
            ),
        };
        Self::Failed(Refusal::new(code, error.to_string(), hint))
    }
}

/// The fix for a write in progress.
const WAIT: &str = "see 'journalctl -k' and 'variantctl show DEVICE' for what holds it; once that has let go, run 'variantctl recover DEVICE'";

/// The fix for a module that is being loaded.
const LOADING: &str =
    "see 'ps -C modprobe' and 'journalctl -k' for what it waits for; once it has ended, try again";

/// The fix for *degraded*.
const RETRY: &str = "see 'journalctl -k', then have it put back by 'variantctl recover DEVICE'";

/// Recovers all devices in that state.
const RECOVER: [&str; 2] = ["variantctl", "recover"];

/// A bind failed; `stuck` are the devices that could not be restored.
pub(super) fn setback(error: RebindError, stuck: &[Held]) -> AssignError {
    let unsaid: Vec<String> = stuck
        .iter()
        .filter(|held| !(error.is_degraded() && error.is_about(held.address)))
        .map(|held| format!("'{}'", held.address))
        .collect();
    if unsaid.is_empty() {
        return error.into();
    }
    let reason = format!("{error}; {} could not be put back", unsaid.join(", "));
    AssignError::Failed(Refusal::new(Code::BindDegraded, reason, RETRY).by(RECOVER))
}

/// The device's config space reads as all ones.
pub(super) fn silent(device: PciAddress) -> AssignError {
    let reason = "it does not answer: its config space reads as all ones";
    let hint =
        "look for its link or power in 'journalctl -k', then rescan its bus or restart the host";
    AssignError::Refused(Refusal::new(Code::BindSilent, reason, hint).of(device))
}

/// An earlier change of the device could not be undone.
pub(super) fn degraded(device: PciAddress) -> AssignError {
    let reason = "an earlier change of its driver could not be taken back";
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
    let reason = format!("it is on {on} instead of '{wanted}'");
    let hint = "remove <driver model> from its hostdev, or bind it before the start";
    AssignError::Refused(Refusal::new(Code::BindWrongDriver, reason, hint).of(device))
}

/// The caller named a driver that is not for the device.
pub(super) fn driver_refused(device: PciAddress, driver: &DriverName) -> AssignError {
    let reason = format!(
        "'{driver}' is not for it: no recipe names that driver, and the kernel's modules.alias does not list it for this device"
    );
    let hint = "name 'vfio-pci' or a driver that is listed, or add a recipe (variantd.recipe(5))";
    AssignError::Refused(Refusal::new(Code::DriverRefused, reason, hint).of(device))
}

/// A device was released, and its previous driver does not accept it.
pub(super) fn left_without_driver(
    device: PciAddress,
    driver: Option<&DriverName>,
    why: &RebindError,
) -> Refusal {
    let driver = driver.map_or("another driver".into(), |driver| format!("'{driver}'"));
    let reason = format!("it was on {driver} before and is left without a driver: {why}");
    let hint = format!(
        "nothing for guests; for the host, once {driver} is there and takes it: 'echo {device} > /sys/bus/pci/drivers_probe'"
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
    let reason = "it is being bound or released by hand";
    let hint = "try again when that has ended";
    AssignError::Refused(Refusal::new(Code::DeviceBusy, reason, hint).of(device))
}
