//! The caller's actions after an event, once the record is written.

use super::record::Record;

/// The new record and the actions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Written first; `None` if the record ends.
    pub(crate) record: Option<Record>,
    pub(crate) actions: Vec<Action>,
}

/// One action. None waits for libvirt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Bind the device to the record's target; `Bound` or `NotBound` follows.
    Bind,
    /// Restore the state that this bind found; `Restored` or `NotRestored` follows.
    Undo,
    /// Restore the previous state; `Restored` or `NotRestored` follows.
    Restore(Restore),
    /// Retry later, by `Resumed`.
    Retry,
    /// Refuse the request; nothing changes.
    Refuse(Refused),
}

/// How a device is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restore {
    /// A guest has run with it: the configuration's `release` decides its driver.
    pub(crate) by_policy: bool,
    /// A write of an earlier change may be in progress: wait for its end before reading the state.
    pub(crate) certain: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A domain has it.
    Taken,
    /// An earlier change of it was not undone.
    Degraded,
}

impl Step {
    pub(super) fn new(record: Option<Record>, actions: impl IntoIterator<Item = Action>) -> Self {
        Self {
            record,
            actions: actions.into_iter().collect(),
        }
    }

    /// The first action.
    pub(crate) fn action(&self) -> Option<Action> {
        self.actions.first().copied()
    }

    /// The restore, if that is the first action.
    pub(crate) fn restore(&self) -> Option<Restore> {
        match self.action() {
            Some(Action::Restore(restore)) => Some(restore),
            _ => None,
        }
    }
}
