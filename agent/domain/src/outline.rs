//! A definition without its distances between cells: what the parser reads.
//!
//! A guest with 122 cells has 14,884 `<sibling>` in 600 KiB, and hardly anything else. `<distances>` that holds only those, as
//! libvirt prints them, is read here, and empty in the outline. What is left out is balanced and can end no comment and
//! no section around it, so the outline is well-formed exactly when the text is.

use std::cell::Cell as Taken;
use std::ops::Range;

use roxmltree::{Attribute, Node};

use super::Sibling;

const START: &str = "<distances>";
const END: &[u8] = b"</distances>";

/// What is parsed of a text, and what is not.
pub(super) struct Outline<'t> {
    /// The whole text.
    pub(super) text: &'t str,
    /// The text without the rows' siblings; `None` where there are none.
    short: Option<String>,
    rows: Vec<Row>,
}

/// The siblings of one `<distances>`.
struct Row {
    /// Where they are left out, in what is parsed.
    gap: usize,
    /// Where they begin in the text.
    start: usize,
    /// Bytes left out up to here, with these.
    left_out: usize,
    /// Until the cell that they are in is read.
    siblings: Taken<Vec<Sibling>>,
}

impl<'t> Outline<'t> {
    /// Leaves the siblings out.
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

    /// Leaves nothing out.
    pub(super) fn whole(text: &'t str) -> Self {
        Self {
            text,
            short: None,
            rows: Vec::new(),
        }
    }

    /// True when all of the text is parsed.
    pub(super) fn is_whole(&self) -> bool {
        self.short.is_none()
    }

    /// What is parsed.
    pub(super) fn parsed(&self) -> &str {
        self.short.as_deref().unwrap_or(self.text)
    }

    /// Where a node of what was parsed stands in the whole text.
    pub(super) fn span(&self, node: Node<'_, '_>) -> Range<usize> {
        let range = node.range();
        self.place(range.start)..self.place(range.end)
    }

    /// Where an attribute stands in the whole text, with the white space before it.
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

    /// The siblings that were left out of this `<distances>`, once; `None` when they were parsed.
    pub(super) fn siblings(&self, distances: Node<'_, '_>) -> Option<Vec<Sibling>> {
        let start = self.place(distances.range().start) + START.len();
        let row = self
            .rows
            .binary_search_by_key(&start, |row| row.start)
            .ok()?;
        Some(self.rows[row].siblings.take())
    }
}

/// The siblings from `start` on, and the end of the last, when nothing but white space is between them and the end tag.
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

/// A number of few digits at the start of a text, and what is behind it.
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
