//! A definition: a text and what was read of it. Where a text enters it is read once, and passed on as this.

use std::str::FromStr;

use super::Domain;
use crate::refusal::Refusal;

/// A text that is a domain's definition. The elements of its domain have their places in its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    text: String,
    domain: Domain,
}

impl Definition {
    /// Reads a text.
    ///
    /// # Errors
    /// The refusals of [`Domain::parse`].
    pub fn parse(text: impl Into<String>) -> Result<Self, Refusal> {
        let text = text.into();
        let domain = Domain::parse(&text)?;
        Ok(Self { text, domain })
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What was read of it.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// The text alone.
    #[must_use]
    pub fn into_text(self) -> String {
        self.text
    }
}

impl FromStr for Definition {
    type Err = Refusal;

    fn from_str(text: &str) -> Result<Self, Refusal> {
        Self::parse(text)
    }
}
