//! A refusal: what we will not do, why, and the way out, in one sentence.

use std::fmt;

use kernel_glue::address::PciAddress;

use crate::code::Code;
use crate::hint::Hint;

/// Expected and explained; a *failure* (the host said no) is another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// The device it is about, if one.
    pub device: Option<PciAddress>,
    /// Where in the domain XML, as an XPath from the root.
    pub path: Option<String>,
    /// Why: lower case, no full stop.
    pub reason: String,
    /// The way out.
    pub hint: Hint,
}

impl Refusal {
    /// A refusal about no device in particular.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>, hint: impl Into<Hint>) -> Self {
        Self {
            code,
            device: None,
            path: None,
            reason: reason.into(),
            hint: hint.into(),
        }
    }

    /// The same, where these words of a command are the way out.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.hint = self.hint.by(words);
        self
    }

    /// The same, about `device`.
    #[must_use]
    pub fn of(mut self, device: PciAddress) -> Self {
        self.device = Some(device);
        self
    }

    /// The same, at `path` in the XML.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// What is refused and why, without the code and the way out.
    #[must_use]
    pub fn message(&self) -> String {
        about(self.device, &self.reason)
    }
}

/// Words behind the device that they are about, if one.
#[must_use]
pub fn about(device: Option<PciAddress>, words: &str) -> String {
    match device {
        Some(device) => format!("'{device}': {words}"),
        None => words.to_owned(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}); {}", self.message(), self.code, self.hint)
    }
}

impl std::error::Error for Refusal {}
