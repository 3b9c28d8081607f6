//! The operations and states of jobs.

use crate::bus::BusError;
use crate::bus::about::shown;
use crate::bus::method::{self, Method};

/// A method that can be a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum Operation {
    Prepare,
    Revert,
    Bind,
    Release,
    Recover,
}

/// The state of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::bus) enum State {
    Waiting,
    Working,
    Done,
    Failed,
    Cancelled,
}

impl Operation {
    pub(in crate::bus) const ALL: [(&str, Self); 5] = [
        ("prepare", Self::Prepare),
        ("revert", Self::Revert),
        ("bind", Self::Bind),
        ("release", Self::Release),
        ("recover", Self::Recover),
    ];

    /// Its method of `Manager`.
    pub(in crate::bus) fn method(self) -> &'static Method {
        let mut methods = method::ALL.iter();
        let found = methods.find(|method| method.operation == Some(self));
        found.expect("each operation has a method: a test says so")
    }

    pub(in crate::bus) fn parse(text: &str) -> Result<Self, BusError> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, operation)| *operation).ok_or_else(|| {
            let known = Self::ALL.map(|(name, _)| format!("'{name}'")).join(", ");
            BusError::failed(format!("'{}' cannot be a job; {known} can", shown(text)))
        })
    }

    pub(super) fn as_str(self) -> &'static str {
        let found = Self::ALL.iter().find(|(_, operation)| *operation == self);
        found.map_or("", |(name, _)| name)
    }
}

impl State {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Working => "working",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True for a final state.
    pub(in crate::bus) fn is_end(self) -> bool {
        !matches!(self, Self::Waiting | Self::Working)
    }
}
