//! The severity of a code.

use std::fmt;

/// The effect of a finding with this code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Information; no action is needed.
    Note,
    /// The guest will run, possibly with reduced function.
    Warning,
    /// `prepare` adds the element; the hook refuses a guest without it.
    Missing,
    /// A finding of `variantctl doctor`: a guest will not start, or not work correctly.
    Failure,
    /// variantd changes nothing until the cause is fixed.
    Refusal,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Missing => "missing",
            Self::Failure => "failure",
            Self::Refusal => "refusal",
        })
    }
}
