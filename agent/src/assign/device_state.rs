//! How each device stands that is, or is becoming, bound: what callers see of the records.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;

use super::Assigner;
use crate::assignment::Phase;
use crate::libvirt::DomainRef;
use crate::notifier::Notifier;
use crate::record::Manual;

/// How a device stands, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nobody has it.
    Free,
    /// It is reserved, and not bound.
    Reserved,
    /// It is being bound.
    Binding,
    /// It is bound: for a domain, by hand or by its reservation.
    Bound,
    /// It is being given back.
    Releasing,
    /// A change of it was left half-way.
    Degraded,
}

/// How a device stands, and for whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceState {
    /// In a word.
    pub condition: Condition,
    /// The domain that has it.
    pub domain: Option<DomainRef>,
    /// The driver it goes back to.
    pub previous: Option<DriverName>,
    /// Another process works on it, which rings no bell.
    pub elsewhere: bool,
}

impl Condition {
    /// The word, as on the bus.
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
    fn new(condition: Condition, before: Option<Before>) -> Self {
        Self {
            condition,
            domain: None,
            previous: before.and_then(|before| before.driver),
            elsewhere: false,
        }
    }
}

/// Work on a device outside of any guest; dropping it ends it.
pub(super) struct AtWork<'a>(&'a Assigner, PciAddress);

impl Assigner {
    /// How each device stands that is bound or worked on; what is not here is free, unless
    /// [`unread`](Self::unread) says otherwise.
    #[must_use]
    pub fn device_states(&self) -> BTreeMap<PciAddress, DeviceState> {
        let mut all = BTreeMap::new();
        let records = self.records.readable();
        for manual in records.iter().filter_map(|record| record.manual.as_ref()) {
            all.insert(manual.device, self.recorded(manual));
        }
        for (device, condition) in self.work().iter() {
            let device_state = all.entry(*device);
            let device_state = device_state.or_insert_with(|| DeviceState::new(*condition, None));
            device_state.condition = *condition;
            device_state.elsewhere = false;
        }
        for record in records {
            if let Some(of) = record.domain {
                let device_state = DeviceState {
                    domain: Some(of.domain),
                    ..DeviceState::new(of.record.phase.into(), of.record.before)
                };
                all.insert(record.device, device_state);
            }
        }
        all
    }

    /// Returns once each lock was had that a call may need.
    pub fn answers(&self) {
        self.records.answers();
        drop(self.claims.lock());
        drop(self.orphans());
        drop(self.work());
        self.locks.answer();
    }

    /// Rings when one of them may have changed.
    #[must_use]
    pub fn notifier(&self) -> &Notifier {
        self.records.notifier()
    }

    /// From now on the device is being bound or released by hand; called with its lock.
    pub(super) fn at_work(&self, device: PciAddress, condition: Condition) -> AtWork<'_> {
        self.work().insert(device, condition);
        self.notifier().notify();
        AtWork(self, device)
    }

    /// A record that is not `bound` is of another process at work, or was left so.
    fn recorded(&self, manual: &Manual) -> DeviceState {
        let condition = match manual.is_unsettled() {
            false => Condition::Bound,
            true if self.records.is_locked(manual.device) => Condition::Binding,
            true => Condition::Degraded,
        };
        let elsewhere = condition == Condition::Binding;
        DeviceState {
            elsewhere,
            ..DeviceState::new(condition, manual.record.before.clone())
        }
    }

    fn work(&self) -> MutexGuard<'_, BTreeMap<PciAddress, Condition>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Assigner {
    /// Nobody can claim a device meanwhile.
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
