//! `variantctl plan` for many hosts: the hosts on which a guest fits, and the differences between them.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::problem::Problem;
use super::progress::Progress;
use super::{Cli, Request, input, output, recipes};
use crate::fleet::{self, Asked, Finding, Question};
use domain::code::Code;
use domain::refusal::{Refusal, about};
use domain::{Definition, MAX_BYTES};

/// Maximum size of a list of hosts in bytes: a million lines of 64 characters.
const MAX_LIST: usize = 64 << 20;

/// The result for one host.
struct Line<'a> {
    host: String,
    word: &'static str,
    findings: Vec<&'a Finding>,
    differences: Vec<Finding>,
}

/// True for a plan for more than one host: several, a list, or a directory of snapshots.
pub(super) fn is_asked(cli: &Cli, request: &Request) -> bool {
    let [only] = &cli.host[..] else { return true };
    request.hosts_from.is_some() || is_folder(only)
}

/// Plans for every host, and fails when the guest fits on none.
pub(super) fn run(cli: &Cli, request: &Request) -> Result<(), Problem> {
    let hosts = hosts(cli, request)?;
    let definition = Definition::parse(input::text(&request.subject, MAX_BYTES)?)?;
    let recipes = recipes(cli)?;
    let question = Question::new(
        definition,
        &recipes,
        request.wanted.target,
        request.wanted.replace,
    )?
    .with_options(
        request.wanted.egm.map(bool::from),
        request.wanted.numa.map(Into::into),
    );
    let progress = Progress::begin("planning for each host");
    let asked = fleet::ask(&hosts, &question, |done| {
        progress.stage(&format!(
            "planning for each host: {done} of {}",
            hosts.len()
        ));
    });
    drop(progress);
    let lines = lines(&hosts, &asked);
    match cli.json {
        true => output::object(to_json(&lines))?,
        false => output::text(&(table(&lines) + &summary(&lines)))?,
    }
    let fits = asked.iter().any(|one| one.shape.is_some());
    if fits { Ok(()) } else { Err(Problem::Found) }
}

fn hosts(cli: &Cli, request: &Request) -> Result<Vec<PathBuf>, Problem> {
    let mut named = match &request.hosts_from {
        Some(list) => {
            let text = input::text(list, MAX_LIST)?;
            let lines = text.lines().filter(|line| !line.trim().is_empty());
            lines.map(PathBuf::from).collect()
        }
        None => Vec::new(),
    };
    // Without '--host' clap sets the default '/', which is not one of the listed hosts.
    let default = request.hosts_from.is_some() && cli.host == [Path::new("/")];
    named.extend(cli.host.iter().filter(|_| !default).cloned());
    let mut hosts = Vec::new();
    for path in named {
        match is_folder(&path) {
            true => hosts.extend(snapshots(&path)?),
            false => hosts.push(path),
        }
    }
    if hosts.is_empty() {
        let hint = "write one of each with 'variantctl snapshot FILE'";
        return Err(Refusal::new(Code::FleetEmpty, "there is no snapshot of a host", hint).into());
    }
    Ok(hosts)
}

/// True for a directory of snapshots, which is not a recorded host.
fn is_folder(path: &Path) -> bool {
    path.is_dir() && !path.join("sys").is_dir()
}

fn snapshots(folder: &Path) -> Result<Vec<PathBuf>, Problem> {
    let failed =
        |why: io::Error| Problem::Failed(format!("cannot list '{}': {why}", folder.display()));
    let entries = fs::read_dir(folder).map_err(failed)?;
    let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(failed)?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "json"));
    paths.sort();
    Ok(paths)
}

/// Compares each host with the first on which the guest fits.
fn lines<'a>(hosts: &[PathBuf], asked: &'a [Asked]) -> Vec<Line<'a>> {
    let reference = asked.iter().find_map(|one| one.shape.as_ref());
    let one = |(host, one): (&PathBuf, &'a Asked)| {
        let differences = match (&one.shape, reference) {
            (Some(shape), Some(reference)) => shape.differences(reference),
            _ => Vec::new(),
        };
        let word = match (&one.shape, differences.is_empty()) {
            (None, _) => "no",
            (Some(_), true) => "fits",
            (Some(_), false) => "differs",
        };
        Line {
            host: host.display().to_string(),
            word,
            findings: one.findings.iter().collect(),
            differences,
        }
    };
    hosts.iter().zip(asked).map(one).collect()
}

impl Line<'_> {
    fn all(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().copied().chain(&self.differences)
    }
}

fn table(lines: &[Line<'_>]) -> String {
    let width = lines.iter().map(|line| line.host.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut out = String::new();
    for line in lines {
        let found: Vec<String> = line.all().map(sentence).collect();
        let text = format!(
            "{:width$}  {:7}  {}",
            line.host,
            line.word,
            found.join("; ")
        );
        let _ = writeln!(out, "{}", text.trim_end());
    }
    out
}

fn sentence(finding: &Finding) -> String {
    format!(
        "{} ({})",
        about(finding.device, &finding.text),
        finding.code
    )
}

fn count(lines: &[Line<'_>], word: &str) -> usize {
    lines.iter().filter(|line| line.word == word).count()
}

fn summary(lines: &[Line<'_>]) -> String {
    let [fits, differs, no] = ["fits", "differs", "no"].map(|word| count(lines, word));
    let first = lines.iter().find(|line| line.word == "fits");
    let first = first.map_or(String::new(), |line| format!(", alike to '{}'", line.host));
    format!(
        "{} hosts: it fits on {fits}{first}; fits and differs on {differs}; does not fit on {no}\n",
        lines.len()
    )
}

fn to_json(lines: &[Line<'_>]) -> Value {
    let finding =
        |one: &Finding| json!({"code": one.code.as_str(), "device": one.device, "text": one.text});
    let line = |line: &Line<'_>| {
        json!({
            "host": line.host,
            "fits": line.word != "no",
            "differs": line.word == "differs",
            "findings": line.findings.iter().map(|one| finding(one)).collect::<Value>(),
            "differences": line.differences.iter().map(finding).collect::<Value>(),
        })
    };
    let reference = lines.iter().find(|line| line.word == "fits");
    json!({
        "reference": reference.map(|line| &line.host),
        "hosts": lines.iter().map(line).collect::<Value>(),
        "summary": {
            "fits": count(lines, "fits"), "differs": count(lines, "differs"), "no": count(lines, "no"),
        },
    })
}
