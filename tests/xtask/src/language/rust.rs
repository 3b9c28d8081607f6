//! Texts of a file of Rust code: its comments and, outside of tests, its strings.

use std::path::Path;

use anyhow::{Result, anyhow};
use proc_macro2::{Delimiter, Literal, TokenStream, TokenTree};

use super::{Kind, Text};

/// Comments, and the strings of a program.
///
/// # Errors
/// The text is not Rust code.
pub(super) fn texts(path: &Path, text: &str) -> Result<Vec<Text>> {
    let mut texts = comments(path, text, "//");
    if !is_test(path) {
        let tokens: TokenStream = text
            .parse()
            .map_err(|error| anyhow!("'{}': {error}", path.display()))?;
        let mut found = Vec::new();
        strings(tokens, &mut found);
        texts.extend(found.into_iter().filter_map(|(line, text)| {
            let text = one_line(&text);
            let says_something = text.trim().contains(' ') && text.contains(char::is_alphabetic);
            says_something.then(|| Text {
                kind: Kind::Message,
                path: path.to_owned(),
                line,
                text,
            })
        }));
    }
    Ok(texts)
}

/// Comments that begin with `sign`, lines that follow each other as one text.
pub(super) fn comments(path: &Path, text: &str, sign: &str) -> Vec<Text> {
    let mut texts: Vec<Text> = Vec::new();
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        let Some(comment) = line.trim_start().strip_prefix(sign) else {
            continue;
        };
        // `//!`, `///`, `#!`
        let comment = comment.trim_start_matches(['/', '!']).trim();
        let number = index + 1;
        match texts.last_mut() {
            Some(before) if last + 1 == number && !comment.is_empty() => {
                before.text.push(' ');
                before.text.push_str(comment);
            }
            _ if comment.is_empty() => {}
            _ => texts.push(Text {
                kind: Kind::Comment,
                path: path.to_owned(),
                line: number,
                text: comment.to_owned(),
            }),
        }
        last = number;
    }
    texts
}

fn is_test(path: &Path) -> bool {
    let name = path.file_stem().and_then(|name| name.to_str());
    let name = name.unwrap_or_default();
    let folders = path.components().any(|part| part.as_os_str() == "tests");
    folders || name == "tests" || name.ends_with("_test") || name.ends_with("fixture")
}

/// Strings in order, without those of attributes but `#[error("...")]`, and without those of a module of tests.
fn strings(tokens: TokenStream, found: &mut Vec<(usize, String)>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut is_for_tests = false;
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Punct(sign) if sign.as_char() == '#' => {
                if matches!(tokens.peek(), Some(TokenTree::Punct(sign)) if sign.as_char() == '!') {
                    tokens.next();
                }
                if let Some(TokenTree::Group(group)) = tokens.next() {
                    let text = group.stream().to_string();
                    is_for_tests |= text.starts_with("cfg") && text.contains("test");
                    if text.starts_with("error") {
                        strings(group.stream(), found);
                    }
                }
            }
            TokenTree::Group(group) => {
                let is_body = group.delimiter() == Delimiter::Brace;
                if !is_for_tests {
                    strings(group.stream(), found);
                }
                is_for_tests &= !is_body;
            }
            TokenTree::Punct(sign) if sign.as_char() == ';' => is_for_tests = false,
            TokenTree::Literal(literal) if !is_for_tests => found.extend(string(&literal)),
            _ => {}
        }
    }
}

fn string(literal: &Literal) -> Option<(usize, String)> {
    let source = literal.to_string();
    let line = literal.span().start().line;
    let inner = source.trim_start_matches('r').trim_matches('#');
    let inner = inner.strip_prefix('"')?.strip_suffix('"')?;
    Some((line, inner.to_owned()))
}

/// Without the line breaks that a string of several lines has in the source.
fn one_line(text: &str) -> String {
    let lines = text.lines().map(|line| line.trim().trim_end_matches('\\'));
    lines.collect::<Vec<_>>().join(" ").replace("  ", " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_and_comments_are_found_and_strings_of_tests_are_not() {
        let code = "//! Head.\n\n/// One\n/// text.\n#[error(\"in use\")]\nfn f() { g(\"a word\", \"word\") }\n\
                    #[cfg(test)]\nmod tests { fn t() { g(\"not this\") } }\nfn h() { g(\"or \\\n   this\") }\n";
        let found = texts(Path::new("a/src/b.rs"), code).expect("code");
        let found: Vec<_> = found
            .iter()
            .map(|one| (one.line, one.text.as_str()))
            .collect();
        let expected = [
            (1, "Head."),
            (3, "One text."),
            (5, "in use"),
            (6, "a word"),
            (9, "or this"),
        ];
        assert_eq!(found, expected);
    }
}
