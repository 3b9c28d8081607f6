//! A definition without the distances between its cells: the text that the parser reads.
//!
//! A guest with 122 cells has 14,884 `<sibling>` in 600 KiB, and little else. This file parses each `<distances>` that
//! has only siblings, in libvirt's format, and leaves it empty in the outline. The removed text is balanced and cannot
//! end a comment or a section around it, so the outline is well-formed exactly if the text is.

use std::cell::Cell as Taken;
use std::ops::Range;

use roxmltree::{Attribute, Node};

use super::Sibling;

const START: &str = "<distances>";
const END: &[u8] = b"</distances>";

/// A text and the shorter text that is parsed.
pub(super) struct Outline<'t> {
    /// The whole text.
    pub(super) text: &'t str,
    /// The text without the siblings; `None` if there are none.
    short: Option<String>,
    rows: Vec<Row>,
}

/// The siblings of one `<distances>`.
struct Row {
    /// Their position in the parsed text.
    gap: usize,
    /// Their position in the whole text.
    start: usize,
    /// Bytes left out up to here, including these.
    left_out: usize,
    /// Taken when the cell of these siblings is read.
    siblings: Taken<Vec<Sibling>>,
}

impl<'t> Outline<'t> {
    /// Leaves the siblings out of a text.
    pub(super) fn of(text: &'t str) -> Self {
        let mut outline = Self::whole(text);
        let (mut short, mut from, mut seen) = (String::new(), 0, 0);
        while let Some(found) = text[seen..].find(START) {
            let start = seen + found + START.len();
            seen = start;
            let Some((siblings, end)) = siblings(text.as_bytes(), start) else {
                continue;
            };
            short.push_str(&text[from..start]);
            outline.rows.push(Row {
                gap: short.len(),
                start,
                left_out: end - short.len(),
                siblings: Taken::new(siblings),
            });
            (from, seen) = (end, end);
        }
        if from > 0 {
            short.push_str(&text[from..]);
            outline.short = Some(short);
        }
        outline
    }

    /// Parses the whole text.
    pub(super) fn whole(text: &'t str) -> Self {
        Self {
            text,
            short: None,
            rows: Vec::new(),
        }
    }

    /// True if the whole text is parsed.
    pub(super) fn is_whole(&self) -> bool {
        self.short.is_none()
    }

    /// The parsed text.
    pub(super) fn parsed(&self) -> &str {
        self.short.as_deref().unwrap_or(self.text)
    }

    /// The span of a parsed node in the whole text.
    pub(super) fn span(&self, node: Node<'_, '_>) -> Range<usize> {
        let range = node.range();
        self.place(range.start)..self.place(range.end)
    }

    /// The span of an attribute in the whole text, with the white space before it.
    pub(super) fn attribute(&self, attribute: Attribute<'_, '_>) -> Range<usize> {
        let range = attribute.range();
        let (start, end) = (self.place(range.start), self.place(range.end));
        self.text[..start].trim_end().len()..end
    }

    fn place(&self, at: usize) -> usize {
        let before = self.rows.partition_point(|row| row.gap < at);
        let left_out = before
            .checked_sub(1)
            .map_or(0, |row| self.rows[row].left_out);
        at + left_out
    }

    /// Takes the siblings that were left out of this `<distances>`; `None` if they were parsed.
    pub(super) fn siblings(&self, distances: Node<'_, '_>) -> Option<Vec<Sibling>> {
        let start = self.place(distances.range().start) + START.len();
        let row = self
            .rows
            .binary_search_by_key(&start, |row| row.start)
            .ok()?;
        Some(self.rows[row].siblings.take())
    }
}

/// Parses siblings from `start`, up to the end of the last; `None` if anything but white space precedes the end tag.
fn siblings(text: &[u8], start: usize) -> Option<(Vec<Sibling>, usize)> {
    let (mut siblings, mut end) = (Vec::new(), start);
    loop {
        let at = end + blanks(&text[end..]);
        let Some(rest) = text[at..].strip_prefix(b"<sibling id='") else {
            let closed = text[at..].starts_with(END) && !siblings.is_empty();
            return closed.then_some((siblings, end));
        };
        let (id, rest) = number(rest)?;
        let (value, rest) = number(rest.strip_prefix(b"' value='")?)?;
        let rest = rest.strip_prefix(b"'/>")?;
        let span = end..text.len() - rest.len();
        end = span.end;
        siblings.push(Sibling::new(id, u8::try_from(value).ok()?, span)?);
    }
}

fn blanks(text: &[u8]) -> usize {
    let blank = |byte: &&u8| matches!(byte, b' ' | b'\n' | b'\t' | b'\r');
    text.iter().take_while(blank).count()
}

/// Parses a number of few digits; returns it and the text after it.
fn number(text: &[u8]) -> Option<(u32, &[u8])> {
    let count = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(count);
    let add = |number, digit: &u8| number * 10 + u32::from(digit - b'0');
    (1..=9)
        .contains(&count)
        .then(|| (digits.iter().fold(0, add), rest))
}

#[cfg(test)]
mod tests;
