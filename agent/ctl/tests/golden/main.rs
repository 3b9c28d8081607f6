//! Recorded hosts times definitions times targets: the plan, the completed definition or the refusal is what is committed.
//!
//! `cargo xtask regen golden` writes them again. Of a plan's diff only the reasons are kept:
//! the rest must lead from the one definition to the other.

mod case;
mod distance;
mod nccl;
mod numa;
mod published;
mod stack;
mod summary;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Output;
use std::sync::LazyLock;

use case::{Case, Files};
use serde_json::Value;
use similar::TextDiff;

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

fn diff(before: &str, after: &str, names: (&str, &str)) -> String {
    if before == after {
        return String::new();
    }
    let diff = TextDiff::from_lines(before, after);
    let mut diff = diff.unified_diff();
    diff.context_radius(2).header(names.0, names.1).to_string()
}

/// What `variantctl` says of a case for one target.
fn generated(case: &Case, target: &str) -> Files {
    let plan = case.run(target, &["plan", "--diff"], None);
    let rewrite = case.run(target, &["rewrite"], None);
    let name = format!("{} for {target}", case.name);
    assert_eq!(stderr(&plan), stderr(&rewrite), "{name}");
    if !plan.status.success() {
        assert_eq!(plan.status.code(), Some(1), "{name}: {}", stderr(&plan));
        assert_eq!(stdout(&plan) + &stdout(&rewrite), "", "{name}");
        return Files::from([(format!("{target}.refusal"), stderr(&plan))]);
    }
    let (shown, xml) = (stdout(&plan), stdout(&rewrite));
    let (printed, shown) = printed(&shown);
    let patched = patched(&case.definition(), &shown);
    let lost = diff(&xml, &patched, ("rewritten", "by the plan's diff"));
    assert_eq!(lost, "", "{name}");
    Files::from([
        (format!("{target}.plan"), printed + &stderr(&plan)),
        (format!("{target}.xml"), xml),
    ])
}

/// What a plan says: lines before its diff and reasons in it; and the diff without them.
fn printed(plan: &str) -> (String, String) {
    let start = plan.find("--- domain.xml\n").unwrap_or(plan.len());
    let (head, diff) = plan.split_at(start);
    let (reasons, diff): (Vec<&str>, Vec<&str>) = diff
        .split_inclusive('\n')
        .partition(|line| line.starts_with('#'));
    (head.to_owned() + &reasons.concat(), diff.concat())
}

/// The text after a unified diff.
fn patched(text: &str, diff: &str) -> String {
    let mut lines = text.split_inclusive('\n');
    let (mut out, mut read) = (String::new(), 1);
    for line in diff.split_inclusive('\n').skip(2) {
        if let Some(range) = line.strip_prefix("@@ -") {
            let start = range.split([',', ' ']).next().expect("start");
            let start: usize = start.parse().expect("number");
            out.extend(lines.by_ref().take(start - read));
            read = start;
        } else if let Some(added) = line.strip_prefix('+') {
            out += added;
        } else {
            let old = lines.next().expect("line");
            assert_eq!(old, &line[1..]);
            read += 1;
            out += if line.starts_with(' ') { old } else { "" };
        }
    }
    out.extend(lines);
    out
}

fn all_generated(case: &Case) -> Files {
    let targets = case.settings.targets.iter();
    targets.flat_map(|target| generated(case, target)).collect()
}

/// Differences between what is committed and what is generated, for a reader.
fn differences(case: &Case, committed: &Files, generated: &Files) -> String {
    let names: BTreeSet<&String> = committed.keys().chain(generated.keys()).collect();
    let one = |name: &String| {
        let path = format!("{}/{name}", case.name);
        match (committed.get(name), generated.get(name)) {
            (Some(_), None) => format!("{path} is stale: nothing generates it\n"),
            (None, Some(_)) => format!("{path} is missing\n"),
            (Some(before), Some(after)) => diff(before, after, (&path, "now")),
            (None, None) => String::new(),
        }
    };
    names.into_iter().map(one).collect()
}

/// A sound case for a target that does not refuse it.
struct Completed {
    case: Case,
    target: String,
    /// The completed definition.
    xml: String,
    /// `plan --json`.
    plan: Value,
}

impl Completed {
    fn name(&self) -> String {
        format!("{} for {}", self.case.name, self.target)
    }
}

/// All of them, made once.
fn completed() -> &'static [Completed] {
    static ALL: LazyLock<Vec<Completed>> = LazyLock::new(|| {
        let sound = |case: &Case| case.settings.fault.is_none();
        let cases = case::all().into_iter().filter(sound);
        cases.flat_map(|case| complete(&case)).collect()
    });
    assert!(ALL.len() > 60, "nearly every case is refused");
    &ALL
}

fn complete(case: &Case) -> Vec<Completed> {
    let one = |target: &String| {
        let output = case.run(target, &["rewrite"], None);
        output.status.success().then(|| {
            let plan = case.run(target, &["plan", "--json"], None);
            Completed {
                case: case.clone(),
                target: target.clone(),
                xml: stdout(&output),
                plan: serde_json::from_str(&stdout(&plan)).expect("JSON"),
            }
        })
    };
    case.settings.targets.iter().filter_map(one).collect()
}

#[test]
fn every_case_equals_its_committed_files() {
    let mut report = String::new();
    for case in case::all() {
        assert!(
            !case.settings.title.is_empty(),
            "{} has no title",
            case.name
        );
        let generated = all_generated(&case);
        if std::env::var_os("VARIANTD_WRITE_GOLDEN").is_some() {
            case.write(&generated);
        }
        report += &differences(&case, &case.committed(), &generated);
    }
    case::expect_none(&report);
}

#[test]
fn bad_input_is_refused_by_every_target() {
    for case in case::all().iter().filter(|case| case.settings.refused) {
        let outputs = case.settings.targets.iter();
        let accepted = outputs.filter(|target| {
            let output = case.run(target, &["rewrite"], None);
            output.status.success()
        });
        let accepted: Vec<&String> = accepted.collect();
        let known = case.settings.fault.is_some();
        assert_eq!(!accepted.is_empty(), known, "{}: {accepted:?}", case.name);
    }
}

#[test]
fn every_device_gets_the_nodes_that_its_case_names() {
    for one in completed() {
        let nodes: BTreeMap<String, String> = distance::host_nodes(&one.plan)
            .into_iter()
            .map(|(address, nodes)| (address, nodes.to_string()))
            .filter(|(_, nodes)| !nodes.is_empty())
            .collect();
        assert_eq!(nodes, one.case.settings.nodes, "{}", one.name());
    }
}

#[test]
fn every_distance_equals_that_of_the_host() {
    let compare = |one: &Completed| distance::compare(&one.name(), &one.case, &one.plan, &one.xml);
    let pairs: usize = completed().iter().map(compare).sum();
    assert!(pairs > 5000, "only {pairs} distances were compared");
}

#[test]
fn a_completed_definition_is_complete() {
    for one in completed() {
        let again = one.case.run(&one.target, &["rewrite"], Some(&one.xml));
        let lost = diff(&one.xml, &stdout(&again), ("once", "twice"));
        assert_eq!(lost, "", "{}", one.name());
    }
}

/// An address that was replaced on request does not come back, so these cases are left out.
#[test]
fn revert_restores_the_users_text() {
    for one in completed().iter().filter(|one| !one.case.settings.replace) {
        let back = one.case.revert(&one.xml);
        let lost = diff(&one.case.definition(), &back, ("written", "reverted"));
        assert_eq!(lost, "", "{}", one.name());
    }
}
