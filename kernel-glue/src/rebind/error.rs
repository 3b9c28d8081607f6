//! Why a device is not bound to the expected driver, with messages that an operator can act on.

use nix::errno::Errno;
use thiserror::Error;

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::failure::{describe, is_exhaustion};
use crate::kernel::Attribute;
use crate::rebind::Step;

/// A failed rebind or restore.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RebindError {
    /// The device's driver could not be read. Nothing was written.
    #[error("cannot read the driver of '{device}': {}", describe(*.errno))]
    Unreadable {
        /// The device.
        device: PciAddress,
        /// The reason; ENODEV if the device does not exist any more.
        errno: Errno,
    },
    /// Another program has changed the device's driver since its state was read. Nothing was written.
    #[error("cannot bind '{0}': another program changed its driver meanwhile")]
    Changed(PciAddress),
    /// Processes have the device's VFIO node open. Nothing was written.
    #[error("cannot unbind '{device}': in use through VFIO by {}", list(.processes))]
    InUse {
        /// The device.
        device: PciAddress,
        /// Their ids, ascending.
        processes: Vec<u32>,
    },
    /// NVIDIA's driver counts users, or its lock could not be written. Nothing else was written.
    #[error("cannot unbind '{device}': {}", unlocked(*.errno))]
    Locked {
        /// The device.
        device: PciAddress,
        /// Why the lock could not be written; `None` if the driver did not grant it.
        errno: Option<Errno>,
    },
    /// The holders of the device are unknown. Nothing was written.
    #[error("cannot unbind '{device}': cannot read which processes hold it: {}", describe(*.errno))]
    UsersHidden {
        /// The device.
        device: PciAddress,
        /// The reason; EACCES without CAP_SYS_PTRACE.
        errno: Errno,
    },
    /// The driver is not registered and could not be loaded. Nothing was written.
    #[error("cannot bind '{device}' to '{driver}': cannot load its module: {}", no_module(*.errno))]
    NoDriver {
        /// The device.
        device: PciAddress,
        /// The driver.
        driver: DriverName,
        /// ENOENT if no such module exists or it registers another driver.
        errno: Errno,
    },
    /// A write failed, or the device is not bound to the expected driver after the writes.
    #[error("{}: {}{}", goal(.device, .to.as_ref()), reason(.step.as_ref(), .cause), tail(.undone))]
    Failed {
        /// The device.
        device: PciAddress,
        /// The expected driver; `None` if it should be unbound.
        to: Option<DriverName>,
        /// The write that failed; `None` if reading back failed.
        step: Option<Step>,
        /// The reason.
        cause: Cause,
        /// Whether the previous state was restored; an error here is the *degraded* state.
        undone: Result<(), Box<UndoError>>,
    },
}

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused.
    Errno(Errno),
    /// The kernel accepted the write, but the device is bound to this driver, or to none.
    Elsewhere(Option<DriverName>),
}

/// The undo failed too: the device has neither the expected nor the previous state.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", reason(.step.as_ref(), .cause))]
pub struct UndoError {
    /// The write that failed; `None` if reading failed.
    pub step: Option<Step>,
    /// The reason.
    pub cause: Cause,
}

impl RebindError {
    /// True if the device has neither the expected nor the previous state.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        matches!(self, Self::Failed { undone: Err(_), .. })
    }

    /// True if a write did not end in time: it may still have its effect.
    #[must_use]
    pub fn is_hung(&self) -> bool {
        let late = |cause: &Cause| *cause == Cause::Errno(Errno::ETIMEDOUT);
        match self {
            Self::Failed { cause, undone, .. } => {
                late(cause) || undone.as_ref().is_err_and(|error| late(&error.cause))
            }
            Self::Locked { errno, .. } => *errno == Some(Errno::ETIMEDOUT),
            _ => false,
        }
    }

    /// True if the expected driver does not exist: it is not registered, and its module does not exist or does not
    /// load. Nothing was written.
    #[must_use]
    pub fn lacks_driver(&self) -> bool {
        let passing = |errno: Errno| errno == Errno::ETIMEDOUT || is_exhaustion(errno);
        matches!(self, Self::NoDriver { errno, .. } if !passing(*errno))
    }

    /// True if the module of the driver was not loaded in time: the load may still be in progress.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        matches!(self, Self::NoDriver { errno, .. } if *errno == Errno::ETIMEDOUT)
    }

    /// True if the expected driver exists, and did not accept the device.
    #[must_use]
    pub fn is_refused_by_driver(&self) -> bool {
        let bind = |step: &Step| matches!(step.attribute, Attribute::Bind(_));
        match self {
            Self::Failed { .. } if self.is_hung() => false,
            Self::Failed { step, cause, .. } => match cause {
                Cause::Errno(errno) => step.as_ref().is_some_and(bind) && !is_exhaustion(*errno),
                // The bind was accepted and the link still names another driver: a retry would find the same.
                Cause::Elsewhere(_) => true,
            },
            _ => false,
        }
    }

    /// True if the device does not exist any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { errno, .. } if *errno == Errno::ENODEV)
    }

    /// True if the driver waited for the device without success, and the previous state was restored.
    #[must_use]
    pub fn is_not_ready(&self) -> bool {
        let bind = |step: &Step| matches!(step.attribute, Attribute::Bind(_));
        match self {
            Self::Failed { step, cause, .. } => {
                step.as_ref().is_some_and(bind) && *cause == Cause::Errno(Errno::ETIME)
            }
            _ => false,
        }
    }

    /// True if the error concerns `device`.
    #[must_use]
    pub fn is_about(&self, device: PciAddress) -> bool {
        let about = match self {
            Self::Unreadable { device, .. }
            | Self::Changed(device)
            | Self::InUse { device, .. }
            | Self::Locked { device, .. }
            | Self::UsersHidden { device, .. }
            | Self::NoDriver { device, .. }
            | Self::Failed { device, .. } => device,
        };
        *about == device
    }

    /// This error, after a later attempt restored the device.
    #[must_use]
    pub fn restore_drivers(mut self) -> Self {
        if let Self::Failed { undone, .. } = &mut self {
            *undone = Ok(());
        }
        self
    }

    /// The errno; EBUSY or ENODEV if the kernel returned none.
    #[must_use]
    pub fn errno(&self) -> Errno {
        match self {
            Self::Unreadable { errno, .. }
            | Self::UsersHidden { errno, .. }
            | Self::NoDriver { errno, .. } => *errno,
            Self::Locked { errno, .. } => errno.unwrap_or(Errno::EBUSY),
            Self::Changed(_) | Self::InUse { .. } => Errno::EBUSY,
            Self::Failed { cause, .. } => match cause {
                Cause::Errno(errno) => *errno,
                Cause::Elsewhere(_) => Errno::ENODEV,
            },
        }
    }
}

impl UndoError {
    pub(super) fn new(step: Option<Step>, cause: Cause) -> Self {
        Self { step, cause }
    }
}

fn goal(device: &PciAddress, to: Option<&DriverName>) -> String {
    match to {
        Some(driver) => format!("cannot bind '{device}' to '{driver}'"),
        None => format!("cannot unbind '{device}'"),
    }
}

fn tail(undone: &Result<(), Box<UndoError>>) -> String {
    match undone {
        Ok(()) => String::new(),
        Err(error) => format!("; its previous state could not be restored: {error}"),
    }
}

fn reason(step: Option<&Step>, cause: &Cause) -> String {
    match cause {
        Cause::Errno(errno) => match step {
            Some(step) => meaning(step, *errno),
            None => format!("its driver cannot be read back: {}", describe(*errno)),
        },
        Cause::Elsewhere(Some(driver)) => format!("it is bound to '{driver}'"),
        Cause::Elsewhere(None) => "it has no driver".to_owned(),
    }
}

/// The meaning of an errno of a write (drivers/base/bus.c, dd.c; drivers/vfio/pci).
fn meaning(step: &Step, errno: Errno) -> String {
    let what = match (&step.attribute, errno) {
        (_, Errno::EACCES | Errno::EPERM) => "only root may do this",
        (_, Errno::ETIMEDOUT) => {
            "the kernel did not answer in time; the write may still be in progress"
        }
        (Attribute::Bind(_), Errno::ETIME) => {
            "the GPU did not become ready within the driver's 30 s"
        }
        (Attribute::Bind(_), Errno::ENODEV) => {
            "the driver does not accept it, or the device was \
            removed"
        }
        // dd.c for a bound device, vfio_pci_core.c for virtual functions, iommu.c for a group that user space owns.
        (Attribute::Bind(_), Errno::EBUSY) => {
            "it is already bound, has virtual functions, or its IOMMU group is in use"
        }
        // -EPROBE_DEFER, which `device_driver_attach` turns into EAGAIN (drivers/base/dd.c).
        (Attribute::Bind(_), Errno::EAGAIN) => "the driver waits for another device",
        // vfio_pci_core_register_device: the header type is not that of an endpoint.
        (Attribute::Bind(_), Errno::EINVAL) => "the driver does not accept this kind of function",
        // The file itself is missing: the driver's directory exists only while it is registered.
        (Attribute::Bind(_) | Attribute::Unbind(_), Errno::ENOENT) => {
            "the driver is not registered"
        }
        (Attribute::Unbind(_), Errno::ENODEV) => "it is no longer bound to that driver",
        (Attribute::Override(_), Errno::ENOENT) => "the device was removed",
        _ => {
            let verb = step.attribute.path();
            return format!("cannot write '{}': {}", verb.display(), describe(errno));
        }
    };
    format!("{what} ({errno:?})")
}

fn no_module(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no module of this kernel contains it".to_owned(),
        Errno::ETIMEDOUT => "modprobe did not end in time and may still run".to_owned(),
        other => describe(other),
    }
}

fn unlocked(errno: Option<Errno>) -> String {
    match errno {
        Some(errno) => format!("cannot write its unbindLock: {}", describe(errno)),
        None => "NVIDIA's driver counts users of it and does not grant its unbindLock".to_owned(),
    }
}

fn list(processes: &[u32]) -> String {
    let ids: Vec<String> = processes.iter().map(|id| format!("pid {id}")).collect();
    ids.join(", ")
}
