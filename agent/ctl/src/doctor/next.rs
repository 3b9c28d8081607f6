//! The one command to run next: it fixes the first failure, or is the next step when nothing failed.

use super::check::{Check, Group, Verdict};
use super::scene::{Libvirt, Scene};

/// The command, for checks that were made of `scene`.
#[must_use]
pub(crate) fn next(scene: &Scene, checks: &[Check]) -> String {
    let is = |verdict| move |check: &&Check| check.verdict == verdict;
    // The agent and libvirt come first, because other commands need them.
    let rank = |check: &&Check| match (check.group, check.command()) {
        (_, None) => 2,
        (Group::Installation | Group::Libvirt, Some(_)) => 0,
        _ => 1,
    };
    let failures = checks.iter().filter(is(Verdict::Fail));
    if let Some(first) = failures.min_by_key(rank) {
        return fix(first);
    }
    // Root cannot add facts to a recorded host.
    if scene.recorded.is_none() && checks.iter().any(|check| check.needs_root) {
        return "sudo variantctl doctor".to_owned();
    }
    let warned = checks.iter().filter(is(Verdict::Warn));
    if let Some(command) = warned.filter_map(Check::command).next() {
        return command.to_owned();
    }
    ready(scene)
}

fn fix(check: &Check) -> String {
    match check.command() {
        Some(command) => command.to_owned(),
        None => format!("variantctl explain {}", check.code),
    }
}

/// No check failed: a guest can be defined or started.
fn ready(scene: &Scene) -> String {
    if let Some(directory) = &scene.recorded {
        return format!("variantctl --host {} topology", directory.display());
    }
    let domains = match &scene.libvirt {
        Ok(Libvirt::Answers { domains, .. }) => domains.as_slice(),
        _ => &[],
    };
    match domains.iter().find(|domain| !domain.active) {
        _ if scene.covered().next().is_none() => "variantctl list --all".to_owned(),
        Some(domain) => format!("virsh start {}", domain.name),
        None if domains.is_empty() => "virsh define guest.xml".to_owned(),
        None => "variantctl list".to_owned(),
    }
}
