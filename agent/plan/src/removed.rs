//! What a revert removes: for each kind of element how many, and the lines.

use serde::{Deserialize, Serialize};

use domain::edit::Edit;

use crate::lines;

/// Lines of a diff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lines {
    /// Lines with '+'.
    pub added: usize,
    /// Lines with '-'.
    pub removed: usize,
}

impl Lines {
    pub(crate) fn add(&mut self, other: Self) {
        self.added += other.added;
        self.removed += other.removed;
    }

    pub(crate) fn count(&mut self, line: &str) {
        match line.as_bytes().first() {
            Some(b'+') => self.added += 1,
            Some(b'-') => self.removed += 1,
            _ => {}
        }
    }
}

/// What was removed from a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// The elements, in the order of the definition.
    pub rows: Vec<RemovedElement>,
    /// Lines of the diff between the two definitions.
    pub lines: Lines,
}

/// Elements of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedElement {
    /// The name, such as `controller`.
    pub element: String,
    /// How many.
    pub count: usize,
    /// The lines of their text.
    pub lines: usize,
}

impl Removed {
    /// What these edits remove from `text`, which becomes `after`.
    pub(crate) fn of<'e>(
        text: &str,
        after: &str,
        edits: impl IntoIterator<Item = &'e Edit>,
    ) -> Self {
        let mut edits: Vec<&Edit> = edits.into_iter().collect();
        edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
        let mut rows: Vec<RemovedElement> = Vec::new();
        for edit in edits {
            let Some((element, lines)) = removed(text, edit) else {
                continue;
            };
            match rows.iter_mut().find(|row| row.element == element) {
                Some(row) => {
                    row.count += 1;
                    row.lines += lines;
                }
                None => rows.push(RemovedElement {
                    element: element.to_owned(),
                    count: 1,
                    lines,
                }),
            }
        }
        let mut lines = Lines::default();
        for op in lines::diff(&lines::of(text), &lines::of(after)) {
            if op.tag() != similar::DiffTag::Equal {
                lines.removed += op.old_range().len();
                lines.added += op.new_range().len();
            }
        }
        Self { rows, lines }
    }
}

/// The name of the element that an edit removes, and its lines; `None` for an attribute.
fn removed<'t>(text: &'t str, edit: &Edit) -> Option<(&'t str, usize)> {
    let gone = text.get(edit.span.clone())?;
    let (_, from) = gone.split_once('<')?;
    let end = from.find(|one: char| one.is_whitespace() || matches!(one, '>' | '/'))?;
    let name = &from[..end];
    (!name.is_empty()).then(|| (name, gone.trim().lines().count()))
}
