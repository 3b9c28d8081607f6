//! `variantctl stack`: what the installed libvirt and QEMU can express, how each answer is known, and whether the two fit.

use std::path::Path;

use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};

use super::problem::Problem;
use super::{Cli, is_snapshot, output};
use agent::daemon::STATE;
use agent::known_versions::KnownVersions;
use agent::snapshot::Snapshot;
use agent::stack::known::{FILE, Found, KnownStack};
use agent::stack::recorded::recorded;
use planner::stack::{Feature, Half, Misfit, Package, Stack};
use planner::target::Target;

/// The stack to print.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// Show this pair instead: versions such as libvirt=12.8,qemu=11.1, a stack's name such as nvidia-10.1, or its file FILE.json
    #[arg(long, value_name = "TARGET", value_parser = super::target::parse)]
    target: Option<Target>,
}

/// A stack, and where it comes from.
struct Shown {
    stack: Stack,
    emulator: Option<String>,
    notes: Vec<String>,
}

/// Exits with 1 if the halves do not fit.
pub(super) fn run(cli: &Cli, request: &Request) -> Result<(), Problem> {
    let shown = shown(cli.host(), request)?;
    let misfits = shown.stack.misfits_in_use();
    if cli.json {
        output::object(to_json(&shown, &misfits))?;
    } else {
        output::text(&text(&shown, &misfits))?;
        for note in &shown.notes {
            output::say(&format!("note: {note}"));
        }
    }
    match misfits.is_empty() {
        true => Ok(()),
        false => Err(Problem::Found),
    }
}

fn shown(host: &Path, request: &Request) -> Result<Shown, Problem> {
    if let Some(target) = request.target {
        return Ok(pair(target.stack, Vec::new()));
    }
    if is_snapshot(host) {
        let stack = Snapshot::read(host)?.target.pair().ok_or_else(unknown)?;
        return Ok(pair(stack, Vec::new()));
    }
    if let Some(stack) = recorded(host)? {
        return Ok(pair(stack, Vec::new()));
    }
    let state = host.join(STATE.trim_start_matches('/'));
    let versions = KnownVersions::load(state.join("versions")).versions();
    let versions = versions.map_err(|_| unknown())?;
    let known = KnownStack::load(host.to_owned(), state.join(FILE));
    // Answers of programs that were upgraded since do not count.
    Ok(match known.current(versions.libvirt) {
        Some(found) => asked(found),
        None => {
            let note = "libvirt and QEMU were not asked yet, so all answers are assumed by version: the agent asks them when it \
                        connects to libvirt ('systemctl restart variantd')";
            pair(Stack::assumed(versions), vec![note.to_owned()])
        }
    })
}

fn asked(found: Found) -> Shown {
    Shown {
        stack: found.stack,
        emulator: Some(found.key.emulator.display().to_string()),
        notes: found.notes,
    }
}

fn pair(stack: Stack, notes: Vec<String>) -> Shown {
    Shown {
        stack,
        emulator: None,
        notes,
    }
}

fn unknown() -> Problem {
    let text = "the versions of libvirt and QEMU are unknown here; start libvirt and variantd, or pass --target libvirt=...,qemu=...";
    Problem::Failed(text.to_owned())
}

fn text(shown: &Shown, misfits: &[Misfit]) -> String {
    let stack = &shown.stack;
    let emulator = shown.emulator.as_deref().unwrap_or_default();
    let packages = [
        package("libvirt", &stack.libvirt, ""),
        package("QEMU", &stack.qemu, emulator),
    ];
    let head = ["FEATURE", "OF", "VALUE", "HOW KNOWN"].map(str::to_owned);
    let mut rows = vec![head.to_vec()];
    rows.extend(Feature::ALL.into_iter().map(|feature| row(stack, feature)));
    let verdict = match misfits.is_empty() {
        true => "libvirt and QEMU fit each other\n".to_owned(),
        false => format!(
            "libvirt {} and QEMU {} do not fit each other: {}; upgrade the older one\n",
            stack.libvirt,
            stack.qemu,
            misfits
                .iter()
                .map(|misfit| sentence(stack, misfit))
                .collect::<Vec<_>>()
                .join(", ")
        ),
    };
    format!(
        "{}\n{}\n{verdict}",
        output::columns(&packages),
        output::columns(&rows)
    )
}

fn package(name: &str, package: &Package, emulator: &str) -> Vec<String> {
    let build = package
        .name
        .map_or_else(|| "-".to_owned(), |name| name.as_str().to_owned());
    vec![
        name.to_owned(),
        package.version.to_string(),
        build,
        emulator.to_owned(),
    ]
}

fn row(stack: &Stack, feature: Feature) -> Vec<String> {
    let answer = stack.answer(feature);
    let how = answer.map_or_else(|| "-".to_owned(), |answer| word(answer.how));
    vec![
        feature.name(),
        half(feature.half()).to_owned(),
        value(stack, feature),
        how,
    ]
}

fn half(half: Half) -> &'static str {
    match half {
        Half::Libvirt => "libvirt",
        Half::Qemu => "QEMU",
    }
}

/// `yes`, `no`, a type or a name.
fn value(stack: &Stack, feature: Feature) -> String {
    match stack.value(feature).map(word) {
        Some(text) if text == "true" => "yes".to_owned(),
        Some(text) if text == "false" => "no".to_owned(),
        Some(text) => text,
        None => "unknown".to_owned(),
    }
}

/// The word of JSON without its quotes.
fn word(value: impl Serialize) -> String {
    let text = serde_json::to_string(&value).unwrap_or_default();
    text.trim_matches('"').to_owned()
}

fn sentence(stack: &Stack, misfit: &Misfit) -> String {
    let (writes, takes) = (value(stack, misfit.libvirt), value(stack, misfit.qemu));
    format!(
        "'{}' (libvirt writes {writes}, QEMU takes {takes})",
        misfit.attribute
    )
}

fn to_json(shown: &Shown, misfits: &[Misfit]) -> Value {
    let stack = &shown.stack;
    let features: Value = Feature::ALL
        .into_iter()
        .map(|feature| {
            let answer = stack.answer(feature);
            json!({"feature": feature.name(), "of": half(feature.half()).to_lowercase(),
                   "value": answer.map(|answer| answer.value), "how": answer.map(|answer| answer.how)})
        })
        .collect();
    let misfits: Value = misfits
        .iter()
        .map(|misfit| {
            json!({"attribute": misfit.attribute, "libvirt": value(stack, misfit.libvirt), "qemu": value(stack, misfit.qemu)})
        })
        .collect();
    json!({"libvirt": stack.libvirt, "qemu": stack.qemu, "emulator": shown.emulator, "features": features,
           "fits": misfits == json!([]), "misfits": misfits, "notes": shown.notes})
}
