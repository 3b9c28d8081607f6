//! The diff of a plan that replaces an older one: between the two texts, with each reason at its first new line.
//!
//! Elements that both plans add are in no hunk, and neither are their reasons.

use std::ops::Range;

use similar::{ChangeTag, DiffOp};

use super::diff::{CONTEXT, Hunk, reason};
use crate::lines;
use crate::plan::Change;

/// The diff from `text` to `after`, where `changes` turn `base` into `after`.
pub(super) fn hunks(text: &str, base: &str, after: &str, changes: &[Change]) -> Vec<Hunk> {
    let (old, new) = (lines::of(text), lines::of(after));
    let mut untold: Vec<(&Change, Vec<Range<usize>>)> =
        changes.iter().zip(contributed(base, changes)).collect();
    let groups = similar::group_diff_ops(lines::diff(&old, &new), CONTEXT);
    groups
        .iter()
        .map(|ops| hunk((&old, &new), ops, &mut untold))
        .collect()
}

fn hunk(
    (old, new): (&[&str], &[&str]),
    ops: &[DiffOp],
    untold: &mut Vec<(&Change, Vec<Range<usize>>)>,
) -> Hunk {
    let mut hunk = Hunk {
        old_start: ops.first().map_or(0, |op| op.old_range().start) + 1,
        old_lines: 0,
        new_start: ops.first().map_or(0, |op| op.new_range().start) + 1,
        new_lines: 0,
        lines: Vec::new(),
        reasons: Vec::new(),
    };
    for line in ops.iter().flat_map(|op| op.iter_changes(old, new)) {
        let sign = match line.tag() {
            ChangeTag::Equal => ' ',
            ChangeTag::Delete => '-',
            ChangeTag::Insert => '+',
        };
        if let (ChangeTag::Insert, Some(number)) = (line.tag(), line.new_index()) {
            let at = hunk.lines.len();
            let here =
                untold.extract_if(.., |(_, lines)| lines.iter().any(|l| l.contains(&number)));
            hunk.reasons
                .extend(here.map(|(change, _)| reason(change, at, false)));
        }
        hunk.line(sign, line.value());
    }
    hunk
}

/// The lines of the completed text to which each change contributes.
fn contributed(base: &str, changes: &[Change]) -> Vec<Vec<Range<usize>>> {
    let numbered = changes.iter().enumerate();
    let mut edits: Vec<_> = numbered
        .flat_map(|(number, change)| change.edits.iter().map(move |edit| (number, edit)))
        .collect();
    edits.sort_by_key(|(_, edit)| (edit.span.start, edit.span.end));
    let mut lines = vec![Vec::new(); changes.len()];
    let (mut at, mut line) = (0, 0);
    let count = |text: &str| text.bytes().filter(|byte| *byte == b'\n').count();
    for (number, edit) in edits {
        line += count(base.get(at..edit.span.start).unwrap_or_default());
        // Inserted text that begins with a newline does not change the line before it.
        let first = line + usize::from(edit.text.starts_with('\n'));
        line += count(&edit.text);
        lines[number].push(first..line + 1);
        at = edit.span.end;
    }
    for (change, lines) in changes.iter().zip(&mut lines) {
        // Its elements are in `base`: its reason is at the first new line.
        if change.edits.is_empty() {
            lines.push(0..usize::MAX);
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::code::Code;
    use domain::edit::{Edit, apply};

    fn change(at: usize, text: &str) -> Change {
        let text = text.to_owned();
        Change {
            code: Code::CellsMissing,
            device: None,
            path: "/a".into(),
            reason: text.clone(),
            edits: vec![Edit { span: at..at, text }],
        }
    }

    #[test]
    fn reasons_are_at_their_new_lines_and_kept_lines_have_no_reason() {
        let (text, base) = ("<a>\n old\n kept\n</a>\n", "<a>\n</a>\n");
        let changes = [
            change(3, "\n new"),
            change(3, "\n kept"),
            change(3, "\n more"),
        ];
        let edits: Vec<Edit> = changes.iter().flat_map(|c| c.edits.clone()).collect();
        let after = apply(base, &edits).expect("edits");
        let hunks = hunks(text, base, &after, &changes);
        let lines: Vec<&str> = hunks[0].lines.iter().map(String::as_str).collect();
        assert_eq!(
            lines,
            [" <a>", "- old", "+ new", "  kept", "+ more", " </a>"]
        );
        let printed = hunks[0].reasons.iter().map(|r| (r.line, r.text.as_str()));
        assert_eq!(printed.collect::<Vec<_>>(), [(2, "\n new"), (4, "\n more")]);
        assert_eq!((hunks[0].old_lines, hunks[0].new_lines), (4, 5));
    }

    #[test]
    fn a_carriage_return_ends_no_line() {
        let (text, base) = ("<a>\n old\r kept\n</a>\n", "<a>\n</a>\n");
        let changes = [change(3, "\n new")];
        let after = apply(base, &changes[0].edits).expect("edits");
        let hunks = hunks(text, base, &after, &changes);
        assert_eq!(hunks[0].lines, [" <a>", "- old\r kept", "+ new", " </a>"]);
        assert_eq!((hunks[0].old_lines, hunks[0].new_lines), (3, 3));
    }
}
