//! Compares each state that a cut may leave with the states that a program has acknowledged.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

use super::disk::{Disk, Tree};
use crate::trace::Call;

/// What programs read from files.
pub struct Component<'a> {
    /// Whether a path below the root belongs to it; also the directories above.
    pub keep: &'a dyn Fn(&Path) -> bool,
    /// Whether the call tells others what the files say: a reply, or a write to a device. What the files said before it must be durable.
    pub commits: &'a dyn Fn(&Call) -> bool,
    /// What real programs read from the files; an error if they find damage.
    pub view: &'a dyn Fn(&Tree) -> Result<String, String>,
}

/// The result of a check.
#[derive(Debug, Default)]
pub struct Report {
    /// Different states.
    pub states: usize,
    /// Calls after which the power may go.
    pub points: usize,
    /// Calls that commit.
    pub commits: usize,
    /// Different views of programs.
    pub views: BTreeSet<String>,
    /// Wrong states.
    pub findings: Vec<Finding>,
}

/// A state that must not be there after a cut.
#[derive(Debug)]
pub struct Finding {
    /// The call after which the power went.
    pub after: String,
    /// The files.
    pub tree: Tree,
    /// What programs read from them.
    pub view: Result<String, String>,
    /// What they may read.
    pub allowed: BTreeSet<String>,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "after: {}", self.after)?;
        for (path, node) in &self.tree {
            writeln!(f, "  {}: {node:?}", path.display())?;
        }
        writeln!(f, "  read as {:?}", self.view)?;
        write!(f, "  instead of one of {:?}", self.allowed)
    }
}

/// Cuts the power after each call that changes `before`, the files below `root`. After each cut programs must read what the files
/// said at some time since the last commit.
///
/// # Panics
/// Programs find damage without a cut, or the calls cannot be replayed.
#[must_use]
pub fn check(root: &Path, before: &Tree, calls: &[Call], component: &Component<'_>) -> Report {
    let mut disk = Disk::new(root, before, component.keep);
    let mut views: BTreeMap<Tree, Result<String, String>> = BTreeMap::new();
    let mut view = |tree: Tree| views.entry(tree).or_insert_with_key(component.view).clone();
    let mut report = Report::default();
    let live = |disk: &Disk<'_>, view: &mut dyn FnMut(Tree) -> Result<String, String>| {
        view(disk.live()).expect("a view without a cut")
    };
    let mut allowed = BTreeSet::from([live(&disk, &mut view)]);
    report.views.clone_from(&allowed);
    for call in calls {
        disk.apply(call);
        let now = live(&disk, &mut view);
        if (component.commits)(call) {
            allowed.clear();
            report.commits += 1;
        }
        report.views.insert(now.clone());
        allowed.insert(now);
        report.points += 1;
        for tree in disk.cuts() {
            let found = view(tree.clone());
            if !found.as_ref().is_ok_and(|found| allowed.contains(found)) {
                report.findings.push(Finding {
                    after: call.to_string(),
                    tree,
                    view: found,
                    allowed: allowed.clone(),
                });
            }
        }
    }
    report.states = views.len();
    report
}
