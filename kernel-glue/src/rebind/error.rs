//! Why a device is not on the driver it should be on, in words an operator can act on.

use nix::errno::Errno;
use thiserror::Error;

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::failure::{describe, is_exhaustion};
use crate::kernel::Attribute;
use crate::rebind::Step;

/// A rebind or a restore that did not come about.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RebindError {
    /// How the device is bound could not be read. Nothing was written.
    #[error("cannot read how '{device}' is bound: {}", describe(*.errno))]
    Unreadable {
        /// The device.
        device: PciAddress,
        /// Why; ENODEV when it is gone.
        errno: Errno,
    },
    /// Somebody else has bound the device since its state was read. Nothing was written.
    #[error("cannot bind '{0}': it was bound otherwise in the meantime")]
    Changed(PciAddress),
    /// Processes have the device's VFIO node open. Nothing was written.
    #[error("cannot unbind '{device}': device is held through VFIO by {}", list(.processes))]
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
        /// Why the lock could not be written; `None` when the driver did not give it.
        errno: Option<Errno>,
    },
    /// Whether a process has it open could not be found out. Nothing was written.
    #[error("cannot unbind '{device}': cannot see who holds it: {}", describe(*.errno))]
    UsersHidden {
        /// The device.
        device: PciAddress,
        /// Why; EACCES without CAP_SYS_PTRACE.
        errno: Errno,
    },
    /// The driver is not registered and could not be loaded. Nothing was written.
    #[error("cannot bind '{device}' to '{driver}': cannot load its module: {}", no_module(*.errno))]
    NoDriver {
        /// The device.
        device: PciAddress,
        /// The driver.
        driver: DriverName,
        /// ENOENT when there is no such module or it registers another driver.
        errno: Errno,
    },
    /// A write failed, or the device is not where the writes should have led.
    #[error("{}: {}{}", goal(.device, .to.as_ref()), reason(.step.as_ref(), .cause), tail(.undone))]
    Failed {
        /// The device.
        device: PciAddress,
        /// The driver it should be on; `None` when it should be unbound.
        to: Option<DriverName>,
        /// The write that failed; `None` when reading back failed.
        step: Option<Step>,
        /// Why.
        cause: Cause,
        /// Whether the device is as it was before; an error here is the *degraded* state.
        undone: Result<(), Box<UndoError>>,
    },
}

/// Why a step did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The kernel refused.
    Errno(Errno),
    /// The kernel accepted, and the device is on this driver, or on none.
    Elsewhere(Option<DriverName>),
}

/// A way back that failed too: the device is neither as it should be nor as it was.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}", reason(.step.as_ref(), .cause))]
pub struct UndoError {
    /// The write that failed; `None` when reading failed.
    pub step: Option<Step>,
    /// Why.
    pub cause: Cause,
}

impl RebindError {
    /// True when the device was left neither as it should be nor as it was.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        matches!(self, Self::Failed { undone: Err(_), .. })
    }

    /// True when a write did not end in time: it may still have its effect.
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

    /// True when the driver that the device should be on cannot be had: it is not registered, and no module of it is
    /// there, or its module does not load. Nothing was written.
    #[must_use]
    pub fn lacks_driver(&self) -> bool {
        let passing = |errno: Errno| errno == Errno::ETIMEDOUT || is_exhaustion(errno);
        matches!(self, Self::NoDriver { errno, .. } if !passing(*errno))
    }

    /// True when the module of the driver has not been loaded in time: that may still be under way.
    #[must_use]
    pub fn is_loading(&self) -> bool {
        matches!(self, Self::NoDriver { errno, .. } if *errno == Errno::ETIMEDOUT)
    }

    /// True when the driver that the device should be on was there, and did not take it.
    #[must_use]
    pub fn is_refused_by_driver(&self) -> bool {
        let bind = |step: &Step| matches!(step.attribute, Attribute::Bind(_));
        match self {
            Self::Failed { .. } if self.is_hung() => false,
            Self::Failed { step, cause, .. } => match cause {
                Cause::Errno(errno) => step.as_ref().is_some_and(bind) && !is_exhaustion(*errno),
                Cause::Elsewhere(_) => true,
            },
            _ => false,
        }
    }

    /// True when the device is not in this host any more.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Unreadable { errno, .. } if *errno == Errno::ENODEV)
    }

    /// True when the driver has waited for the device in vain, and the device is as it was before.
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

    /// True when it is about `device`.
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

    /// The same, after a later attempt has put the device back.
    #[must_use]
    pub fn restore_drivers(mut self) -> Self {
        if let Self::Failed { undone, .. } = &mut self {
            *undone = Ok(());
        }
        self
    }

    /// The errno behind it; EBUSY or ENODEV where the kernel gave none.
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
        Err(error) => format!("; it could not be put back: {error}"),
    }
}

fn reason(step: Option<&Step>, cause: &Cause) -> String {
    match cause {
        Cause::Errno(errno) => match step {
            Some(step) => meaning(step, *errno),
            None => format!("its driver cannot be read back: {}", describe(*errno)),
        },
        Cause::Elsewhere(Some(driver)) => format!("it is on '{driver}' now"),
        Cause::Elsewhere(None) => "it is on no driver now".to_owned(),
    }
}

/// What an errno of a write means (drivers/base/bus.c, dd.c; drivers/vfio/pci).
fn meaning(step: &Step, errno: Errno) -> String {
    let what = match (&step.attribute, errno) {
        (_, Errno::EACCES | Errno::EPERM) => "only root may do this",
        (_, Errno::ETIMEDOUT) => {
            "the kernel did not answer in time, and the write may be under way"
        }
        (Attribute::Bind(_), Errno::ETIME) => {
            "the GPU did not become ready within the driver's 30 s"
        }
        (Attribute::Bind(_), Errno::ENODEV) => "the driver does not take it, or it is gone",
        (Attribute::Bind(_), Errno::EBUSY) => {
            "it is bound already, has virtual functions, or its IOMMU group is in use"
        }
        (Attribute::Bind(_), Errno::EAGAIN) => "the driver waits for another device",
        (Attribute::Bind(_), Errno::EINVAL) => "the driver does not take this kind of function",
        (Attribute::Bind(_) | Attribute::Unbind(_), Errno::ENOENT) => {
            "the driver is not registered"
        }
        (Attribute::Unbind(_), Errno::ENODEV) => "it is not on that driver any more",
        (Attribute::Override(_), Errno::ENOENT) => "it is gone",
        _ => {
            let verb = step.attribute.path();
            return format!("cannot write '{}': {}", verb.display(), describe(errno));
        }
    };
    format!("{what} ({errno:?})")
}

fn no_module(errno: Errno) -> String {
    match errno {
        Errno::ENOENT => "no module of this kernel has it".to_owned(),
        Errno::ETIMEDOUT => "modprobe has not ended in time, and may be under way".to_owned(),
        other => describe(other),
    }
}

fn unlocked(errno: Option<Errno>) -> String {
    match errno {
        Some(errno) => format!("cannot write its unbindLock: {}", describe(errno)),
        None => "NVIDIA's driver counts users of it and does not give its unbindLock".to_owned(),
    }
}

fn list(processes: &[u32]) -> String {
    let ids: Vec<String> = processes.iter().map(|id| format!("pid {id}")).collect();
    ids.join(", ")
}
