//! The record of a device: who has it, what it had before, and how far a change of it has come.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::{Deserialize, Serialize};

/// What a device is assigned to, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who has it.
    pub owner: Owner,
    /// The driver it was, or is about to be, bound to.
    pub target: DriverName,
    /// Driver and override before; `None` when the device was found in a running guest, and then it stays where it is.
    pub before: Option<Before>,
    /// How far it is.
    pub phase: Phase,
    /// The driver that the same owner had bound it to, to which a bind that fails goes back. Not stored: after a crash
    /// a device goes back to `before`.
    pub replaces: Option<DriverName>,
}

/// Who a device is assigned to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A guest. It may borrow a device that an administrator has bound.
    Domain,
    /// An administrator.
    Admin,
    /// A reservation, on behalf of an administrator: all that is said of one holds for it.
    Reservation,
}

/// How far a device is, which decides what becomes of it after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its bind has begun: it goes back to what it had before. No guest runs with it yet.
    Binding,
    /// It is on its driver: it stays while its owner has a use for it.
    Bound,
    /// Its release has begun: it is finished.
    Releasing,
    /// It could not be restored: that is tried again, and no other bind of it begins before.
    Degraded,
}

impl Phase {
    /// True while neither a bind nor a release has come to its end.
    #[must_use]
    pub fn is_unsettled(self) -> bool {
        self != Self::Bound
    }
}

impl Record {
    /// The same, so far.
    pub(super) fn at(&self, phase: Phase) -> Self {
        Self {
            phase,
            ..self.clone()
        }
    }

    /// Bound to the driver that this bind was to replace; none where it was to replace nothing.
    pub(super) fn replaced(&self) -> Option<Self> {
        Some(Self {
            target: self.replaces.clone()?,
            replaces: None,
            phase: Phase::Bound,
            ..self.clone()
        })
    }
}
