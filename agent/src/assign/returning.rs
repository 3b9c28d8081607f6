//! The way of one device back to what it had before, and what comes of it where that cannot be had any more.
//!
//! ```text
//! the driver before takes it ---------------------------------> as before
//! it is not registered, and has no module that loads ----------> no driver, override cleared, warned
//! it is there and refuses the device: tried again by itself ---> as before, once it takes it
//!                                     asked for by `recover` --> no driver, override cleared, warned
//! the device is gone ------------------------------------------> nothing to do
//! ```

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use kernel_glue::rebind::{self, Before, Outcome, RebindError};
use tracing::warn;

use super::{Assigner, SharedKernel, error};
use crate::journald;
use domain::refusal::Refusal;

/// What becomes of a device that the driver before is there for and does not take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unwilling {
    /// It stays on record, and is tried again.
    Kept,
    /// It ends on no driver: an administrator asked for a state that guests can start from.
    Freed,
}

/// How a device is brought back.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// No write of an earlier change may be under way afterwards.
    pub(super) certain: bool,
    pub(super) unwilling: Unwilling,
}

/// Where a device is now.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) outcome: Outcome,
    pub(super) to: Before,
    /// Why it is not on the driver that it had before.
    pub(super) note: Option<Refusal>,
}

/// Brings a device to a state, or to no driver where that state's driver cannot be had.
pub(super) fn bring_back(
    kernel: &SharedKernel,
    device: PciAddress,
    goal: &Before,
    way: Return,
) -> Result<Returned, RebindError> {
    let to = |goal: &Before| match way.certain {
        true => rebind::settle(kernel, device, goal),
        false => rebind::restore(kernel, device, goal),
    };
    let (outcome, to, note) = match to(goal) {
        Err(error) if error.is_gone() => {
            warn!("'{device}' is gone from this host: nothing to give back");
            (Outcome::AlreadySo, goal.clone(), None)
        }
        Err(error) if is_final(&error, way.unwilling) => {
            let bare = goal.without_driver();
            let outcome = to(&bare)?;
            let note = error::left_without_driver(device, goal.driver.as_ref(), &error);
            let message_id = journald::GIVEN_BACK;
            warn!(variantd_device = %device, message_id, "{note}");
            (outcome, bare, Some(note))
        }
        result => (result?, goal.clone(), None),
    };
    Ok(Returned { outcome, to, note })
}

impl Assigner {
    /// Why a device that nobody has is not on the driver that it had before.
    #[must_use]
    pub fn note(&self, device: PciAddress) -> Option<String> {
        self.notes().get(&device).map(ToString::to_string)
    }

    /// From now on that is said of a device; nothing, where it has been claimed.
    pub(super) fn set_note(&self, device: PciAddress, note: Option<&Refusal>) {
        match note {
            Some(note) => drop(self.notes().insert(device, note.clone())),
            None => drop(self.notes().remove(&device)),
        }
    }

    fn notes(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Refusal>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_final(error: &RebindError, unwilling: Unwilling) -> bool {
    error.lacks_driver() || unwilling == Unwilling::Freed && error.is_refused_by_driver()
}
