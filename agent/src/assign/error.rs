//! Why a device was not assigned or not given back, as one sentence with the way out.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::RebindError;
use thiserror::Error;

use crate::code::Code;
use crate::journal::JournalError;
use crate::refusal::Refusal;

/// An operation on a domain's devices did not come about.
#[derive(Debug, Error)]
pub enum AssignError {
    /// We will not.
    #[error(transparent)]
    Refused(Refusal),
    /// The definition lacks something that a repair may add.
    #[error(transparent)]
    Incomplete(Refusal),
    /// The host said no; the sentence has a refusal's form.
    #[error("{0}")]
    Failed(Refusal),
    /// Nothing may be changed that is not journalled.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl From<RebindError> for AssignError {
    fn from(error: RebindError) -> Self {
        match &error {
            RebindError::InUse { .. } => {
                let mend = "end what holds it, then try again";
                Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), mend))
            }
            RebindError::Locked {
                device,
                errno: None,
            } => {
                let mend = format!(
                    "see 'nvidia-smi -i {device}' for who uses it and run 'nvidia-smi -i {device} -pm 0', then try again"
                );
                Self::Refused(Refusal::new(Code::BindInUse, error.to_string(), mend))
            }
            _ if error.is_degraded() => {
                let mend = "see 'journalctl -k', then run 'variantctl recover' to try again";
                Self::Failed(Refusal::new(Code::BindDegraded, error.to_string(), mend))
            }
            _ => {
                let mend = "see 'journalctl -k' for the driver's own words";
                Self::Failed(Refusal::new(Code::BindFailed, error.to_string(), mend))
            }
        }
    }
}

/// The device is on another driver than planned once libvirt is done with it.
pub(super) fn wrong_driver(
    device: PciAddress,
    wanted: &DriverName,
    found: Option<&DriverName>,
) -> AssignError {
    let on = found.map_or("no driver".into(), |driver| format!("'{driver}'"));
    let reason = format!("it is on {on} instead of '{wanted}'");
    let mend = "remove <driver model> from its hostdev, or bind it before the start";
    AssignError::Refused(Refusal::new(Code::BindWrongDriver, reason, mend).of(device))
}

/// Another domain holds the device.
pub(super) fn taken(device: PciAddress, holder: &str) -> AssignError {
    let reason = format!("it is assigned to domain '{holder}'");
    let mend = format!("shut '{holder}' down first");
    AssignError::Refused(Refusal::new(Code::DeviceTaken, reason, mend).of(device))
}

/// Somebody binds or releases the device by hand right now.
pub(super) fn busy(device: PciAddress) -> AssignError {
    let reason = "it is being bound or released by hand";
    let mend = "try again when that has ended";
    AssignError::Refused(Refusal::new(Code::DeviceBusy, reason, mend).of(device))
}
