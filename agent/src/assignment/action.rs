//! What the caller does after an event, once the record is written.

use super::record::Record;

/// The record from now on, and what is done then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// What is written first; `None` when the record ends.
    pub(crate) record: Option<Record>,
    pub(crate) actions: Vec<Action>,
}

/// One thing to do. None of them waits for libvirt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Bind the device to the record's target; `Bound` or `NotBound` follows.
    Bind,
    /// Bring the device to the state that this bind found; `Restored` or `NotRestored` follows.
    Undo,
    /// Bring the device to the state before; `Restored` or `NotRestored` follows.
    Restore(Restore),
    /// Try again later, by `Resumed`.
    Retry,
    /// Refuse the request; nothing changes.
    Refuse(Refused),
}

/// How a device is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Restore {
    /// A guest has run with it: the configuration's `release` says where it goes.
    pub(crate) by_policy: bool,
    /// A write of an earlier change may be under way: its end is waited for before the state is read.
    pub(crate) certain: bool,
}

/// Why a request is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// A domain has it.
    Taken,
    /// An earlier change of it was not taken back.
    Degraded,
}

impl Step {
    pub(super) fn new(record: Option<Record>, actions: impl IntoIterator<Item = Action>) -> Self {
        Self {
            record,
            actions: actions.into_iter().collect(),
        }
    }

    /// The first thing to do.
    pub(crate) fn action(&self) -> Option<Action> {
        self.actions.first().copied()
    }

    /// How the device is restored, where that is the first thing to do.
    pub(crate) fn restore(&self) -> Option<Restore> {
        match self.action() {
            Some(Action::Restore(restore)) => Some(restore),
            _ => None,
        }
    }
}
