//! A definition: a text and the domain parsed from it. A text is parsed once, where it enters the program, and passed
//! on as this type.

use std::str::FromStr;

use super::Domain;
use crate::refusal::Refusal;

/// A text with its parsed domain. The spans of the domain's elements refer to this text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    text: String,
    domain: Domain,
}

impl Definition {
    /// Parses a text.
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

    /// The parsed domain.
    #[must_use]
    pub fn domain(&self) -> &Domain {
        &self.domain
    }

    /// Returns the text only.
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
