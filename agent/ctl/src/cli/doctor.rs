//! `variantctl doctor`: one screen of checks, and the one command to run next. Changes nothing.

use std::str::FromStr;

use clap::Args;
use serde_json::{Value, json};

use super::problem::Problem;
use super::progress::{self, Progress};
use super::{Cli, hint, is_snapshot, output, reservations};
use crate::doctor::read::{self, Places};
use crate::doctor::{Check, Group, Length, Tally, Verdict, examine, next, text};
use agent::daemon::STATE;
use agent::reserve::Reservations;
use agent::snapshot::Snapshot;
use agent::stack::recorded::{of_agent, recorded};
use domain::code::Code;
use domain::hint::Hint;

/// The checks to make, and the effect of warnings.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// Exit with 1 also after a warning
    #[arg(long)]
    strict: bool,
    /// Print only warnings and failures
    #[arg(short, long)]
    quiet: bool,
    /// Print also the files that the facts of a check are from
    #[arg(short, long, conflicts_with = "quiet")]
    verbose: bool,
    /// Only checks of these groups (host, devices, libvirt, domains, installation) or codes, joined by commas
    #[arg(long, value_name = "GROUP|CODE", value_delimiter = ',')]
    only: Vec<Only>,
}

/// A group of checks, or one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Only {
    Group(Group),
    Code(Code),
}

impl FromStr for Only {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let code = || text.parse().map(Self::Code);
        let group = text.parse().map(Self::Group);
        group.or_else(|()| code()).map_err(|_| {
            let groups = Group::ALL.map(Group::as_str).join(", ");
            format!("neither a group ({groups}) nor a code of 'variantctl explain'")
        })
    }
}

/// Runs the checks, prints them, and fails when a check failed.
pub(super) fn run(cli: &Cli, request: &Request) -> Result<(), Problem> {
    let (host, capacity, stack, reservations) = match is_snapshot(cli.host()) {
        true => {
            let snapshot = Snapshot::read(cli.host())?;
            let noted = Reservations::noted(snapshot.reservations);
            let pair = snapshot.target.pair();
            (Some(snapshot.host), snapshot.capacity, pair, noted)
        }
        false => (None, None, recorded(cli.host())?, reservations(cli)),
    };
    let places = Places {
        root: cli.host().to_owned(),
        host,
        capacity,
        stack: stack.or_else(|| of_agent(cli.host(), STATE)),
        recipes: cli.recipes.clone(),
        reservations,
    };
    if request.quiet {
        progress::silence();
    }
    let progress = Progress::begin("reading the host");
    let scene = read::scene(places, &|stage| progress.stage(stage));
    drop(progress);
    let scene = scene.map_err(|failure| Problem::Failed(failure.to_string()))?;
    let mut checks = examine(&scene);
    checks.retain(|check| request.wants(check));
    for check in &mut checks {
        let hint = check.hint.take();
        check.hint = hint.map(|hint| hint.map_commands(|line| hint::for_host(line, cli.host())));
    }
    let (tally, next) = (Tally::of(&checks), next(&scene, &checks));
    let next = hint::for_host(&next, cli.host());
    match cli.json {
        true => output::object(to_json(&checks, tally, &next))?,
        false => show(&checks, request, tally, &next)?,
    }
    let bad = tally.failed > 0 || request.strict && tally.warned > 0;
    if bad { Err(Problem::Found) } else { Ok(()) }
}

impl Request {
    fn length(&self) -> Length {
        match (self.quiet, self.verbose) {
            (true, _) => Length::Quiet,
            (false, true) => Length::Verbose,
            (false, false) => Length::Usual,
        }
    }

    fn wants(&self, check: &Check) -> bool {
        let named = |only: &Only| match only {
            Only::Group(group) => *group == check.group,
            Only::Code(code) => *code == check.code,
        };
        self.only.is_empty() || self.only.iter().any(named)
    }
}

fn show(checks: &[Check], request: &Request, tally: Tally, next: &str) -> Result<(), Problem> {
    output::text(&text(checks, request.length()))?;
    if request.quiet {
        return Ok(());
    }
    output::text(&format!(
        "\n{}\nnext: {next}\n",
        summary(tally, request.strict)
    ))
}

fn summary(tally: Tally, strict: bool) -> String {
    let mut parts = vec![format!("{} passed", tally.passed)];
    let counted = [
        (tally.unavailable, "unknown"),
        (tally.warned, "warned"),
        (tally.failed, "failed"),
    ];
    let present = counted.iter().filter(|(count, _)| *count > 0);
    parts.extend(present.map(|(count, word)| format!("{count} {word}")));
    let strictly = match tally.warned > 0 && !strict {
        true => "; warnings do not change the exit status without --strict",
        false => "",
    };
    format!("{}{strictly}", parts.join(", "))
}

fn to_json(checks: &[Check], tally: Tally, next: &str) -> Value {
    json!({
        "summary": {
            "pass": tally.passed, "unknown": tally.unavailable, "warn": tally.warned, "fail": tally.failed,
        },
        "checks": checks.iter().map(check_json).collect::<Value>(),
        "next": next,
    })
}

fn check_json(check: &Check) -> Value {
    let verdict = match check.verdict {
        Verdict::Pass => "pass",
        Verdict::Unavailable => "unknown",
        Verdict::Warn => "warn",
        Verdict::Fail => "fail",
    };
    json!({
        "code": check.code.as_str(),
        "group": check.group.as_str(),
        "subject": check.subject,
        "verdict": verdict,
        "text": check.text,
        "detail": check.detail,
        "hint": check.hint.as_ref().map(Hint::as_str),
        "command": check.command(),
        "read_from": check.read_from,
    })
}
