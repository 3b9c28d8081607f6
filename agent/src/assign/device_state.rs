//! The state of each device that is bound or being changed: the records as callers see them.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

use super::Assigner;
use crate::assignment::{OwnerKind, Phase};
use crate::libvirt::DomainRef;
use crate::notifier::Notifier;
use crate::record::Manual;

/// The state of a device as a keyword.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// No owner has it.
    Free,
    /// It is reserved, and not bound.
    Reserved,
    /// It is being bound.
    Binding,
    /// It is bound: for a domain, manually or by its reservation.
    Bound,
    /// It is being released.
    Releasing,
    /// A change of it was interrupted.
    Degraded,
}

/// The state of a device and its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// The keyword.
    pub condition: Condition,
    /// Its owner.
    pub owner: OwnerKind,
    /// The domain that has it.
    pub domain: Option<DomainRef>,
    /// The driver that a release restores.
    pub previous: Option<DriverName>,
    /// Another process changes it, and its end causes no notification.
    pub elsewhere: bool,
}

impl Condition {
    /// The keyword, as on D-Bus.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Reserved => "reserved",
            Self::Binding => "binding",
            Self::Bound => "bound",
            Self::Releasing => "releasing",
            Self::Degraded => "degraded",
        }
    }
}

impl From<Phase> for Condition {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Binding => Self::Binding,
            Phase::Bound => Self::Bound,
            Phase::Releasing => Self::Releasing,
            Phase::Degraded => Self::Degraded,
        }
    }
}

impl DeviceState {
    fn new(condition: Condition, owner: OwnerKind, before: Option<Before>) -> Self {
        Self {
            condition,
            owner,
            domain: None,
            previous: before.and_then(|before| before.driver),
            elsewhere: false,
        }
    }
}

/// Work on a device outside of any guest; dropping it ends it.
pub(super) struct AtWork<'a>(&'a Assigner, PciAddress);

impl Assigner {
    /// The states of all devices that are bound or being changed; a device that is not in the map is free, unless
    /// [`unread`](Self::unread) returns an error.
    #[must_use]
    pub fn device_states(&self) -> BTreeMap<PciAddress, DeviceState> {
        let mut all = BTreeMap::new();
        let records = self.records.readable();
        for manual in records.iter().filter_map(|record| record.manual.as_ref()) {
            all.insert(manual.device, self.recorded(manual));
        }
        // After the records: work of this process is newer than its record.
        for (device, condition) in self.work().iter() {
            let device_state = all.entry(*device);
            let device_state = device_state
                .or_insert_with(|| DeviceState::new(*condition, OwnerKind::Manual, None));
            device_state.condition = *condition;
            device_state.elsewhere = false;
        }
        // Last, so that the guest's record wins: a manual record stays below it while a guest uses a manually bound device.
        for record in records {
            if let Some(of) = record.domain {
                let device_state = DeviceState {
                    domain: Some(of.domain),
                    ..DeviceState::new(of.record.phase.into(), OwnerKind::Guest, of.record.before)
                };
                all.insert(record.device, device_state);
            }
        }
        all
    }

    /// Takes each lock that a call may need, and returns.
    pub fn answers(&self) {
        self.records.answers();
        drop(self.claims.lock());
        drop(self.orphans());
        drop(self.work());
        self.locks.answer();
    }

    /// Notifies when a device state may have changed.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        self.records.notifier()
    }

    /// Marks the device as being bound or released manually; called with its lock.
    pub(super) fn at_work(&self, device: PciAddress, condition: Condition) -> AtWork<'_> {
        self.work().insert(device, condition);
        self.notifier().notify();
        AtWork(self, device)
    }

    /// A record that is not `bound` belongs to another process at work, or to an interrupted change.
    fn recorded(&self, manual: &Manual) -> DeviceState {
        let condition = match manual.is_unsettled() {
            false => Condition::Bound,
            true if self.records.is_locked(manual.device) => Condition::Binding,
            true => Condition::Degraded,
        };
        let elsewhere = condition == Condition::Binding;
        let owner = manual.owner_kind();
        DeviceState {
            elsewhere,
            domain: manual.purpose.guest.clone(),
            ..DeviceState::new(condition, owner, manual.record.before.clone())
        }
    }

    fn work(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Condition>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Assigner {
    /// Prevents claims of devices until it is dropped.
    pub(crate) fn hold_claims(&self) -> MutexGuard<'_, std::collections::BTreeSet<PciAddress>> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.work().remove(&self.1);
        self.0.notifier().notify();
    }
}
