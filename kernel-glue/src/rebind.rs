//! Binds a device to another driver as a transaction: it is done, or it is as it was before.
//!
//! ```text
//! there:  (unbindLock = 1)   override = new    unbind old    bind new    the driver link says new
//! back:   override = old    unbind new    bind old    override = its text before
//! ```
//!
//! The override comes first, so that no other driver claims the device in the gap. On the way back
//! it must name the old driver before that is bound: the kernel still sees the new override. Never
//! unbinds a device whose VFIO node is open: that would block for ever, and unplug it from a guest.

use std::fmt;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::kernel::{Attribute, Kernel, shown};

pub use error::{Cause, RebindError, UndoError};

mod error;
mod lock;

/// No word of runtime power management's.
const NO_WORD: &str = "settle";

/// The wish to have a device on a driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rebind {
    /// The device.
    pub device: PciAddress,
    /// The driver, as the kernel spells it (see [`Kernel::registered`]).
    pub to: DriverName,
}

/// How a device was bound: what a caller journals before the first write, and what is restored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    /// The driver it was on.
    pub driver: Option<DriverName>,
    /// Its override text.
    pub driver_override: Option<String>,
}

/// One write; prints as `path <- value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The file.
    pub attribute: Attribute,
    /// What is written; empty clears an override.
    pub value: String,
}

/// What it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The device was bound, and is.
    Done,
    /// Nothing was written: it was so already.
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
    /// Reads how `device` is bound now.
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

    /// What is left of this state where its driver cannot be had any more: no driver, and an override only when it
    /// names another one, so that any driver for the device may take it.
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
    /// The writes that lead from `before` to the driver, in order; none when it is so already.
    #[must_use]
    pub fn plan(&self, before: &Before) -> Vec<Step> {
        if before.driver.as_ref() == Some(&self.to) {
            return Vec::new();
        }
        switch(self.device, before.driver.as_ref(), &self.to)
    }

    /// Binds the device, loading the driver's module when it is not registered. `before` is what
    /// [`Before::read`] said and the caller journalled.
    ///
    /// # Errors
    /// [`RebindError`]; the device is as it was before unless `is_degraded` says otherwise.
    pub fn apply(&self, kernel: &dyn Kernel, before: &Before) -> Result<Outcome, RebindError> {
        let steps = self.plan(before);
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

/// Gives a device back: the driver and the override text that it had before, whatever it has now.
///
/// # Errors
/// [`RebindError`]; the device is as it was when this was called unless `is_degraded` says
/// otherwise. [`RebindError::InUse`] while a guest holds it.
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

/// As [`restore`], once no earlier write for the device is under way any more. It must be waited for before the
/// state is read: a driver link shows while its probe runs and is gone while its remove does, and Linux 7.2 has
/// the override changed without the device's lock, also in the middle of a probe.
///
/// # Errors
/// As [`restore`]; `is_hung` while an earlier write is under way, and nothing was written then.
pub fn settle(
    kernel: &dyn Kernel,
    device: PciAddress,
    before: &Before,
) -> Result<Outcome, RebindError> {
    Before::read(kernel, device)?;
    await_turn(kernel, device, before)?;
    restore(kernel, device, before)
}

/// Waits for the device's lock; a kernel without runtime power management has no file for that.
fn await_turn(kernel: &dyn Kernel, device: PciAddress, wanted: &Before) -> Result<(), RebindError> {
    let step = Step {
        attribute: Attribute::Barrier(device),
        value: NO_WORD.to_owned(),
    };
    match kernel.write(&step.attribute, &step.value) {
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

/// A crash before the unbind leaves the lock taken; where a step unbinds, it ends with the binding.
fn unlock(kernel: &dyn Kernel, device: PciAddress, steps: &[Step]) -> Result<(), RebindError> {
    match steps.iter().any(Step::unbinds) {
        true => Ok(()),
        false => lock::release(kernel, device),
    }
}

/// Takes the steps, and on a failure the way back to `from`.
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
    refuse_users(kernel, device, steps)?;
    load(kernel, device, wanted)?;
    let locked = lock::take(kernel, device, steps)?;
    let Err((step, cause)) = take(kernel, device, steps, wanted) else {
        return Ok(Outcome::Done);
    };
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

/// Writes the steps; then the driver link must name what is wanted.
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
    match kernel.driver(device) {
        Err(errno) => Err((None, Cause::Errno(errno))),
        Ok(driver) if driver == wanted.driver => Ok(()),
        Ok(driver) => Err((None, Cause::Elsewhere(driver))),
    }
}

/// Brings the device back from wherever it is, and reads that it is back.
fn undo(kernel: &dyn Kernel, device: PciAddress, from: &Before) -> Result<(), UndoError> {
    let now = Before::read(kernel, device).map_err(unread)?;
    let steps = way(device, &now, from);
    refuse_users(kernel, device, &steps).map_err(unread)?;
    take(kernel, device, &steps, from).map_err(|(step, cause)| UndoError::new(step, cause))?;
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
    if named != wanted.driver_override {
        steps.push(text(device, wanted));
    }
    steps
}

fn text(device: PciAddress, wanted: &Before) -> Step {
    Step {
        attribute: Attribute::Override(device),
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
    if !steps.iter().any(Step::unbinds) {
        return Ok(());
    }
    match kernel.vfio_users(device) {
        Err(errno) => Err(RebindError::UsersHidden { device, errno }),
        Ok(users) if users.is_empty() => Ok(()),
        Ok(processes) => Err(RebindError::InUse { device, processes }),
    }
}

/// Loads the module of the wanted driver; module names are the driver's with underscores.
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
