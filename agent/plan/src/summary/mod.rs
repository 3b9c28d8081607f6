//! A plan for people: a row for each kind of piece, the guest's cells with their host nodes, and the distances as one line. Pure.
//!
//! ```text
//! changes --group by code and element, fold the texts--> rows     hunks --lines of each reason--> their line counts
//! completed definition --> cells, distances by class
//! ```

mod cells;
pub mod fold;

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};

pub use crate::removed::Lines;
use crate::rewrite::Rewrite;
use crate::saved_plan::{Addition, Hunk, PlannedDevice, SavedPlan, hunks_of};
use domain::Definition;
use domain::code::Code;
use fold::Folded;

pub use cells::{Cells, Distances, GuestCell};

/// What a plan adds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The devices that have a recipe.
    pub devices: Vec<PlannedDevice>,
    /// The pieces: one row for those that differ only in their numbers.
    pub rows: Vec<Row>,
    /// How many pieces these are.
    pub pieces: usize,
    /// Lines of the whole diff.
    pub lines: Lines,
    /// The NUMA cells of the completed definition.
    pub cells: Cells,
}

/// Pieces of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// The stable code.
    #[serde(with = "crate::saved_plan::text")]
    pub code: Code,
    /// The element without the identity of the device, as a path below `<domain>`.
    pub element: String,
    /// The devices that the pieces are for; empty for the domain.
    pub devices: Vec<PciAddress>,
    /// What is added, and why.
    pub text: String,
    /// Lines of the diff for it.
    pub lines: Lines,
}

impl Summary {
    /// Summarizes a saved plan.
    #[must_use]
    pub fn of(saved_plan: &SavedPlan) -> Self {
        let SavedPlan {
            devices,
            changes,
            hunks,
            text,
            ..
        } = saved_plan;
        Self::new(devices.clone(), changes, hunks, text)
    }

    /// Summarizes what was planned for a definition.
    #[must_use]
    pub fn of_rewrite(definition: &Definition, rewrite: &Rewrite) -> Self {
        let hunks = hunks_of(definition.text(), rewrite);
        let changes: Vec<Addition> = rewrite.plan.changes.iter().map(Addition::of).collect();
        let devices = rewrite.plan.devices.iter().map(PlannedDevice::of);
        Self::new(devices.collect(), &changes, &hunks, &rewrite.text)
    }

    fn new(
        devices: Vec<PlannedDevice>,
        changes: &[Addition],
        hunks: &[Hunk],
        completed: &str,
    ) -> Self {
        let mut lines = Lines::default();
        let all = hunks.iter().flat_map(|hunk| &hunk.lines);
        all.for_each(|line| lines.count(line));
        Self {
            rows: rows(changes, hunks),
            pieces: changes.len(),
            lines,
            cells: Cells::of(completed, &devices),
            devices,
        }
    }
}

/// A row under construction.
struct Draft {
    code: Code,
    element: String,
    devices: Vec<PciAddress>,
    text: Folded,
    lines: Lines,
}

impl Draft {
    /// Adds a piece of the same kind; false if it is of another kind.
    fn join(&mut self, change: &Addition, element: &str, lines: Lines) -> bool {
        let same = self.code == change.code
            && self.element == element
            && self.devices.is_empty() == change.device.is_none();
        if !same || !self.text.join(&change.reason) {
            return false;
        }
        self.devices.extend(change.device);
        self.lines.add(lines);
        true
    }
}

fn rows(changes: &[Addition], hunks: &[Hunk]) -> Vec<Row> {
    let mut drafts: Vec<Draft> = Vec::new();
    for change in changes {
        let (element, lines) = (element(&change.path), lines(change, hunks));
        if drafts
            .iter_mut()
            .any(|one| one.join(change, &element, lines))
        {
            continue;
        }
        drafts.push(Draft {
            code: change.code,
            element,
            devices: change.device.into_iter().collect(),
            text: Folded::new(&change.reason),
            lines,
        });
    }
    let row = |draft: Draft| Row {
        code: draft.code,
        element: draft.element,
        devices: draft.devices,
        text: draft.text.to_string(),
        lines: draft.lines,
    };
    drafts.into_iter().map(row).collect()
}

/// The path of an element below `<domain>`, without what tells it from its siblings.
#[must_use]
pub fn element(path: &str) -> String {
    let path = path.strip_prefix("/domain/").unwrap_or(path);
    let mut depth = 0_usize;
    let outside = |one: &char| {
        match one {
            '[' => depth += 1,
            ']' => depth = depth.saturating_sub(1),
            _ => return depth == 0,
        }
        false
    };
    path.chars().filter(outside).collect()
}

/// The lines of the diff that a change is the reason for. Lines with several reasons count for the first. A change without edits of
/// its own, the NUMA layout, is in the text that the others edit: lines without a reason are its lines.
fn lines(change: &Addition, hunks: &[Hunk]) -> Lines {
    let mut lines = Lines::default();
    for hunk in hunks {
        let mut reason = None;
        for (number, line) in hunk.lines.iter().enumerate() {
            let mut here = hunk.reasons.iter().filter(|reason| reason.line == number);
            reason = match here.next() {
                Some(first) => Some(first),
                None => reason.filter(|_| !line.starts_with(' ')),
            };
            let is_ours = reason.map_or(change.edits.is_empty(), |reason| {
                let key = (reason.code, reason.device, &reason.path);
                key == (change.code, change.device, &change.path)
            });
            if is_ours {
                lines.count(line);
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests;
