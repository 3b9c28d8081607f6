//! Stable codes of refusals and notes: `VD-XXX-000`. A code, once released, keeps its meaning. All that is said of one stands in
//! its entry of the table.

mod severity;

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

pub use severity::Severity;

macro_rules! codes {
    ($(
        $(#[doc = $doc:literal])*
        $name:ident = $text:literal {
            severity: $severity:ident,
            explanation: $explanation:literal,
            source: $source:literal,
        }
    )*) => {
        /// What a refusal or note is about; prints as `VD-XXX-000`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Code] = &[$(Code::$name,)*];

            pub(super) fn entry(self) -> Entry {
                match self {
                    $(Code::$name => Entry {
                        text: $text,
                        severity: Severity::$severity,
                        title: concat!($($doc),*),
                        explanation: concat!($explanation, " Source: ", $source, "."),
                    },)*
                }
            }
        }
    };
}

mod table;

pub use table::Code;

/// What the table says of a code.
struct Entry {
    text: &'static str,
    severity: Severity,
    /// A sentence: the doc comment.
    title: &'static str,
    explanation: &'static str,
}

impl Code {
    /// The printed form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.entry().text
    }

    /// How much it asks where it is said unasked; a recipe that requires a piece makes a refusal of its warning.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// The meaning in one line: lower case, no full stop.
    #[must_use]
    pub fn title(self) -> String {
        titled(self.entry().title)
    }

    /// Why it is so, in a paragraph that ends with the source.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        self.entry().explanation
    }
}

/// A text is no code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{0}' is no code; 'variantctl explain' lists them")]
pub struct CodeError(String);

/// A doc comment's first sentence as a title.
fn titled(doc: &str) -> String {
    let text = doc.trim().trim_end_matches('.').replace('`', "");
    let mut letters = text.chars();
    let acronym = text
        .split(' ')
        .next()
        .is_some_and(|word| word.len() > 1 && word.chars().all(|c| !c.is_lowercase()));
    match letters.next() {
        Some(first) if !acronym => first.to_lowercase().chain(letters).collect(),
        _ => text,
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Upper and lower case are one.
    fn from_str(text: &str) -> Result<Self, CodeError> {
        let found = Self::ALL
            .iter()
            .find(|code| code.as_str().eq_ignore_ascii_case(text.trim()));
        found
            .copied()
            .ok_or_else(|| CodeError(text.chars().take(64).collect()))
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_a_title_and_a_paragraph_with_its_source() {
        for code in Code::ALL {
            assert!(
                code.title().len() > 15 && !code.title().ends_with('.'),
                "{code}"
            );
            assert!(code.explanation().contains("Source: "), "{code}");
            assert_eq!(code.as_str().to_lowercase().parse(), Ok(*code));
        }
    }

    #[test]
    fn what_is_no_code_is_named() {
        assert!("VD-XML-999".parse::<Code>().is_err());
    }

    #[test]
    fn no_two_codes_print_alike_and_all_have_the_form() {
        let texts: BTreeSet<_> = Code::ALL.iter().map(|code| code.as_str()).collect();
        assert_eq!(texts.len(), Code::ALL.len());
        for text in texts {
            let parts: Vec<_> = text.split('-').collect();
            let shaped =
                matches!(parts[..], ["VD", area, number] if area.len() == 3 && number.len() == 3);
            assert!(shaped, "{text}");
        }
    }
}
