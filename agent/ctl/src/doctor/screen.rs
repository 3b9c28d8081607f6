//! The checks as text: one line each below their group; equal lines of several devices become one.

use std::collections::BTreeMap;

use super::check::{Check, Group, Verdict};

/// The number of checks with each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub(crate) struct Tally {
    pub passed: usize,
    pub unavailable: usize,
    pub warned: usize,
    pub failed: usize,
}

/// How much of the checks is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Length {
    /// Only warnings and failures.
    Quiet,
    /// Every check.
    Usual,
    /// Also the files that its facts are from.
    Verbose,
}

/// Columns of the description, before the verdict.
const WIDTH: usize = 76;

impl Tally {
    /// Counts checks.
    #[must_use]
    pub(crate) fn of(checks: &[Check]) -> Self {
        let count = |verdict| checks.iter().filter(|one| one.verdict == verdict).count();
        Self {
            passed: count(Verdict::Pass),
            unavailable: count(Verdict::Unavailable),
            warned: count(Verdict::Warn),
            failed: count(Verdict::Fail),
        }
    }
}

/// The lines of checks.
#[must_use]
pub(crate) fn text(checks: &[Check], length: Length) -> String {
    let mut out = String::new();
    for group in Group::ALL {
        let of_group = checks.iter().filter(|check| check.group == group);
        let asks = |check: &&Check| length != Length::Quiet || check.verdict > Verdict::Unavailable;
        let shown: Vec<&Check> = of_group.filter(asks).collect();
        if shown.is_empty() {
            continue;
        }
        out.push_str(&format!("{}\n", group.title()));
        merged(&shown, length)
            .iter()
            .for_each(|line| out.push_str(line));
    }
    out
}

/// Lines in the order of their first check; equal ones of several subjects become one.
fn merged(checks: &[&Check], length: Length) -> Vec<String> {
    let key = |check: &Check| {
        (
            check.code,
            check.verdict,
            check.text.clone(),
            check.hint.clone(),
        )
    };
    let mut subjects: BTreeMap<_, Vec<&Check>> = BTreeMap::new();
    for check in checks {
        subjects.entry(key(check)).or_default().push(check);
    }
    let mut lines = Vec::new();
    for check in checks {
        if let Some(same) = subjects.remove(&key(check)) {
            lines.push(line(check, &same));
            if length == Length::Verbose {
                lines.extend(sources(&same));
            }
        }
    }
    lines
}

/// A line with the files that the facts are from, each once; `None` without any. Those of several devices are one, with `*`.
fn sources(same: &[&Check]) -> Option<String> {
    let mut paths: Vec<String> = Vec::new();
    for check in same {
        let shown = |path: &String| match &check.subject {
            Some(subject) if same.len() > 1 => path.replace(subject.as_str(), "*"),
            _ => path.clone(),
        };
        for path in check.read_from.iter().map(shown) {
            if !paths.contains(&path) {
                paths.push(path);
            }
        }
    }
    (!paths.is_empty()).then(|| format!("    read from {}\n", paths.join(", ")))
}

fn line(check: &Check, same: &[&Check]) -> String {
    let details: Vec<&Option<String>> = same.iter().map(|one| &one.detail).collect();
    // Several devices share a line, and a detail that differs would be wrong for some of them.
    let equal = details.windows(2).all(|pair| pair[0] == pair[1]);
    let detail = match (&check.detail, equal) {
        (Some(detail), true) => format!(" ({detail})"),
        _ => String::new(),
    };
    let subject = match (&check.subject, same.len()) {
        (None, _) => String::new(),
        (Some(subject), 1) => format!("{subject}: "),
        (Some(_), count) => format!("{count} {}: ", check.group.several()),
    };
    let description = format!("{subject}{}{detail}", check.text);
    let hint = match &check.hint {
        Some(hint) => format!(" ({hint})"),
        None => String::new(),
    };
    let verdict = check.verdict.as_str();
    format!("  {}: {description:WIDTH$} : {verdict}{hint}\n", check.code)
}
