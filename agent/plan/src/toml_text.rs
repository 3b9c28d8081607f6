//! Parses TOML (recipes and configuration), with errors that name file, line and nearest key.

use serde::de::DeserializeOwned;
use thiserror::Error;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Largest file that is read, in bytes.
pub const MAX_BYTES: usize = 256 * 1024;

/// The text is not valid.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("'{file}', line {line}: {reason}")]
pub struct TomlError {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// What is wrong, and what is expected.
    pub reason: String,
}

/// Reads `text`, which is the content of `file`.
///
/// # Errors
/// Over 256 KiB, not TOML, an unknown key, or a value of another type or range.
pub fn read<T: DeserializeOwned>(file: &str, text: &str) -> Result<T, TomlError> {
    let error = |line, reason| TomlError {
        file: file.to_owned(),
        line,
        reason,
    };
    if text.len() > MAX_BYTES {
        return Err(error(
            1,
            format!(
                "the file has {} bytes, the limit is {MAX_BYTES}",
                text.len()
            ),
        ));
    }
    toml::from_str(text).map_err(|cause: toml::de::Error| {
        let span = cause.span().unwrap_or_default();
        error(line(text, span.start), reason(cause.message()))
    })
}

/// The line, from 1, that has the byte at `offset`.
#[must_use]
pub fn line(text: &str, offset: usize) -> usize {
    let before = text.get(..offset).unwrap_or_default();
    1 + before.matches('\n').count()
}

/// A step on the way from the top of a file to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// To a key of a table.
    Key(&'static str),
    /// To an item of an array, from 0.
    Item(usize),
}

/// The line, from 1, of the value at these steps from the top; of the last step that the text has.
#[must_use]
pub fn line_of(text: &str, place: &[Step]) -> usize {
    let Ok(top) = DeTable::parse(text) else {
        return 1;
    };
    let top = Spanned::new(top.span(), DeValue::Table(top.into_inner()));
    let (mut value, mut start) = (&top, 0);
    for step in place {
        let next = match (value.get_ref(), step) {
            (DeValue::Table(table), Step::Key(key)) => {
                let found = table.get_key_value(*key);
                found.map(|(key, value)| (key.span().start, value))
            }
            (DeValue::Array(array), Step::Item(item)) => {
                let item = array.get(*item);
                item.map(|item| (item.span().start, item))
            }
            _ => None,
        };
        let Some((at, found)) = next else { break };
        (value, start) = (found, at);
    }
    line(text, start)
}

/// Adds the nearest known key to serde's "unknown field `x`, expected one of `a`, `b`".
fn reason(message: &str) -> String {
    let message = message.replace('\n', " ");
    let mut quoted = message.split('`').skip(1).step_by(2);
    match (message.starts_with("unknown field"), quoted.next()) {
        (true, Some(key)) => match nearest(key, quoted) {
            Some(nearest) => format!("unknown key '{key}'; did you mean '{nearest}'?"),
            None => format!("unknown key '{key}'; no key is known here"),
        },
        _ => message,
    }
}

/// The known word that is most similar to `word`.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<String> {
    let nearest = known.min_by_key(|known| strsim::levenshtein(word, known));
    nearest.map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only read")]
    struct Sample {
        cells: u8,
        driver: String,
    }

    fn printed(text: &str) -> String {
        read::<Sample>("mine.toml", text)
            .expect_err("it must be refused")
            .to_string()
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line_and_the_nearest() {
        let text = printed("cells = 8\n# comment\ndrivre = 'x'\n");
        assert_eq!(
            text,
            "'mine.toml', line 3: unknown key 'drivre'; did you mean 'driver'?"
        );
    }

    #[test]
    fn a_value_out_of_range_is_named_with_its_line() {
        assert!(printed("\ncells = 300\ndriver = 'x'").starts_with("'mine.toml', line 2: "));
    }

    #[test]
    fn invalid_toml_is_named_with_its_line() {
        assert!(printed("cells = 8\n[[[").starts_with("'mine.toml', line 2: "));
    }

    #[test]
    fn a_value_is_found_by_its_place_and_not_by_its_name() {
        let text = "cells = 8\n[a]\n# cells\n\"cells\" = 1\n[b]\ncells = [\n 1,\n 2]\n[[c]]\nx = 1\n[[c]]\ny = 1\n[d]\n";
        for (place, line) in [
            (&[Step::Key("cells")][..], 1),
            (&[Step::Key("a"), Step::Key("cells")], 4),
            (&[Step::Key("b"), Step::Key("cells"), Step::Item(1)], 8),
            (&[Step::Key("c"), Step::Item(1), Step::Key("y")], 12),
            (&[Step::Key("c"), Step::Item(1), Step::Key("x")], 11),
            (&[Step::Key("d"), Step::Key("x")], 13),
            (&[Step::Key("e"), Step::Key("x")], 1),
            (&[], 1),
        ] {
            assert_eq!(line_of(text, place), line, "{place:?}");
        }
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        assert!(printed(&" ".repeat(MAX_BYTES + 1)).contains("the limit is"));
    }
}
