//! One check and its result: a stable code, a verdict and a hint.

use std::fmt;
use std::str::FromStr;

use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

use super::scene::Unavailable;

/// The verdict of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verdict {
    /// It is as it must be.
    Pass,
    /// The facts were not available.
    Unavailable,
    /// It may be intended, and the administrator should know.
    Warn,
    /// A guest will not start, or not as it should.
    Fail,
}

/// The part of the host that a check is about.
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
    /// Its group on the screen.
    pub group: Group,
    /// The device or domain; `None` for the host as a whole.
    pub subject: Option<String>,
    /// The verdict.
    pub verdict: Verdict,
    /// A short description, equal for equal subjects.
    pub text: String,
    /// The details.
    pub detail: Option<String>,
    /// What to do, or why the facts were not available.
    pub hint: Option<Hint>,
    /// The facts were not available, and root can read them.
    pub needs_root: bool,
    /// The files that the facts are from, where the check names them.
    pub read_from: Vec<String>,
}

impl Check {
    /// It is as it must be.
    pub(super) fn pass(code: Code, text: impl Into<String>) -> Self {
        Self::new(code, Verdict::Pass, text, None)
    }

    /// A warning.
    pub(super) fn warn(code: Code, text: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::new(code, Verdict::Warn, text, Some(hint.into()))
    }

    /// A failure.
    pub(super) fn fail(code: Code, text: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self::new(code, Verdict::Fail, text, Some(hint.into()))
    }

    /// The facts were not available.
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

    /// A failure for a refusal.
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

    /// The same, with details.
    pub(super) fn with(self, detail: impl Into<String>) -> Self {
        Self {
            detail: Some(detail.into()),
            ..self
        }
    }

    /// The same, with a file that its facts are from.
    pub(super) fn read_from(mut self, path: impl Into<String>) -> Self {
        self.read_from.push(path.into());
        self
    }

    /// The command of the hint, when the hint is only a command.
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
            read_from: Vec::new(),
        }
    }
}

impl Verdict {
    /// Its text on the screen.
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

    /// The plural of its subjects.
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
