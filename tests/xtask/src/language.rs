//! The language of what people read: texts of the tree, words that it no longer uses, and a random choice of sentences.

mod draw;
mod markdown;
mod rust;
mod word;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::tree;

/// What kind of text it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A string of the program with a space in it: messages, hints, explanations, help, log lines.
    Message,
    /// A comment of Rust code or of a shell script.
    Comment,
    /// A sentence of the README, a manual page or another document.
    Document,
}

/// One text, and where it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) kind: Kind,
    pub(crate) path: PathBuf,
    /// From 1 on.
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// Prints every message of the programs, one to a line, sorted by file: for a review of all of them.
pub(crate) fn print_messages(root: &Path) -> Result<()> {
    let texts = texts(root)?;
    let mut number = 0;
    for one in texts.iter().filter(|one| one.kind == Kind::Message) {
        println!("{}:{}: {}", one.path.display(), one.line, one.text);
        number += 1;
    }
    println!("{number} messages");
    Ok(())
}

/// Phrases that hide who acts or what is missing, for messages only: other texts may use the words in another sense.
#[cfg(test)]
const UNCLEAR: [&str; 8] = [
    " is none",
    "gives back",
    "give back",
    "given back",
    "lets go",
    "comes of",
    "stands against",
    "looked at",
];

/// Prints sentences that are drawn at random; the same ones for the same seed and tree.
pub(crate) fn print_sentences(root: &Path, seed: u64, count: usize) -> Result<()> {
    for one in draw::sentences(&texts(root)?, seed, count) {
        println!("{}:{}: {}", one.path.display(), one.line, one.text);
    }
    Ok(())
}

/// A line for each word that the glossary replaced and that stands in a tracked file.
pub(crate) fn check(root: &Path) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for path in tree::files(root, &[])? {
        // A generated or recorded file that is no text, such as a config space, has no words.
        let Ok(text) = fs::read_to_string(root.join(&path)) else {
            continue;
        };
        findings.extend(word::findings(&path, &text));
    }
    Ok(findings)
}

/// All texts of the programs, the scripts and the documents.
fn texts(root: &Path) -> Result<Vec<Text>> {
    let mut texts = Vec::new();
    for path in tree::files(root, &[])? {
        let kind = path.extension().and_then(|extension| extension.to_str());
        let read =
            || fs::read_to_string(root.join(&path)).with_context(|| path.display().to_string());
        match kind {
            Some("rs") => texts.extend(rust::texts(&path, &read()?)?),
            Some("md") => texts.extend(markdown::texts(&path, &read()?)),
            Some("sh") => texts.extend(rust::comments(&path, &read()?, "#")),
            _ => {}
        }
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Prints all messages: `cargo test -p xtask each_message -- --nocapture`.
    #[test]
    fn each_message_is_free_of_unclear_phrases() {
        let texts = texts(&crate::root()).expect("texts");
        let messages: Vec<_> = texts
            .iter()
            .filter(|one| one.kind == Kind::Message)
            .collect();
        assert!(messages.len() > 1000, "{} messages", messages.len());
        let mut unclear = Vec::new();
        for one in messages {
            println!("{}:{}: {}", one.path.display(), one.line, one.text);
            let found = UNCLEAR.iter().find(|phrase| one.text.contains(*phrase));
            unclear.extend(found.map(|phrase| (phrase, one)));
        }
        assert!(unclear.is_empty(), "{unclear:#?}");
    }

    /// An operator reads a message in one line of a terminal or a log; `explain` has the detail.
    const LONGEST: usize = 160;
    /// Explanations of codes, which `variantctl explain` wraps, and files with a style sheet or a recipe in a string.
    const OTHER_TEXTS: [&str; 3] = [
        "agent/domain/src/code/table.rs",
        "agent/ctl/src/drawing/svg.rs",
        "agent/plan/src/plan/atomics.rs",
    ];

    #[test]
    fn each_line_of_a_message_fits_into_a_terminal() {
        let texts = texts(&crate::root()).expect("texts");
        let long: Vec<_> = texts
            .iter()
            .filter(|one| one.kind == Kind::Message && !one.text.starts_with('<'))
            .filter(|one| !OTHER_TEXTS.iter().any(|path| one.path == Path::new(path)))
            .filter(|one| {
                one.text
                    .split("\\n")
                    .any(|line| line.chars().count() > LONGEST)
            })
            .map(|one| format!("{}:{}: {}", one.path.display(), one.line, one.text))
            .collect();
        assert!(long.is_empty(), "{long:#?}");
    }
}
