//! Hunks of made-up edits, and of all golden definitions.

use std::ops::Range;

use proptest::prelude::*;

use super::*;
use domain::edit::{self, Edit};

fn change(edits: &[(Range<usize>, &str)]) -> Change {
    let edit = |(span, text): &(Range<usize>, &str)| Edit {
        span: span.clone(),
        text: (*text).to_owned(),
    };
    Change {
        code: Code::CellsMissing,
        device: None,
        path: "/a".into(),
        reason: "because".into(),
        edits: edits.iter().map(edit).collect(),
    }
}

/// Applies hunks to a text as patch(1) does: at the lines they name, and only where the lines fit.
pub(crate) fn patched(text: &str, hunks: &[Hunk]) -> String {
    let old: Vec<&str> = text.split_inclusive('\n').collect();
    let (mut out, mut at) = (String::new(), 0);
    for hunk in hunks {
        out.extend(old[at..hunk.old_start - 1].iter().copied());
        at = hunk.old_start - 1;
        assert_eq!(hunk.new_start, out.split_inclusive('\n').count() + 1);
        let mut lines = hunk.lines.iter().peekable();
        while let Some(line) = lines.next() {
            let bare = lines.next_if(|next| *next == NO_NEWLINE).is_some();
            let whole = format!("{}{}", &line[1..], if bare { "" } else { "\n" });
            if !line.starts_with('+') {
                assert_eq!(old[at], whole);
                at += 1;
            }
            if !line.starts_with('-') {
                out += &whole;
            }
        }
        assert_eq!(at, hunk.old_start - 1 + hunk.old_lines);
    }
    out.extend(old[at..].iter().copied());
    out
}

fn lines(hunk: &Hunk) -> Vec<&str> {
    hunk.lines.iter().map(String::as_str).collect()
}

#[test]
fn each_inserted_line_is_below_its_own_reason() {
    let changes = [change(&[(1..1, "\n b")]), change(&[(1..1, "\n c")])];
    let hunks = hunks("a\nd\n", &changes);
    assert_eq!(lines(&hunks[0]), [" a", "+ b", "+ c", " d"]);
    let at: Vec<usize> = hunks[0].reasons.iter().map(|reason| reason.line).collect();
    assert_eq!(at, [1, 2]);
}

#[test]
fn a_line_changed_for_two_reasons_has_both_above_it() {
    let changes = [change(&[(0..1, "x")]), change(&[(2..3, "y")])];
    let hunks = hunks("a c\n", &changes);
    assert_eq!(lines(&hunks[0]), ["-a c", "+x y"]);
    let at: Vec<usize> = hunks[0].reasons.iter().map(|reason| reason.line).collect();
    assert_eq!(at, [0, 0]);
}

#[test]
fn distant_edits_of_one_change_print_the_reason_once_and_then_refer_to_it() {
    let text = "a\nb\nc\nd\ne\nf\ng\nh\n";
    let hunks = hunks(text, &[change(&[(1..1, "\nx"), (13..13, "\ny")])]);
    let again: Vec<bool> = hunks.iter().map(|hunk| hunk.reasons[0].again).collect();
    assert_eq!(again, [false, true]);
}

#[test]
fn a_missing_final_newline_is_marked() {
    let hunks = hunks("<a/>", &[change(&[(2..4, "></a>")])]);
    assert_eq!(
        lines(&hunks[0]),
        ["-<a/>", NO_NEWLINE, "+<a></a>", NO_NEWLINE]
    );
}

#[test]
fn an_edit_without_effect_gives_no_hunk() {
    assert!(hunks("a\n", &[change(&[(0..1, "a")])]).is_empty());
}

/// Edits that do not overlap, at any places, with any texts of few letters and line ends.
fn edits() -> impl Strategy<Value = (String, Vec<(Range<usize>, String)>)> {
    let cuts = proptest::collection::vec((0usize..40, 0usize..40, "[a\n]{0,4}"), 0..6);
    ("[ab\n]{1,40}", cuts).prop_map(|(text, cuts)| {
        let mut at = 0;
        let mut made = Vec::new();
        for (skip, length, new) in cuts {
            let start = at + skip % 8;
            let end = start + length % 6;
            if end > text.len() {
                break;
            }
            made.push((start..end, new));
            at = end;
        }
        (text, made)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn the_hunks_of_any_edits_give_the_edited_text((text, edits) in edits()) {
        let changes: Vec<Change> = edits.iter().map(|(span, new)| change(&[(span.clone(), new)])).collect();
        let all: Vec<Edit> = changes.iter().flat_map(|change| change.edits.clone()).collect();
        let after = edit::apply(&text, &all).expect("edits in order");
        prop_assert_eq!(patched(&text, &hunks(&text, &changes)), after);
    }
}
