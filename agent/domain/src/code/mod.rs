//! Stable codes of refusals and notes: `VD-XXX-000`. A code, once released, keeps its meaning. The table has
//! severity, title, explanation and source of each.

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
        /// The reason of a refusal or note; prints as `VD-XXX-000`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Code {
            $($(#[doc = $doc])* $name,)*
        }

        impl Code {
            /// All codes.
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

/// A row of the table.
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

    /// The default severity; a recipe that requires a piece turns its warning into a refusal.
    #[must_use]
    pub fn severity(self) -> Severity {
        self.entry().severity
    }

    /// The meaning in one line: lower case, no full stop.
    #[must_use]
    pub fn title(self) -> String {
        titled(self.entry().title)
    }

    /// A paragraph with the reason; ends with the source.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        self.entry().explanation
    }
}

/// A text that is not a code.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown code '{0}'; 'variantctl explain' lists all codes")]
pub struct CodeError(String);

/// A doc comment's first sentence as a title.
fn titled(doc: &str) -> String {
    let text = doc.trim().trim_end_matches('.').replace('`', "");
    let mut letters = text.chars();
    // "XML" and "KubeVirt" keep their first letter.
    let name = text
        .split(' ')
        .next()
        .is_some_and(|word| word.chars().skip(1).any(char::is_uppercase));
    match letters.next() {
        Some(first) if !name => first.to_lowercase().chain(letters).collect(),
        _ => text,
    }
}

impl FromStr for Code {
    type Err = CodeError;

    /// Ignores case.
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
    fn parse_rejects_an_unknown_code() {
        assert!("VD-XML-999".parse::<Code>().is_err());
    }

    #[test]
    fn codes_are_unique_and_have_the_form_vd_area_number() {
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
