//! An answer with its reason: yes, no, or not to be told.

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};

use crate::code::Code;

/// Whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It does.
    Yes,
    /// It does not, by this rule.
    No(Finding),
    /// It cannot be told, for this reason.
    Open(Finding),
}

/// A rule, where it fails, and in words how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The stable code.
    pub code: Code,
    /// The function of the host at which it fails, if at one.
    pub at: Option<PciAddress>,
    /// Why: lower case, no full stop.
    pub reason: String,
}

/// An answer for each width.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerWidth([Answer; 3]);

impl Finding {
    /// A finding at no function in particular.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>) -> Self {
        Self {
            code,
            at: None,
            reason: reason.into(),
        }
    }

    /// The same, at a function of the host.
    #[must_use]
    pub fn at(mut self, address: PciAddress) -> Self {
        self.at = Some(address);
        self
    }
}

impl Answer {
    /// True or false; `None` where it cannot be told.
    #[must_use]
    pub fn ok(&self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No(_) => Some(false),
            Self::Open(_) => None,
        }
    }

    /// The rule and the reason, unless it is a plain yes.
    #[must_use]
    pub fn finding(&self) -> Option<&Finding> {
        match self {
            Self::Yes => None,
            Self::No(finding) | Self::Open(finding) => Some(finding),
        }
    }

    /// Both: a no wins over what cannot be told, and the first reason over the second.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        match (self, other) {
            (Self::No(_), _) | (Self::Open(_), Self::Yes | Self::Open(_)) => self.clone(),
            _ => other.clone(),
        }
    }

    /// All of them.
    pub(super) fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        answers
            .into_iter()
            .fold(Self::Yes, |sum, next| sum.and(&next))
    }
}

impl PerWidth {
    /// One answer per width.
    pub(super) fn each(mut answer: impl FnMut(Width) -> Answer) -> Self {
        Self(Width::ALL.map(&mut answer))
    }

    pub(super) fn map(&self, change: impl Fn(&Answer) -> Answer) -> Self {
        Self(self.0.each_ref().map(change))
    }

    /// The answer for a width.
    #[must_use]
    pub fn of(&self, width: Width) -> &Answer {
        match width {
            Width::Bits32 => &self.0[0],
            Width::Bits64 => &self.0[1],
            Width::Bits128 => &self.0[2],
        }
    }

    /// The answers by width, ascending.
    pub fn iter(&self) -> impl Iterator<Item = (Width, &Answer)> {
        Width::ALL.into_iter().zip(&self.0)
    }

    /// The widths of which the answer is yes.
    #[must_use]
    pub fn granted(&self) -> Widths {
        let yes = self.iter().filter(|(_, answer)| **answer == Answer::Yes);
        yes.map(|(width, _)| width).collect()
    }
}
