//! Groups edits of a text into ranges of whole lines.

use std::ops::Range;

use crate::lines;
use crate::plan::Change;
use domain::edit::{self, Edit};

/// Lines of the old text that become other lines, by some edits.
pub(super) struct Piece<'a> {
    pub(super) old: Range<usize>,
    pub(super) new: Vec<String>,
    /// With the numbers of their changes.
    pub(super) edits: Vec<(usize, &'a Edit)>,
}

/// Edits that touch the same lines, each with the number of its change.
type Group<'a> = (Range<usize>, Vec<(usize, &'a Edit)>);

/// The old text by lines.
pub(super) struct Lines<'a> {
    text: &'a str,
    pub(super) lines: Vec<&'a str>,
    starts: Vec<usize>,
}

/// What `changes` replace, in the order of the text.
pub(super) fn pieces<'a>(old: &Lines<'_>, changes: &'a [Change]) -> Vec<Piece<'a>> {
    let numbered = changes.iter().enumerate();
    let mut edits: Vec<(usize, &Edit)> = numbered
        .flat_map(|(number, change)| change.edits.iter().map(move |edit| (number, edit)))
        .collect();
    edits.sort_by_key(|(_, edit)| (edit.span.start, edit.span.end));
    let mut groups: Vec<Group<'_>> = Vec::new();
    for (number, edit) in edits {
        let (mut lines, mut group) = (old.touched(edit), Vec::new());
        while let Some((before, mut edits)) = groups.pop_if(|(before, _)| lines.start < before.end)
        {
            // Together they may change the line before inserted whole lines.
            let first = old.at(edits[0].1.span.start);
            lines = lines.start.min(first)..lines.end.max(before.end);
            edits.append(&mut group);
            group = edits;
        }
        group.push((number, edit));
        groups.push((lines, group));
    }
    let piece = |(lines, edits)| old.piece(lines, edits);
    groups.into_iter().filter_map(piece).collect()
}

impl<'a> Lines<'a> {
    pub(super) fn of(text: &'a str) -> Self {
        let lines = lines::of(text);
        let starts = lines.iter().scan(0, |at, line| {
            let start = *at;
            *at += line.len();
            Some(start)
        });
        Self {
            text,
            starts: starts.collect(),
            lines,
        }
    }

    fn at(&self, position: usize) -> usize {
        self.starts
            .partition_point(|start| *start <= position)
            .saturating_sub(1)
    }

    fn is_end(&self, position: usize) -> bool {
        self.text[position..].starts_with('\n')
    }

    /// True for an edit from the end of one line to the end of one, which changes neither of the two.
    fn is_whole(&self, edit: &Edit) -> bool {
        let lines = edit.text.is_empty() || edit.text.starts_with('\n');
        lines && self.is_end(edit.span.start) && self.is_end(edit.span.end)
    }

    /// The lines that an edit replaces; empty for whole lines that are inserted.
    fn touched(&self, edit: &Edit) -> Range<usize> {
        let first = self.at(edit.span.start) + usize::from(self.is_whole(edit));
        first..self.at(edit.span.end) + 1
    }

    /// `None` if nothing changes.
    fn piece<'b>(&self, lines: Range<usize>, edits: Vec<(usize, &'b Edit)>) -> Option<Piece<'b>> {
        // Whole lines begin after the end of the previous line, which is kept.
        let begin = self.at(edits.first()?.1.span.start);
        let new = self.replaced(begin..lines.end, &edits);
        let new: Vec<String> = new.split_inclusive('\n').map(str::to_owned).collect();
        self.trimmed(begin..lines.end, &new, edits)
    }

    /// The text of some lines with the edits made.
    fn replaced(&self, lines: Range<usize>, edits: &[(usize, &Edit)]) -> String {
        let begin = self.starts[lines.start];
        let text: String = self.lines[lines].concat();
        let shifted = edits.iter().map(|(_, edit)| Edit {
            span: edit.span.start - begin..edit.span.end - begin,
            text: edit.text.clone(),
        });
        // A plan has no overlapping edits: `edit::apply` refused them before.
        edit::apply(&text, &shifted.collect::<Vec<_>>()).unwrap_or(text)
    }

    /// Without unchanged lines at both ends.
    fn trimmed<'b>(
        &self,
        lines: Range<usize>,
        new: &[String],
        edits: Vec<(usize, &'b Edit)>,
    ) -> Option<Piece<'b>> {
        let old = &self.lines[lines.clone()];
        let same = |(a, b): &(&&str, &String)| **a == b.as_str();
        let head = old.iter().zip(new).take_while(same).count();
        let (old, new) = (&old[head..], &new[head..]);
        let backwards = old.iter().rev().zip(new.iter().rev());
        let tail = backwards.take_while(same).count();
        let start = lines.start + head;
        let piece = Piece {
            old: start..start + old.len() - tail,
            new: new[..new.len() - tail].to_vec(),
            edits,
        };
        (!piece.old.is_empty() || !piece.new.is_empty()).then_some(piece)
    }
}
