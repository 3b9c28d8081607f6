//! The unified diff of a plan. It is made from the edits and not from two texts, so that each reason is at its lines.
//!
//! ```text
//! edits -> pieces (removed lines, added lines, changes) -> hunks (adjacent pieces, with context)
//! ```

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};

use super::form;
use super::piece::{Lines, Piece, pieces};
use crate::plan::Change;
use domain::code::Code;

/// Unchanged lines around a change.
pub(super) const CONTEXT: usize = 2;
const NO_NEWLINE: &str = "\\ No newline at end of file";

/// One hunk of a unified diff.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hunk {
    /// First line in the definition, from 1.
    pub old_start: usize,
    /// Lines in the definition.
    pub old_lines: usize,
    /// First line in the completed definition, from 1.
    pub new_start: usize,
    /// Lines in the completed definition.
    pub new_lines: usize,
    /// The lines, each prefixed with ' ', '-' or '+'.
    pub lines: Vec<String>,
    /// The reasons, in the order of the lines.
    pub reasons: Vec<Reason>,
}

/// Why lines of a hunk change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reason {
    /// Index of the first line in the hunk to which it applies.
    pub line: usize,
    /// The stable code.
    #[serde(with = "form::text")]
    pub code: Code,
    /// The device it is for; `None` when for the domain.
    pub device: Option<PciAddress>,
    /// The element, as an XPath.
    pub path: String,
    /// Why.
    pub text: String,
    /// An earlier line has the same reason.
    pub again: bool,
}

impl Hunk {
    /// Adds a line of the texts, after ' ', '-' or '+'.
    pub(super) fn line(&mut self, kind: char, line: &str) {
        let bare = line.strip_suffix('\n');
        self.lines.push(format!("{kind}{}", bare.unwrap_or(line)));
        if bare.is_none() {
            self.lines.push(NO_NEWLINE.to_owned());
        }
        self.old_lines += usize::from(kind != '+');
        self.new_lines += usize::from(kind != '-');
    }
}

/// The diff of `text` that `changes` make.
pub(super) fn hunks(text: &str, changes: &[Change]) -> Vec<Hunk> {
    let old = Lines::of(text);
    let pieces = pieces(&old, changes);
    let mut hunks = Vec::new();
    let mut grown = 0;
    let mut told = vec![false; changes.len()];
    for near in pieces.chunk_by(|a, b| b.old.start <= a.old.end + 2 * CONTEXT) {
        let mut hunk = Draft::new(&old, near, grown);
        for piece in near {
            hunk.piece(piece, changes, &mut told);
        }
        let hunk = hunk.finish(near);
        grown += signed(hunk.new_lines) - signed(hunk.old_lines);
        hunks.push(hunk);
    }
    hunks
}

/// A hunk under construction.
struct Draft<'a> {
    old: &'a Lines<'a>,
    at: usize,
    hunk: Hunk,
}

impl<'a> Draft<'a> {
    fn new(old: &'a Lines<'a>, pieces: &[Piece<'_>], grown: isize) -> Self {
        let at = pieces
            .first()
            .map_or(0, |piece| piece.old.start)
            .saturating_sub(CONTEXT);
        let hunk = Hunk {
            old_start: at + 1,
            old_lines: 0,
            new_start: (at + 1).saturating_add_signed(grown),
            new_lines: 0,
            lines: Vec::new(),
            reasons: Vec::new(),
        };
        Self { old, at, hunk }
    }

    /// Adds the unchanged lines before a piece, its reasons and its lines.
    fn piece(&mut self, piece: &Piece<'_>, changes: &[Change], told: &mut [bool]) {
        self.context(piece.old.start);
        let here: BTreeSet<usize> = piece.edits.iter().map(|(number, _)| *number).collect();
        for number in here {
            let again = std::mem::replace(&mut told[number], true);
            let reason = reason(&changes[number], self.hunk.lines.len(), again);
            self.hunk.reasons.push(reason);
        }
        for line in &self.old.lines[piece.old.clone()] {
            self.hunk.line('-', line);
        }
        for line in &piece.new {
            self.hunk.line('+', line);
        }
        self.at = piece.old.end;
    }

    fn context(&mut self, to: usize) {
        for line in &self.old.lines[self.at..to] {
            self.hunk.line(' ', line);
        }
    }

    fn finish(mut self, pieces: &[Piece<'_>]) -> Hunk {
        let end = pieces.last().map_or(0, |piece| piece.old.end) + CONTEXT;
        self.context(end.min(self.old.lines.len()));
        self.hunk
    }
}

pub(super) fn reason(change: &Change, line: usize, again: bool) -> Reason {
    Reason {
        line,
        code: change.code,
        device: change.device,
        path: change.path.clone(),
        text: change.reason.clone(),
        again,
    }
}

fn signed(lines: usize) -> isize {
    isize::try_from(lines).unwrap_or(isize::MAX)
}

#[cfg(test)]
pub(super) mod tests;
