//! Why a verb failed, and its exit status.

use std::fmt;
use std::path::Path;
use std::process::ExitCode;

use super::hint;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

/// Why a verb failed.
#[derive(Clone, Debug)]
pub(super) enum Problem {
    /// Refused.
    Refused(Refusal),
    /// Refused, with another exit status or a message with a code.
    Coded(Exit, Coded),
    /// Failed.
    Failed(String),
    /// There is no such device, file or domain.
    NotFound(String),
    /// The agent does not answer.
    Unreachable(String),
    /// The arguments contradict each other.
    Usage(String),
    /// Checks failed, and their output is complete.
    Found,
}

/// The exit status of a problem that has a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exit {
    Failed = 1,
    NotFound = 3,
    Unreachable = 4,
}

/// A message and its code.
#[derive(Clone, Debug)]
pub(super) struct Coded {
    code: Code,
    /// A prefix of the message.
    before: String,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    /// With the code and the hint in it.
    Text(String),
    Refusal(Box<Refusal>),
}

impl Coded {
    /// A message that contains the code.
    pub(super) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            before: String::new(),
            content: Content::Text(text.into()),
        }
    }
}

impl From<Refusal> for Coded {
    fn from(refusal: Refusal) -> Self {
        Self {
            code: refusal.code,
            before: String::new(),
            content: Content::Refusal(Box::new(refusal)),
        }
    }
}

impl Coded {
    fn hint(&self) -> Option<&Hint> {
        match &self.content {
            Content::Refusal(refusal) => Some(&refusal.hint),
            Content::Text(_) => None,
        }
    }

    fn for_host(self, host: &Path) -> Self {
        let content = match self.content {
            Content::Refusal(refusal) => {
                Content::Refusal(Box::new(hint::refusal_for_host(*refusal, host)))
            }
            content @ Content::Text(_) => content,
        };
        Self { content, ..self }
    }
}

impl fmt::Display for Coded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.content {
            Content::Text(text) => write!(f, "{}{text}", self.before),
            Content::Refusal(refusal) => write!(f, "{}{refusal}", self.before),
        }
    }
}

impl Problem {
    pub(super) fn exit(&self) -> ExitCode {
        ExitCode::from(match self {
            Self::Coded(exit, _) => *exit as u8,
            Self::Refused(_) | Self::Failed(_) | Self::Found => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unreachable(_) => 4,
        })
    }

    /// No agent answers.
    pub(super) fn is_unreachable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_) | Self::Coded(Exit::Unreachable, _)
        )
    }

    /// Adds a prefix when the object was not found.
    pub(super) fn with(self, words: &str) -> Self {
        match self {
            Self::NotFound(text) => Self::NotFound(format!("{words}: {text}")),
            Self::Unreachable(text) => Self::Unreachable(format!("{words}: {text}")),
            Self::Coded(exit @ (Exit::NotFound | Exit::Unreachable), coded) => {
                let before = format!("{words}: {}", coded.before);
                Self::Coded(exit, Coded { before, ..coded })
            }
            other => other,
        }
    }

    /// Adds `--host` to each command that reads a host.
    pub(super) fn for_host(self, host: &Path) -> Self {
        match self {
            Self::Refused(refusal) => Self::Refused(hint::refusal_for_host(refusal, host)),
            // The agent that is not reachable is that of this host.
            Self::Coded(exit, coded) if exit != Exit::Unreachable => {
                Self::Coded(exit, coded.for_host(host))
            }
            other => other,
        }
    }

    /// The stable code, where there is one.
    pub(super) fn code(&self) -> Option<Code> {
        match self {
            Self::Refused(refusal) => Some(refusal.code),
            Self::Coded(_, coded) => Some(coded.code),
            _ => None,
        }
    }

    /// The hint, when it is not part of the message.
    pub(super) fn hint(&self) -> Option<&Hint> {
        match self {
            Self::Refused(refusal) => Some(&refusal.hint),
            Self::Coded(_, coded) => coded.hint(),
            _ => None,
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
            Self::Coded(_, coded) => coded.fmt(f),
            Self::Failed(text)
            | Self::NotFound(text)
            | Self::Unreachable(text)
            | Self::Usage(text) => f.write_str(text),
            Self::Found => f.write_str("a check failed"),
        }
    }
}
