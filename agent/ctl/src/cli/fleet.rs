//! `variantctl plan` for many hosts: the hosts on which a guest fits, and the differences between them.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::problem::Problem;
use super::progress::Progress;
use super::{Cli, Request, input, output, recipes};
use crate::fleet::{self, Asked, Finding, Question, Shape};
use domain::code::Code;
use domain::refusal::{Refusal, about};
use domain::{Definition, MAX_BYTES};

/// Maximum size of a list of hosts in bytes: a million lines of 64 characters.
const MAX_LIST: usize = 64 << 20;

/// The result for one host.
struct Line<'a> {
    host: Cow<'a, str>,
    word: &'static str,
    findings: &'a [Finding],
    differences: &'a [Finding],
}

/// The results in the order of the hosts. Each is made when it is needed: of a million hosts only the answers are in memory.
struct Lines<'a> {
    hosts: &'a [PathBuf],
    asked: &'a [Asked],
    /// What differs from the first host on which the guest fits, once for each shape: equal shapes are shared.
    differences: BTreeMap<*const Shape, Vec<Finding>>,
}

/// How many hosts have each result, and the first on which the guest fits.
#[derive(Default)]
struct Tally<'a> {
    fits: usize,
    differs: usize,
    no: usize,
    first: Option<Cow<'a, str>>,
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
    let lines = Lines::new(&hosts, &asked);
    match cli.json {
        true => print_json(&lines)?,
        false => output::text_lines(table(&lines).chain([summary(&lines)]))?,
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

impl<'a> Lines<'a> {
    fn new(hosts: &'a [PathBuf], asked: &'a [Asked]) -> Self {
        let mut differences = BTreeMap::new();
        let shapes = || asked.iter().filter_map(|one| one.shape.as_ref());
        if let Some(reference) = shapes().next() {
            for shape in shapes() {
                let found = differences.entry(Arc::as_ptr(shape));
                found.or_insert_with(|| shape.differences(reference));
            }
        }
        Self {
            hosts,
            asked,
            differences,
        }
    }

    fn iter(&self) -> impl Iterator<Item = Line<'_>> {
        self.hosts.iter().zip(self.asked).map(|(host, asked)| {
            let differences = asked
                .shape
                .as_ref()
                .map(|shape| &*self.differences[&Arc::as_ptr(shape)]);
            Line {
                host: host.to_string_lossy(),
                word: match differences {
                    None => "no",
                    Some([]) => "fits",
                    Some(_) => "differs",
                },
                findings: &asked.findings,
                differences: differences.unwrap_or_default(),
            }
        })
    }

    fn tally(&self) -> Tally<'_> {
        let mut tally = Tally::default();
        for line in self.iter() {
            match line.word {
                "fits" => {
                    tally.fits += 1;
                    tally.first.get_or_insert(line.host);
                }
                "differs" => tally.differs += 1,
                _ => tally.no += 1,
            }
        }
        tally
    }
}

impl Line<'_> {
    fn text(&self, width: usize) -> String {
        let found: Vec<String> = self
            .findings
            .iter()
            .chain(self.differences)
            .map(sentence)
            .collect();
        let text = format!(
            "{:width$}  {:7}  {}",
            self.host,
            self.word,
            found.join("; ")
        );
        text.trim_end().to_owned()
    }

    fn json(&self) -> Value {
        let finding = |one: &Finding| json!({"code": one.code.as_str(), "device": one.device, "text": one.text});
        json!({
            "host": self.host,
            "fits": self.word != "no",
            "differs": self.word == "differs",
            "findings": self.findings.iter().map(finding).collect::<Value>(),
            "differences": self.differences.iter().map(finding).collect::<Value>(),
        })
    }
}

fn table(lines: &Lines<'_>) -> impl Iterator<Item = String> {
    let width = |host: &PathBuf| host.to_string_lossy().chars().count();
    let width = lines.hosts.iter().map(width).max().unwrap_or(0);
    lines.iter().map(move |line| line.text(width))
}

fn sentence(finding: &Finding) -> String {
    format!(
        "{} ({})",
        about(finding.device, &finding.text),
        finding.code
    )
}

fn summary(lines: &Lines<'_>) -> String {
    let Tally {
        fits,
        differs,
        no,
        first,
    } = lines.tally();
    let first = first.map_or(String::new(), |host| format!(", alike to '{host}'"));
    format!(
        "{} hosts: it fits on {fits}{first}; fits and differs on {differs}; does not fit on {no}",
        lines.hosts.len()
    )
}

/// The output of `--json`, with its fields in the order of their names.
#[derive(Serialize)]
struct Answer<'a> {
    #[serde(serialize_with = "each")]
    hosts: &'a Lines<'a>,
    reference: Option<Cow<'a, str>>,
    summary: Value,
    version: u32,
}

fn each<S: Serializer>(lines: &Lines<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(lines.iter().map(|line| line.json()))
}

fn print_json(lines: &Lines<'_>) -> Result<(), Problem> {
    let tally = lines.tally();
    output::stream(&Answer {
        hosts: lines,
        summary: json!({"fits": tally.fits, "differs": tally.differs, "no": tally.no}),
        reference: tally.first,
        version: output::SCHEMA,
    })
}
