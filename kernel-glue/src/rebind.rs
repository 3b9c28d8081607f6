//! Binds a device to another driver as a transaction: it succeeds, or the previous state is restored.
//!
//! ```text
//! forward:  (unbindLock = 1)   override = new    unbind old    bind new    the driver link must name new
//! undo:     override = old    unbind new    bind old    override = its text before
//! ```
//!
//! The override comes first, so that no other driver claims the device between unbind and bind. During the undo the
//! override must name the old driver before the bind: otherwise the kernel still applies the new override. Never
//! unbinds a device whose VFIO node is open: that would block forever, and unplug the device from a guest.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::kernel::{Attribute, Kernel, shown};

pub use error::{Cause, RebindError, UndoError};

mod error;
mod lock;

/// Not a keyword of runtime power management, so the kernel refuses it.
const UNKNOWN_KEYWORD: &str = "settle";

/// The request to bind a device to a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebind {
    /// The device.
    pub device: PciAddress,
    /// The driver, as the kernel spells it (see [`Kernel::registered`]).
    pub to: DriverName,
}

/// The previous state of a device: a caller journals it before the first write, and restores it later.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// Its driver.
    pub driver: Option<DriverName>,
    /// Its override text.
    pub driver_override: Option<String>,
}

/// One write; prints as `path <- value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file.
    pub attribute: Attribute,
    /// The written text; empty clears an override.
    pub value: String,
}

/// The result of a rebind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device was bound.
    Done,
    /// Nothing was written: the device was already bound.
    AlreadySo,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.attribute, shown(&self.value))
    }
}

impl Step {
    fn unbinds(&self) -> bool {
        matches!(self.attribute, Attribute::Unbind(_))
    }
}

impl Before {
    /// Reads the current state of `device`.
    ///
    /// # Errors
    /// [`RebindError::Unreadable`].
    pub fn read(kernel: &dyn Kernel, device: PciAddress) -> Result<Self, RebindError> {
        let unreadable = |errno| RebindError::Unreadable { device, errno };
        Ok(Self {
            driver: kernel.driver(device).map_err(unreadable)?,
            driver_override: kernel.driver_override(device).map_err(unreadable)?,
        })
    }

    /// This state if its driver no longer exists: no driver, and the override only if it names another driver, so that
    /// any driver for the device may bind it.
    #[must_use]
    pub fn without_driver(&self) -> Self {
        let missing = self.driver.as_ref().map(DriverName::as_str);
        let text = self.driver_override.clone();
        Self {
            driver: None,
            driver_override: text.filter(|text| Some(text.as_str()) != missing),
        }
    }
}

impl Rebind {
    /// The writes that lead from `before` to the driver, in order; empty if it is bound already.
    #[must_use]
    pub fn plan(&self, before: &Before) -> Vec<Step> {
        // The override is left alone here: the kernel reads it only when it matches a driver, and the device has one.
        if before.driver.as_ref() == Some(&self.to) {
            return Vec::new();
        }
        switch(self.device, before.driver.as_ref(), &self.to)
    }

    /// Binds the device, and loads the driver's module if it is not registered. `before` is the result of
    /// [`Before::read`] that the caller journalled.
    ///
    /// # Errors
    /// [`RebindError`]; the previous state is restored unless `is_degraded`.
    pub fn apply(&self, kernel: &dyn Kernel, before: &Before) -> Result<Outcome, RebindError> {
        let steps = self.plan(before);
        // libvirt (`managed='yes'`) or driverctl may have written these files since the caller read them: nothing locks them.
        if Before::read(kernel, self.device)? != *before {
            return Err(RebindError::Changed(self.device));
        }
        let wanted = Before {
            driver: Some(self.to.clone()),
            driver_override: Some(self.to.to_string()),
        };
        transact(kernel, self.device, &steps, before, &wanted)
    }
}

/// Restores the driver and the override text that a device had before, from any current state.
///
/// # Errors
/// [`RebindError`]; the device has the state that it had at the call unless `is_degraded`. [`RebindError::InUse`] while
/// a guest holds it.
pub fn restore(
    kernel: &dyn Kernel,
    device: PciAddress,
    before: &Before,
) -> Result<Outcome, RebindError> {
    let now = Before::read(kernel, device)?;
    let steps = way(device, &now, before);
    unlock(kernel, device, &steps)?;
    transact(kernel, device, &steps, &now, before)
}

/// Like [`restore`], after every earlier write for the device has ended. It must wait before it reads the state: a
/// driver link exists during the probe and does not exist during the remove, and Linux 7.2 changes the override without
/// the device's lock, also during a probe.
///
/// # Errors
/// As [`restore`]; `is_hung` while an earlier write is in progress, and nothing was written then.
pub fn settle(
    kernel: &dyn Kernel,
    device: PciAddress,
    before: &Before,
) -> Result<Outcome, RebindError> {
    // A removed device has no barrier file either; this read reports it as gone.
    Before::read(kernel, device)?;
    await_turn(kernel, device, before)?;
    restore(kernel, device, before)
}

/// Waits for the device's lock; a kernel without runtime power management has no file for that.
fn await_turn(kernel: &dyn Kernel, device: PciAddress, wanted: &Before) -> Result<(), RebindError> {
    let step = Step {
        attribute: Attribute::Barrier(device),
        value: UNKNOWN_KEYWORD.to_owned(),
    };
    match kernel.write(&step.attribute, &step.value) {
        // EINVAL is the success: `control_store` takes the device's lock before it compares the keyword (drivers/base/power/sysfs.c).
        Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(RebindError::Failed {
            device,
            to: wanted.driver.clone(),
            step: Some(step),
            cause: Cause::Errno(errno),
            undone: Ok(()),
        }),
    }
}

/// A crash before the unbind leaves the lock taken. If a step unbinds, the lock ends with the binding.
fn unlock(kernel: &dyn Kernel, device: PciAddress, steps: &[Step]) -> Result<(), RebindError> {
    match steps.iter().any(Step::unbinds) {
        true => Ok(()),
        false => lock::release(kernel, device),
    }
}

/// Performs the steps, and on a failure the writes back to `from`.
fn transact(
    kernel: &dyn Kernel,
    device: PciAddress,
    steps: &[Step],
    from: &Before,
    wanted: &Before,
) -> Result<Outcome, RebindError> {
    if steps.is_empty() {
        return Ok(Outcome::AlreadySo);
    }
    // Both before the first write: a refusal then leaves nothing to undo.
    refuse_users(kernel, device, steps)?;
    load(kernel, device, wanted)?;
    let locked = lock::take(kernel, device, steps)?;
    let Err((step, cause)) = take(kernel, device, steps, wanted) else {
        return Ok(Outcome::Done);
    };
    // From the current state, not from the failed step: the errno of a write does not say how far the kernel came.
    let mut undone = undo(kernel, device, from);
    if locked {
        undone = undone.and(lock::release(kernel, device).map_err(unread));
    }
    Err(RebindError::Failed {
        device,
        to: wanted.driver.clone(),
        step,
        cause,
        undone: undone.map_err(Box::new),
    })
}

/// Writes the steps; then the driver link must name the wanted driver.
fn take(
    kernel: &dyn Kernel,
    device: PciAddress,
    steps: &[Step],
    wanted: &Before,
) -> Result<(), (Option<Step>, Cause)> {
    for step in steps {
        kernel
            .write(&step.attribute, &step.value)
            .map_err(|errno| (Some(step.clone()), Cause::Errno(errno)))?;
    }
    // A bind that succeeds can still leave another driver: one that is bound by `drivers_probe` between two of the steps.
    match kernel.driver(device) {
        Err(errno) => Err((None, Cause::Errno(errno))),
        Ok(driver) if driver == wanted.driver => Ok(()),
        Ok(driver) => Err((None, Cause::Elsewhere(driver))),
    }
}

/// Restores the device from any state, and verifies it.
fn undo(kernel: &dyn Kernel, device: PciAddress, from: &Before) -> Result<(), UndoError> {
    let now = Before::read(kernel, device).map_err(unread)?;
    let steps = way(device, &now, from);
    // Again, because a process may have opened the device since the bind.
    refuse_users(kernel, device, &steps).map_err(unread)?;
    take(kernel, device, &steps, from).map_err(|(step, cause)| UndoError::new(step, cause))?;
    // The driver link alone does not show whether the override has its old text.
    match Before::read(kernel, device).map_err(unread)? {
        there if there == *from => Ok(()),
        there => Err(UndoError::new(None, Cause::Elsewhere(there.driver))),
    }
}

fn unread(error: RebindError) -> UndoError {
    UndoError::new(None, Cause::Errno(error.errno()))
}

/// The writes that lead from any state to any other.
fn way(device: PciAddress, now: &Before, wanted: &Before) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut named = now.driver_override.clone();
    if now.driver != wanted.driver {
        match &wanted.driver {
            Some(driver) => {
                steps.extend(switch(device, now.driver.as_ref(), driver));
                named = Some(driver.to_string());
            }
            None => steps.extend(unbind(device, now.driver.as_ref())),
        }
    }
    // Last, because the override must name the driver at its bind, also where none was set before.
    if named != wanted.driver_override {
        steps.push(text(device, wanted));
    }
    steps
}

fn text(device: PciAddress, wanted: &Before) -> Step {
    Step {
        attribute: Attribute::Override(device),
        // `Live` writes a newline for empty text: sysfs drops a write of no bytes before the driver core sees it.
        value: wanted.driver_override.clone().unwrap_or_default(),
    }
}

fn switch(device: PciAddress, old: Option<&DriverName>, new: &DriverName) -> Vec<Step> {
    let name = Step {
        attribute: Attribute::Override(device),
        value: new.to_string(),
    };
    let bind = Step {
        attribute: Attribute::Bind(new.clone()),
        value: device.to_string(),
    };
    [Some(name), unbind(device, old), Some(bind)]
        .into_iter()
        .flatten()
        .collect()
}

fn unbind(device: PciAddress, driver: Option<&DriverName>) -> Option<Step> {
    driver.map(|driver| Step {
        attribute: Attribute::Unbind(driver.clone()),
        value: device.to_string(),
    })
}

fn refuse_users(
    kernel: &dyn Kernel,
    device: PciAddress,
    steps: &[Step],
) -> Result<(), RebindError> {
    // A device without a driver has no VFIO files that a process could hold.
    if !steps.iter().any(Step::unbinds) {
        return Ok(());
    }
    match kernel.vfio_users(device) {
        Err(errno) => Err(RebindError::UsersHidden { device, errno }),
        Ok(users) if users.is_empty() => Ok(()),
        Ok(processes) => Err(RebindError::InUse { device, processes }),
    }
}

/// Loads the module of the wanted driver; module names are driver names with underscores.
fn load(kernel: &dyn Kernel, device: PciAddress, wanted: &Before) -> Result<(), RebindError> {
    let Some(driver) = &wanted.driver else {
        return Ok(());
    };
    let registered = || match kernel.registered(driver.as_str()) {
        Ok(found) => Ok(found.as_ref() == Some(driver)),
        Err(errno) => Err(RebindError::Unreadable { device, errno }),
    };
    if registered()? {
        return Ok(());
    }
    let errno = match kernel.load_module(&driver.as_str().replace('-', "_")) {
        // A module may load without error and register another driver, or none.
        Ok(()) if registered()? => return Ok(()),
        Ok(()) => Errno::ENOENT,
        Err(errno) => errno,
    };
    let driver = driver.clone();
    Err(RebindError::NoDriver {
        device,
        driver,
        errno,
    })
}

#[cfg(test)]
mod tests;
