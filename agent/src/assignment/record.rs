//! The record of a device: its owner, its previous state, and its phase.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::{Deserialize, Serialize};

/// An assignment of a device and its phase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// The owner.
    pub owner: Owner,
    /// The driver that it was, or is about to be, bound to.
    pub target: DriverName,
    /// Previous driver and override; `None` if the device was found in a running guest, and then it stays as it is.
    pub before: Option<Before>,
    /// The phase.
    pub phase: Phase,
    /// The driver that the same owner had bound before, to which a failed bind returns. Not stored: after a crash a
    /// device is restored to `before`.
    pub replaces: Option<DriverName>,
}

/// The owner of an assignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// A guest. It may borrow a device that an administrator has bound.
    Domain,
    /// An administrator.
    Admin,
    /// A reservation, on behalf of an administrator: handled like one.
    Reservation,
}

/// The kind of a device's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerKind {
    /// A guest, also one whose libvirt is not this host's.
    Guest,
    /// An administrator.
    Manual,
    /// A reservation.
    Reservation,
}

/// The phase of an assignment, which decides its handling after a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// Its bind has begun: its previous state is restored. No guest runs with it yet.
    Binding,
    /// It is bound to its driver: it stays while its owner needs it.
    Bound,
    /// Its release has begun: it is finished.
    Releasing,
    /// It could not be restored: that is retried, and no other bind of it begins before.
    Degraded,
}

impl OwnerKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Guest, Self::Manual, Self::Reservation];

    /// The keyword in the metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Manual => "manual",
            Self::Reservation => "reservation",
        }
    }

    /// That of an owner; `for_guest`: it acts for a guest whose libvirt is not this host's.
    pub(crate) fn of(owner: Owner, for_guest: bool) -> Self {
        match owner {
            _ if for_guest => Self::Guest,
            Owner::Domain => Self::Guest,
            Owner::Admin => Self::Manual,
            Owner::Reservation => Self::Reservation,
        }
    }
}

impl Phase {
    /// True while a bind or release has not ended.
    #[must_use]
    pub fn is_unsettled(self) -> bool {
        self != Self::Bound
    }
}

impl Record {
    /// The same record in another phase.
    pub(super) fn at(&self, phase: Phase) -> Self {
        Self {
            phase,
            ..self.clone()
        }
    }

    /// Bound to the driver that this bind was to replace; none if there was none.
    pub(super) fn replaced(&self) -> Option<Self> {
        Some(Self {
            target: self.replaces.clone()?,
            replaces: None,
            phase: Phase::Bound,
            ..self.clone()
        })
    }
}
