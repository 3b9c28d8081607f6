//! How much each code asks of whoever reads it.

use std::fmt;

/// How much a code asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// To be known; nothing is to be done.
    Note,
    /// The guest will run, and perhaps not as it should.
    Warning,
    /// `prepare` adds it; a guest without it is not started.
    Missing,
    /// `variantctl doctor` finds it: a guest will not start, or not as it should.
    Failure,
    /// Nothing is done until it is mended.
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
