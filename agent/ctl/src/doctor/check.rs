//! One check and what came of it: a stable code, a verdict, and for whoever must act a hint.

use std::fmt;
use std::str::FromStr;

use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

use super::scene::Unavailable;

/// What came of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is as it must be.
    Pass,
    /// It could not be seen.
    Unavailable,
    /// It may be meant so, and is worth knowing.
    Warn,
    /// A guest will not start, or not as it should.
    Fail,
}

/// What a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[allow(missing_docs)]
pub(crate) enum Group {
    Host,
    Devices,
    Libvirt,
    Domains,
    Installation,
}

/// One check of one thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Check {
    /// The stable code: the same for each verdict, and of a refusal for the same reason.
    pub code: Code,
    /// Where it stands on the screen.
    pub group: Group,
    /// The device or domain it is of; `None` for the host as a whole.
    pub subject: Option<String>,
    /// What came of it.
    pub verdict: Verdict,
    /// What is so, in a few words that are equal for equal subjects.
    pub text: String,
    /// What exactly was found.
    pub detail: Option<String>,
    /// What to do, or why it could not be seen.
    pub hint: Option<Hint>,
    /// It could not be seen, and root would see it.
    pub needs_root: bool,
}

impl Check {
    /// It is as it must be.
    pub(super) fn pass(code: Code, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Pass, text, None)
    }

    /// It is worth knowing.
    pub(super) fn warn(code: Code, text: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::new(code, Verdict::Warn, text, Some(hint.into()))
    }

    /// It is in the way.
    pub(super) fn fail(code: Code, text: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::new(code, Verdict::Fail, text, Some(hint.into()))
    }

    /// It could not be seen.
    pub(super) fn unavailable(code: Code, text: impl Into<String>, why: &Unavailable) -> Self {
        Self {
            needs_root: why.needs_root,
            ..Self::new(
                code,
                Verdict::Unavailable,
                text,
                Some(why.why.clone().into()),
            )
        }
    }

    /// It is in the way, as a refusal says.
    pub(super) fn refused(refusal: &Refusal) -> Self {
        let failed = Self::fail(refusal.code, refusal.reason.clone(), refusal.hint.clone());
        match refusal.device {
            Some(device) => failed.of(device),
            None => failed,
        }
    }

    /// A pass, or the refusal.
    pub(super) fn of_result(code: Code, text: &str, result: Result<(), Refusal>) -> Self {
        match result {
            Ok(()) => Self::pass(code, text),
            Err(refusal) => Self::refused(&refusal),
        }
    }

    /// The same, about `subject`.
    pub(super) fn of(self, subject: impl fmt::Display) -> Self {
        Self {
            subject: Some(subject.to_string()),
            ..self
        }
    }

    /// The same, with what exactly was found.
    pub(super) fn with(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// The command of the hint, when it is enough.
    #[must_use]
    pub(crate) fn command(&self) -> Option<&str> {
        self.hint.as_ref().and_then(Hint::command)
    }

    fn new(code: Code, verdict: Verdict, text: impl Into<String>, hint: Option<Hint>) -> Self {
        Self {
            code,
            group: Group::Host,
            subject: None,
            verdict,
            text: text.into(),
            detail: None,
            hint,
            needs_root: false,
        }
    }
}

impl Verdict {
    /// As on the screen and in JSON.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Unavailable => "UNKNOWN",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

impl Group {
    /// Every group, in the order of the screen.
    pub(crate) const ALL: [Self; 5] = [
        Self::Host,
        Self::Devices,
        Self::Libvirt,
        Self::Domains,
        Self::Installation,
    ];

    /// As given on the command line.
    #[must_use]
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Devices => "devices",
            Self::Libvirt => "libvirt",
            Self::Domains => "domains",
            Self::Installation => "installation",
        }
    }

    /// What several of its subjects are called.
    pub(super) fn several(self) -> &'static str {
        match self {
            Self::Domains => "domains",
            _ => "devices",
        }
    }

    /// The line above its checks.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Libvirt => "libvirt and QEMU",
            other => other.as_str(),
        }
    }
}

impl FromStr for Group {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let found = Self::ALL.into_iter().find(|group| group.as_str() == text);
        found.ok_or(())
    }
}
