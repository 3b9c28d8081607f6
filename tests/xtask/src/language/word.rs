//! Words that the glossary replaced.

use std::path::Path;

/// Each word, and what is said instead.
const REPLACED: [(&str, &str); 13] = [
    ("anew", "again"),
    ("half-way", "incomplete, interrupted"),
    ("mend", "fix, hint"),
    ("mends", "fixes"),
    ("by hand", "manually"),
    ("nobody", "no process, no client; 'no ... '"),
    ("somebody", "another client, a process, the caller"),
    ("whoever", "the process that, the client that"),
    ("bell", "notifier"),
    ("patience", "timeout"),
    ("stand back", "run at lower priority"),
    ("at rest", "stable, with no change pending"),
    ("NOT SEEN", "UNKNOWN"),
];

/// Names that contain one of these words: the user `nobody`, and what NEWS names of the past.
const ALLOWED: [&str; 5] = [
    "'nobody'",
    "`nobody`",
    "NOBODY",
    "/run/variantd/patience",
    "`NOT SEEN`",
];
const TABLE: &str = "tests/xtask/src/language/word.rs";

/// A finding for each of these words in a file.
pub(super) fn findings(path: &Path, text: &str) -> Vec<String> {
    if path == Path::new(TABLE) {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = ALLOWED
            .iter()
            .fold(line.to_owned(), |line, one| line.replace(one, ""));
        let lower = line.to_ascii_lowercase();
        for (word, instead) in REPLACED {
            // A verdict is in capitals; other words may begin a sentence.
            let is_verdict = word.chars().all(|c| c.is_uppercase() || c == ' ');
            let line = if is_verdict { &line } else { &lower };
            if has_word(line, word) {
                let (path, number) = (path.display(), index + 1);
                findings.push(format!("{path}:{number}: '{word}': say {instead}"));
            }
        }
    }
    findings
}

/// As a whole word, which an underscore does not end either side of.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let is_part = |c: char| c.is_alphanumeric() || c == '_';
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_word_is_found_and_the_user_nobody_is_not() {
        let found = |text| findings(Path::new("a.md"), text).len();
        assert_eq!(found("Whoever reads it anew\nat rest"), 3);
        assert_eq!(found("as user 'nobody'; labels; renewed"), 0);
        assert_eq!(findings(Path::new(TABLE), "anew").len(), 0);
    }
}
