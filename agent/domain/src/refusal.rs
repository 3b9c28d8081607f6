//! A refusal: the operation that variantd does not perform, the reason, and the fix, in one sentence.

use std::fmt;

use kernel_glue::address::PciAddress;

use crate::code::Code;
use crate::hint::Hint;

/// Expected and explained; a *failure* (the host returned an error) is another type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable code.
    pub code: Code,
    /// The device, if the refusal concerns one.
    pub device: Option<PciAddress>,
    /// The position in the domain XML, as an XPath from the root.
    pub path: Option<String>,
    /// The reason: lower case, no full stop.
    pub reason: String,
    /// The fix.
    pub hint: Hint,
}

impl Refusal {
    /// A refusal that concerns no single device.
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

    /// Sets a command as the fix.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        self.hint = self.hint.by(words);
        self
    }

    /// Sets the device.
    #[must_use]
    pub fn of(mut self, device: PciAddress) -> Self {
        self.device = Some(device);
        self
    }

    /// Sets the path in the XML.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The subject and the reason, without the code and the fix.
    #[must_use]
    pub fn message(&self) -> String {
        about(self.device, &self.reason)
    }
}

/// A text with its device before it, if there is one.
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
