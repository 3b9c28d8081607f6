//! Makes text of unknown origin safe to print: a terminal interprets control characters, and direction marks reorder a
//! line.
//!
//! A domain's name, a path or an error of another program can contain any character. Escapes have Rust's form:
//! `\u{9b}`.

use std::borrow::Cow;
use std::fmt::{self, Display, Write};

/// Prints a text with its control characters as escapes, line ends included.
#[derive(Clone, Copy, Debug)]
pub struct Printable<'a>(pub &'a str);

impl Display for Printable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|one| match is_control(one) {
            true => write!(f, "\\u{{{:x}}}", u32::from(one)),
            false => f.write_char(one),
        })
    }
}

/// True for a text of printable ASCII characters, line ends and tabs, which is printed as it is. Looks at bytes, so it is fast.
#[must_use]
pub fn is_plain(text: &[u8]) -> bool {
    let is_plain = |byte: &u8| matches!(byte, b' '..=b'~' | b'\n' | b'\t');
    text.iter().fold(true, |all, byte| all & is_plain(byte))
}

/// Prints line ends and tabs unchanged.
#[must_use]
pub fn lines(text: &str) -> Cow<'_, str> {
    let is_layout = |one: char| matches!(one, '\n' | '\t');
    if is_plain(text.as_bytes()) || !text.chars().any(|one| is_control(one) && !is_layout(one)) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len() + 8);
    for piece in text.split_inclusive(is_layout) {
        let words = piece.trim_end_matches(is_layout);
        // Writing to a string cannot fail.
        let _ = write!(shown, "{}{}", Printable(words), &piece[words.len()..]);
    }
    Cow::Owned(shown)
}

/// Control characters C0, DEL and C1 (ECMA-48), and characters that set the text direction or end a line (Unicode, UAX
/// 9 and 14; CVE-2021-42574).
#[must_use]
pub fn is_control(one: char) -> bool {
    one.is_control()
        || matches!(one, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_control_characters_are_escaped() {
        for one in [
            '\0', '\u{1b}', '\u{7f}', '\u{9b}', '\u{202e}', '\u{2066}', '\u{2028}', '\r', '\u{8}',
        ] {
            let shown = lines(&format!("a{one}b\n")).into_owned();
            assert_eq!(shown, format!("a\\u{{{:x}}}b\n", u32::from(one)));
        }
        let plain = "d0 größe 虚拟机\tx\n\n  é\n";
        assert!(matches!(lines(plain), Cow::Borrowed(same) if same == plain));
        assert_eq!(Printable("a\nb").to_string(), "a\\u{a}b");
        for text in (0..=255).filter_map(char::from_u32).map(String::from) {
            let as_it_is = !text.chars().any(is_control) || matches!(&*text, "\n" | "\t");
            assert_eq!(
                is_plain(text.as_bytes()),
                as_it_is && text.is_ascii(),
                "{text:?}"
            );
        }
        assert_eq!(lines("\u{9b}31m\n\tx\u{7}"), "\\u{9b}31m\n\tx\\u{7}");
    }
}
