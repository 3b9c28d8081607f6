//! Restores the previous state of one device, and handles a previous driver that no longer exists.
//!
//! ```text
//! the previous driver accepts it -----------------------------> previous state
//! it is not registered, and has no module that loads ----------> no driver, override cleared, warning
//! it exists and refuses the device: retried automatically ----> previous state, once it accepts
//!                                    on `recover` ------------> no driver, override cleared, warning
//! the device was removed --------------------------------------> nothing to do
//! ```

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use kernel_glue::rebind::{self, Before, Outcome, RebindError};
use tracing::warn;

use super::{Assigner, SharedKernel, error};
use crate::assignment::OwnerKind;
use crate::journald;
use crate::metrics::Metrics;
use domain::refusal::Refusal;

/// The handling of a device that its previous driver refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnRefusal {
    /// It stays recorded, and is retried.
    Kept,
    /// It ends without a driver: an administrator requested a state from which guests can start.
    Freed,
}

/// How a device is restored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Return {
    /// Waits until no write of an earlier change is in progress.
    pub(super) certain: bool,
    pub(super) on_refusal: OnRefusal,
}

/// The state of a device after a restore.
#[derive(Debug)]
pub(super) struct Returned {
    pub(super) outcome: Outcome,
    pub(super) to: Before,
    /// Why it is not bound to its previous driver.
    pub(super) note: Option<Refusal>,
}

/// Ends an owner's use of a device: as [`bring_back`], and counted.
pub(super) fn give_back(
    kernel: &SharedKernel,
    metrics: &Metrics,
    owner: OwnerKind,
    device: PciAddress,
    goal: &Before,
    way: Return,
) -> Result<Returned, RebindError> {
    let outcome = |returned: &Returned| returned.outcome;
    let work = || bring_back(kernel, device, goal, way);
    metrics.release(owner, outcome, work)
}

/// Restores a device to a state, or to no driver if that state's driver does not exist.
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
            warn!("'{device}' was removed from this host: nothing to release");
            (Outcome::AlreadySo, goal.clone(), None)
        }
        Err(error) if is_final(&error, way.on_refusal) => {
            // An override that names a missing driver would keep every other driver away (pci_match_device: set and different, no match).
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
    /// Why a free device is not bound to its previous driver.
    #[must_use]
    pub fn note(&self, device: PciAddress) -> Option<String> {
        self.notes().get(&device).map(ToString::to_string)
    }

    /// Sets the note about a device; removes it if the device was claimed.
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

fn is_final(error: &RebindError, on_refusal: OnRefusal) -> bool {
    error.lacks_driver() || on_refusal == OnRefusal::Freed && error.is_refused_by_driver()
}
