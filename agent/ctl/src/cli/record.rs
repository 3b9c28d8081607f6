//! `variantctl record-host DIR`: records a host for use with `--host`.

use std::path::Path;

use kernel_glue::failure::{Failure, describe};
use kernel_glue::host::Gap;
use kernel_glue::record::{self, Content, Fact};
use nix::errno::Errno;
use serde_json::json;

use super::output;
use super::problem::Problem;
use super::progress::Progress;
use crate::doctor::read::facts;
use agent::daemon::STATE;
use agent::stack::recorded as stack;
use planner::stack::Stack;
use settings::file;

/// `recipes` is the directory of the administrator's recipes.
pub(super) fn run(root: &Path, recipes: &Path, dir: &Path, as_json: bool) -> Result<(), Problem> {
    let failed = |failure: Failure| Problem::Failed(failure.to_string());
    let progress = Progress::begin("reading the host");
    let mut recorded = record::record(root, dir).map_err(failed)?;
    let facts = facts(root, recipes).map_err(failed)?;
    recorded.files += record::add(dir, &facts).map_err(failed)?;
    recorded.gaps.extend(gaps(&facts));
    let stack = keep_stack(root, dir)?;
    drop(progress);
    output::gaps(&recorded.gaps);
    if stack.is_none() {
        output::say(
            "note: the versions of libvirt and QEMU are unknown here; plans on this recording assume the newest that are tested",
        );
    }
    if as_json {
        let gaps = output::gaps_json(&recorded.gaps);
        return output::object(
            json!({"directory": dir, "files": recorded.files, "links": recorded.links, "gaps": gaps, "stack": stack.map(|stack| stack.to_string())}),
        );
    }
    output::text(&format!(
        "recorded {} files and {} links below '{}'\n",
        recorded.files,
        recorded.links,
        dir.display()
    ))
}

/// Facts that exist on the host and could not be read.
fn gaps(facts: &[Fact]) -> impl Iterator<Item = Gap> {
    let absent = describe(Errno::ENOENT);
    facts.iter().filter_map(move |fact| match &fact.content {
        Content::Unread(reason) if *reason != absent => Some(Gap {
            path: format!("/{}", fact.path),
            reason: reason.clone(),
        }),
        _ => None,
    })
}

/// Stores what libvirt and QEMU can express, so that plans on the recording are those of the host.
fn keep_stack(root: &Path, dir: &Path) -> Result<Option<Stack>, Problem> {
    let Some(stack) = stack::recorded(root)?.or_else(|| stack::of_agent(root, STATE)) else {
        return Ok(None);
    };
    let path = dir.join(stack::FILE);
    let text = planner::json::text(&stack) + "\n";
    let written = file::replace(&path, &text, 0o644);
    written.map_err(|why| Problem::Failed(format!("cannot write '{}': {why}", path.display())))?;
    Ok(Some(stack))
}
