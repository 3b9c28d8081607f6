//! A refusal: what we will not do, why, and the way out, in one sentence.

use std::borrow::Cow;
use std::fmt;

use kernel_glue::address::PciAddress;

use crate::code::Code;

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
    /// The way out: lower case, no full stop.
    pub mend: String,
    /// Where one command is the way out: a line for a shell.
    pub command: Option<String>,
}

impl Refusal {
    /// A refusal about no device in particular.
    #[must_use]
    pub fn new(code: Code, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        Self {
            code,
            device: None,
            path: None,
            reason: reason.into(),
            mend: mend.into(),
            command: None,
        }
    }

    /// The same, where these words of a command are the way out.
    #[must_use]
    pub fn by<'a>(mut self, words: impl IntoIterator<Item = &'a str>) -> Self {
        let words: Vec<_> = words.into_iter().map(quoted).collect();
        self.command = Some(words.join(" "));
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
}

/// A word as a shell reads it: names of domains may have spaces and quotes.
fn quoted(word: &str) -> Cow<'_, str> {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_./:=@%+,".contains(letter);
    match !word.is_empty() && word.chars().all(is_plain) {
        true => word.into(),
        false => format!("'{}'", word.replace('\'', r"'\''")).into(),
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(device) = self.device {
            write!(f, "'{device}': ")?;
        }
        write!(f, "{} ({}); {}", self.reason, self.code, self.mend)
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_a_line_for_a_shell_whatever_a_domain_is_named() {
        let refusal = Refusal::new(Code::BindHeld, "why", "prepare it");
        assert_eq!(refusal.command, None);
        for (name, line) in [
            ("red-hat.1", "variantctl prepare red-hat.1"),
            ("my guest", "variantctl prepare 'my guest'"),
            ("a'; reboot #", r"variantctl prepare 'a'\''; reboot #'"),
            ("$(reboot)", "variantctl prepare '$(reboot)'"),
            ("", "variantctl prepare ''"),
        ] {
            let refusal = refusal.clone().by(["variantctl", "prepare", name]);
            assert_eq!(refusal.command.as_deref(), Some(line));
        }
    }
}
