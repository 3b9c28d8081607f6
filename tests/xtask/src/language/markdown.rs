//! Texts of a document: its paragraphs, without code, tables and headings.

use std::path::Path;

use super::{Kind, Text};

/// Paragraphs and items of lists.
pub(super) fn texts(path: &Path, text: &str) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let (mut is_code, mut continues) = (false, false);
    for (index, line) in text.lines().enumerate() {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        let words = line.trim();
        let skipped = is_fence
            || is_code
            || words.is_empty()
            || line.starts_with("    ")
            || words.starts_with(['|', '#', '%', '<']);
        if skipped {
            continues = false;
            continue;
        }
        let item = words.starts_with("- ") || words.starts_with("* ") || words.starts_with(": ");
        match texts.last_mut() {
            Some(before) if continues && !item => {
                before.text.push(' ');
                before.text.push_str(words);
            }
            _ => texts.push(Text {
                kind: Kind::Document,
                path: path.to_owned(),
                line: index + 1,
                text: words.trim_start_matches(['-', '*', ':', ' ']).to_owned(),
            }),
        }
        continues = true;
    }
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paragraphs_and_items_are_texts_and_code_is_not() {
        let document = "# Title\n\nOne\ntext.\n\n- an item\n- another\n\n```sh\ncode\n```\n";
        let found = texts(Path::new("a.md"), document);
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.line, one.text.as_str()))
            .collect();
        assert_eq!(found, [(3, "One text."), (6, "an item"), (7, "another")]);
    }
}
