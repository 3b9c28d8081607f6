//! Why a verb did not do what was asked, and the exit status that says so.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use super::hint;
use crate::code::Code;
use crate::refusal::Refusal;

/// Why a verb failed.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// We will not.
    Refused(Refusal),
    /// We could not.
    Failed(String),
    /// There is no such device, file or domain.
    NotFound(String),
    /// The agent does not answer.
    Unreachable(String),
    /// The arguments contradict each other.
    Usage(String),
    /// Checks failed, and everything about them was printed.
    Found,
}

impl Problem {
    pub(super) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Refused(_) | Self::Failed(_) | Self::Found => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable(_) => 4,
        })
    }

    /// The same with words before it, where the asked for was not found.
    pub(super) fn with(self, words: &str) -> Self {
        match self {
            Self::NotFound(text) => Self::NotFound(format!("{words}: {text}")),
            Self::Unreachable(text) => Self::Unreachable(format!("{words}: {text}")),
            other => other,
        }
    }

    /// The same with the host that was asked about in each command that reads one.
    pub(super) fn for_host(self, host: &Path) -> Self {
        let named = |text: &str| hint::for_host(text, host);
        match self {
            Self::Refused(refusal) => Self::Refused(Refusal {
                mend: refusal.mend.map(named),
                ..refusal
            }),
            Self::Failed(text) => Self::Failed(named(&text)),
            Self::NotFound(text) => Self::NotFound(named(&text)),
            Self::Unreachable(_) | Self::Usage(_) | Self::Found => self,
        }
    }

    /// The stable code, where there is one; the agent's sentences have theirs in parentheses.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Failed(text) | Self::NotFound(text) | Self::Unreachable(text) => text
                .split(['(', ')'])
                .find_map(|part| part.parse::<Code>().ok()),
            Self::Usage(_) | Self::Found => None,
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(text)
            | Self::NotFound(text)
            | Self::Unreachable(text)
            | Self::Usage(text) => f.write_str(text),
            Self::Found => f.write_str("a check failed"),
        }
    }
}
