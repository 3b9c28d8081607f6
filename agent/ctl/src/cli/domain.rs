//! `variantctl plan DOMAIN`, `prepare`, `revert` and `wait`: calls the agent, because only the agent changes definitions.

use std::path::Path;
use std::time::Duration;

use api::again::{Effect, again};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use zbus::{Connection, Variant};

use super::diff::Color;
use super::problem::{Coded, Exit, Problem};
use super::progress::Progress;
use super::{input, job, output, summary};
use api::client::{Fault, ManagerProxy, Options};
use api::refused::{self, Kind};
use api::report::{Item, Outcome, Report};
use domain::NumaMode;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::removed::Removed;
use planner::saved_plan::{Findings, MAX_BYTES, SavedPlan};
use planner::summary::{Summary, fold};

/// What the user asks of a plan.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    pub(super) replace: bool,
    pub(super) egm: Option<bool>,
    pub(super) numa: Option<NumaMode>,
}

impl Wanted {
    fn options(self) -> Options<'static> {
        let egm = self.egm.map(|egm| ("egm", egm.into()));
        let numa = self.numa.map(|numa| ("numa", numa.as_str().into()));
        let replace = [("replace", self.replace.into())];
        options(replace.into_iter().chain(egm).chain(numa))
    }
}

/// Completes a domain's definition and prints the added elements.
pub(super) fn prepare(domain: &str, wanted: Wanted, as_json: bool) -> Result<(), Problem> {
    let options = wanted.options().into_iter().chain(summarized(as_json));
    let report = job::ask(
        "prepare",
        domain,
        &options.collect(),
        async |manager, options| manager.prepare(domain, options).await,
    )?;
    tell(&Answered::read(report)?, as_json)
}

/// Makes exactly the edits of a saved plan.
pub(super) fn apply(domain: Option<&str>, file: &Path, as_json: bool) -> Result<(), Problem> {
    let text = input::text(file, MAX_BYTES)?;
    let saved = SavedPlan::parse(&text)?;
    // The name may belong to another domain by now.
    let uuid = saved.uuid.map(|uuid| uuid.to_string());
    let own = uuid.unwrap_or(saved.domain);
    let domain = domain.unwrap_or(&own);
    let plan = [("plan", text.as_str().into())];
    let options = options(plan.into_iter().chain(summarized(as_json)));
    let report = job::ask("prepare", domain, &options, async |manager, options| {
        manager.prepare(domain, options).await
    })?;
    tell(&Answered::read(report)?, as_json)
}

/// The agent's plan for a domain, also as JSON.
pub(super) fn plan(domain: &str, wanted: Wanted) -> Result<(SavedPlan, Value), Problem> {
    let json = ask(Effect::Reads, async |manager| {
        manager.plan(domain, wanted.options()).await
    })?;
    Ok((SavedPlan::parse(&json.to_string())?, json))
}

/// Completes the user's text: the new text, and the agent's findings.
pub(super) fn complete(xml: &str, wanted: Wanted) -> Result<(String, Findings), Problem> {
    let (completed, findings) = answer(Effect::Reads, async |manager| {
        manager.prepare_xml(xml, wanted.options()).await
    })?;
    unrefused(&findings)?;
    Ok((completed, serde_json::from_str(&findings).map_err(unread)?))
}

/// Removes the added elements from a domain's definition.
pub(super) fn revert(domain: &str, as_json: bool) -> Result<(), Problem> {
    let options = options(summarized(as_json));
    let report = job::ask("revert", domain, &options, async |manager, options| {
        manager.revert(domain, options).await
    })?;
    tell(&Answered::read(report)?, as_json)
}

/// Waits until no change of a definition is pending, and reports whether it is complete.
pub(super) fn wait(domain: &str, timeout: Duration, as_json: bool) -> Result<(), Problem> {
    let limit = u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX);
    let report = ask(Effect::Reads, async |manager| {
        manager.wait(domain, limit, options([])).await
    })?;
    let report = Answered::read(report)?;
    tell(&report, as_json)?;
    // Only a request changes that, so another wait would not help.
    if report.read.outcome == Outcome::OnRequest {
        let text =
            format!("domain '{domain}' waits for a request: run 'variantctl prepare {domain}'");
        return Err(Problem::Failed(text));
    }
    Ok(())
}

/// The option to get what was done in a form for people.
fn summarized(as_json: bool) -> Option<(&'static str, Variant<'static>)> {
    (!as_json).then(|| ("summary", true.into()))
}

/// Options of a call: these, and the option to get a refusal as fields.
pub(super) fn options<'a>(own: impl IntoIterator<Item = (&'a str, Variant<'a>)>) -> Options<'a> {
    own.into_iter().chain([("refusal", true.into())]).collect()
}

/// Makes one call, repeats it where its effect allows that, and reads its JSON.
pub(super) fn ask(
    effect: Effect,
    call: impl AsyncFn(&ManagerProxy<'_>) -> zbus::Result<String>,
) -> Result<Value, Problem> {
    let text = answer(effect, call)?;
    unrefused(&text)?;
    serde_json::from_str(&text).map_err(unread)
}

/// Fails when the answer is a refusal.
fn unrefused(answer: &str) -> Result<(), Problem> {
    Err(match refused::read(answer) {
        None => return Ok(()),
        Some((Kind::Refused, refusal)) => Problem::Refused(refusal),
        Some((kind, refusal)) => Problem::Coded(exit(kind), refusal.into()),
    })
}

fn exit(kind: Kind) -> Exit {
    match kind {
        Kind::NotFound => Exit::NotFound,
        _ => Exit::Failed,
    }
}

pub(super) fn unread(error: serde_json::Error) -> Problem {
    Problem::Failed(format!("cannot read the agent's answer: {error}"))
}

/// As [`ask`], with the answer as it is.
pub(super) fn answer<T>(
    effect: Effect,
    call: impl AsyncFn(&ManagerProxy<'_>) -> zbus::Result<T>,
) -> Result<T, Problem> {
    // Connecting fails, too, when the bus has no quota left.
    let attempt = async || {
        let connection = Connection::system().await?;
        call(&ManagerProxy::new(&connection).await?).await
    };
    let _progress = Progress::begin("waiting for variantd");
    let reply = runtime()?.block_on(again(effect, attempt));
    reply.map_err(|error| problem(error.into()))
}

pub(super) fn runtime() -> Result<Runtime, Problem> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.map_err(|error| Problem::Failed(format!("cannot start: {error}")))
}

pub(super) fn problem(fault: Fault) -> Problem {
    match fault {
        Fault::Refused(words) | Fault::Failed(words) | Fault::NotAuthorized(words) => {
            match words.code {
                Some(code) => Problem::Coded(Exit::Failed, Coded::new(code, words.text)),
                None => Problem::Failed(words.text),
            }
        }
        Fault::NotFound(words) => match words.code {
            Some(code) => Problem::Coded(Exit::NotFound, Coded::new(code, words.text)),
            None => Problem::NotFound(words.text),
        },
        Fault::Full(why) => unreachable(
            "the system bus has no quota left for a call of variantd",
            &why,
            "try again",
        ),
        Fault::Unanswered(why) => unreachable(
            "variantd ended before it answered, or its answer was lost",
            &why,
            "see 'journalctl -u variantd', then try again: finished steps are kept",
        ),
        Fault::Unreachable(why) => unreachable(
            "variantd does not answer",
            &why,
            "start it with 'systemctl start variantd'",
        ),
    }
}

fn unreachable(what: &str, why: &str, hint: &str) -> Problem {
    let why = why.lines().next().unwrap_or_default().trim_end_matches('.');
    let refusal = Refusal::new(Code::AgentUnreachable, format!("{what}: {why}"), hint);
    Problem::Coded(Exit::Unreachable, refusal.into())
}

/// The agent's report as JSON and as a value.
struct Answered {
    json: Value,
    read: Report,
}

impl Answered {
    fn read(json: Value) -> Result<Self, Problem> {
        let read = Report::deserialize(&json).map_err(unread)?;
        Ok(Self { json, read })
    }
}

fn tell(report: &Answered, as_json: bool) -> Result<(), Problem> {
    if as_json {
        return output::object(json!({"report": report.json}));
    }
    let report = &report.read;
    // A note that several devices share is printed once.
    let notes = report.notes.iter();
    let notes = notes.map(|note| ((), format!("note: {} {}", note.code, note.text)));
    let notes = fold::groups(notes).into_iter();
    let notes: String = notes.map(|(_, text)| format!("{text}\n")).collect();
    output::say_lines(&notes);
    let domain = &report.domain;
    let heading = match report.outcome {
        Outcome::Completed => format!("domain '{domain}' was completed"),
        Outcome::Complete => format!("domain '{domain}' is complete"),
        Outcome::Reverted => {
            format!("domain '{domain}' is reverted; it waits for 'variantctl prepare {domain}'")
        }
        Outcome::Foreign => format!("domain '{domain}' has no device that a recipe covers"),
        Outcome::OnRequest | Outcome::Refused | Outcome::Failed => return Ok(()),
    };
    match (&report.summary, report.outcome) {
        (Some(removed), Outcome::Reverted) => {
            let removed = Removed::deserialize(removed).map_err(unread)?;
            summary::print_removed(&heading, &removed)
        }
        (Some(done), Outcome::Completed) => {
            let done = Summary::deserialize(done).map_err(unread)?;
            let heading = format!("{heading}: {}", summary::in_words(done.lines));
            summary::print(&heading, &done, Color::Auto)
        }
        _ => output::text(&format!("{heading}\n{}", changes(&report.changes))),
    }
}

/// The changes of a report without a summary, those of one kind once.
fn changes(items: &[Item]) -> String {
    let texts = items.iter().map(|item| {
        let path = item.path.as_deref().map(planner::summary::element);
        let path = path.map_or(String::new(), |path| format!("{path} "));
        ((), format!("{} {path}{}", item.code, item.text))
    });
    let groups = fold::groups(texts).into_iter();
    groups.map(|(_, text)| format!("  {text}\n")).collect()
}
