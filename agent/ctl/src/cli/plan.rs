//! `variantctl plan`, `rewrite` and `revert --file`: the missing elements of a definition as a summary or diff, the completed text,
//! and the text without the added elements.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::host::{Gap, Host};

use super::capacity::Facts;
use super::problem::Problem;
use super::{
    Cli, Definition, HostView, Request, diff, domain, host_view, input, output, region, summary,
};
use ::domain::MAX_BYTES;
use ::domain::code::Code;
use planner::plan::PlanInput;
use planner::rewrite::{self, Rewrite};
use planner::saved_plan::{Note, PlannedDevice, SavedPlan};
use planner::summary::Summary;
use planner::target::{Target, Versions};

/// Prints the plan for a file or a domain: a summary, or the devices and the diff with the reasons.
pub(super) fn show(cli: &Cli, request: &Request) -> Result<(), Problem> {
    if is_file(&request.subject) {
        return show_file(&host_view(cli)?, request);
    }
    let name = request.subject.to_string_lossy();
    if !cli.is_own() || request.wanted.target.is_some() || request.wanted.regions {
        return Err(Problem::Usage(format!(
            "there is no file '{name}', and the agent plans a domain with its own host and versions; \
             leave out --host, --recipes, --target and --regions, or write './{name}'"
        )));
    }
    let wanted = domain::Wanted {
        replace: request.wanted.replace,
        egm: request.wanted.egm.map(bool::from),
        numa: request.wanted.numa.map(Into::into),
    };
    let (saved_plan, json) = domain::plan(&name, wanted).map_err(|problem| {
        problem.with(&format!(
            "no file '{name}' here, so it is taken for a domain"
        ))
    })?;
    if cli.json {
        return output::object(json);
    }
    print(&saved_plan, &name, request)
}

/// Prints the completed definition, and nothing else, on standard output.
pub(super) fn rewrite(host_view: &HostView, definition: &Definition) -> Result<(), Problem> {
    let read = ::domain::Definition::parse(input::text(&definition.file, MAX_BYTES)?)?;
    let host = region::host(host_view, read.domain(), definition.wanted.regions)?;
    let facts = Facts::of_file(host_view, read.domain(), definition.wanted.numa)?;
    let plan_input = plan_input(host_view, &host, &definition.wanted, &facts);
    if host_view.json {
        return output::object(json(&SavedPlan::make(&read, &plan_input)?)?);
    }
    // Only the text: the diff of a saved plan takes longer than the rest.
    let Rewrite { text, plan, .. } = rewrite::rewrite(&read, &plan_input)?;
    output::data(&text)?;
    notes(&plan.notes.iter().map(Note::of).collect::<Vec<_>>());
    let devices = plan.devices.iter().map(|one| one.address);
    assumptions(host_view, &devices.collect::<Vec<_>>(), &definition.wanted);
    Ok(())
}

/// Prints a definition without the added elements.
pub(super) fn revert(file: &Path) -> Result<(), Problem> {
    let definition = input::text(file, MAX_BYTES)?.parse()?;
    output::data(&planner::revert::revert(&definition)?)
}

fn show_file(host_view: &HostView, request: &Request) -> Result<(), Problem> {
    let text = input::text(&request.subject, MAX_BYTES)?;
    let definition = ::domain::Definition::parse(one_end(&text))?;
    let host = region::host(host_view, definition.domain(), request.wanted.regions)?;
    let facts = Facts::of_file(host_view, definition.domain(), request.wanted.numa)?;
    let plan_input = plan_input(host_view, &host, &request.wanted, &facts);
    let saved_plan = SavedPlan::make(&definition, &plan_input)?;
    if host_view.json {
        return output::object(json(&saved_plan)?);
    }
    let name = request.subject.to_string_lossy();
    print(&saved_plan, &name, request)?;
    let devices = saved_plan.devices.iter().map(|one| one.address);
    assumptions(host_view, &devices.collect::<Vec<_>>(), &request.wanted);
    Ok(())
}

/// True when a plan is for a file; anything else is a domain in libvirt.
pub(super) fn is_file(subject: &Path) -> bool {
    let text = subject.to_string_lossy();
    // A directory may have the name of a domain. A text that looks like a path is a file even if it does not exist: then the
    // error names the file, and libvirt is not asked.
    let there = subject.exists() && !subject.is_dir();
    text == "-" || text.contains('/') || text.ends_with(".xml") || there
}

/// The text with one line end at its end: `virsh dumpxml` prints one more than the definition has, and a saved
/// plan is for the definition.
fn one_end(text: &str) -> &str {
    let end = text.trim_end_matches(['\r', '\n']).len();
    let line_end = text[end..].find('\n').map_or(0, |at| at + 1);
    &text[..end + line_end]
}

fn plan_input<'a>(
    host_view: &'a HostView,
    host: &'a Host,
    wanted: &super::PlanArguments,
    facts: &'a Facts,
) -> PlanInput<'a> {
    PlanInput {
        host,
        recipes: &host_view.recipes,
        target: wanted.target.unwrap_or(assumed(host_view)),
        replace: wanted.replace,
        egm: wanted.egm.map(bool::from),
        numa: facts.input(),
        asked: true,
        formatted: false,
        libvirt: &planner::from_libvirt::NOTHING,
    }
}

/// The pair that a snapshot names, or the newest tested.
fn assumed(host_view: &HostView) -> Target {
    let newest = || Versions::NEWEST_TESTED.into();
    host_view.stack.map_or_else(newest, Target::from)
}

fn print(saved_plan: &SavedPlan, name: &str, request: &Request) -> Result<(), Problem> {
    match request.diff {
        true => {
            output::text(&devices_and_heading(saved_plan))?;
            diff::print(saved_plan, name, request.color)?;
        }
        false => {
            let summary = Summary::of(saved_plan);
            let heading = match saved_plan.hunks.is_empty() {
                true => outcome(saved_plan),
                false => {
                    let lines = summary::in_words(summary.lines);
                    format!("{}: {lines}; '--diff' shows them", outcome(saved_plan))
                }
            };
            summary::print(&heading, &summary, request.color)?;
        }
    }
    notes(&saved_plan.notes);
    Ok(())
}

/// Whether the definition is complete.
fn outcome(saved_plan: &SavedPlan) -> String {
    let domain = &saved_plan.domain;
    match (saved_plan.devices.is_empty(), saved_plan.changes.len()) {
        (true, _) => format!("domain '{domain}' has no device that a recipe covers"),
        (false, 0) if saved_plan.changed => {
            format!("domain '{domain}' is complete, and its options change")
        }
        (false, 0) => format!("domain '{domain}' is complete"),
        (false, 1) => format!("domain '{domain}' lacks 1 piece"),
        (false, count) => format!("domain '{domain}' lacks {count} pieces"),
    }
}

/// The text above a diff.
fn devices_and_heading(saved_plan: &SavedPlan) -> String {
    let device = |one: &PlannedDevice| {
        let nodes: kernel_glue::numa::RangeList =
            one.host_nodes.iter().map(|node| u32::from(*node)).collect();
        let cells = match one.cells.is_empty() {
            true => String::new(),
            false => format!(", guest cells {} for host nodes {nodes}", one.cells),
        };
        format!(
            "{} {} by recipe {}: driver {}{cells}\n",
            one.address, one.label, one.recipe, one.driver
        )
    };
    let devices: String = saved_plan.devices.iter().map(device).collect();
    let end = match saved_plan.hunks.is_empty() {
        true => "",
        false => ":",
    };
    format!("{devices}{}{end}\n", outcome(saved_plan))
}

/// Prints notes, one that several devices share once.
pub(super) fn notes(notes: &[Note]) {
    let texts = notes.iter().map(|note| {
        let about = (note.code, note.device.is_some());
        (about, note.device, &note.text)
    });
    output::say_lines(&grouped(texts));
}

/// A line for each note; the devices of equal notes are a list.
fn grouped<'n>(
    notes: impl Iterator<Item = ((Code, bool), Option<PciAddress>, &'n String)>,
) -> String {
    let mut groups: Vec<((Code, bool), &String, Vec<PciAddress>)> = Vec::new();
    for (about, device, text) in notes {
        match groups
            .iter_mut()
            .find(|(known, same, _)| *known == about && *same == text && about.1)
        {
            Some((_, _, devices)) => devices.extend(device),
            None => groups.push((about, text, device.into_iter().collect())),
        }
    }
    let line = |((code, _), text, devices): ((Code, bool), &String, Vec<PciAddress>)| {
        let named: Vec<String> = devices.iter().map(|one| format!("'{one}'")).collect();
        match named.is_empty() {
            true => format!("note: {text} ({code})\n"),
            false => format!("note: {}: {text} ({code})\n", named.join(", ")),
        }
    };
    groups.into_iter().map(line).collect()
}

/// Prints the assumptions of a plan of a file, and the unavailable facts.
fn assumptions(host_view: &HostView, devices: &[PciAddress], wanted: &super::PlanArguments) {
    if devices.is_empty() {
        return;
    }
    if wanted.target.is_none() && host_view.stack.is_none() {
        let versions = Versions::NEWEST_TESTED;
        let text = format!(
            "note: written for {versions}; for other versions add --target libvirt=...,qemu=...\n"
        );
        output::say_lines(&text);
    }
    output::gaps(&concerned(host_view, devices));
}

/// The unavailable facts of the host as a whole and of the planned devices.
fn concerned(host_view: &HostView, devices: &[PciAddress]) -> Vec<Gap> {
    let ours = |gap: &&Gap| {
        let of_a_device = gap.path.contains("/bus/pci/devices/");
        let mut devices = devices.iter();
        !of_a_device || devices.any(|device| gap.path.contains(&device.to_string()))
    };
    host_view.host.gaps.iter().filter(ours).cloned().collect()
}

fn json(saved_plan: &SavedPlan) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(saved_plan)
        .map_err(|error| Problem::Failed(format!("cannot print the plan as JSON: {error}")))
}
