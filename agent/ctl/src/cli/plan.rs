//! `variantctl plan`, `rewrite` and `revert --file`: what a definition needs, as a diff or as the finished text,
//! and the text from before.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::host::{Gap, Host};

use super::problem::Problem;
use super::{Cli, Definition, Request, View, diff, domain, input, output, region, view};
use ::domain::MAX_BYTES;
use ::domain::refusal::about;
use planner::plan::Setting;
use planner::proposal::{Note, Proposal};
use planner::rewrite::{self, Rewrite};
use planner::target::Versions;

/// Prints what is planned for a file or a domain: the devices, then the diff with the reasons.
pub(super) fn show(cli: &Cli, request: &Request) -> Result<(), Problem> {
    if is_file(&request.subject) {
        return show_file(&view(cli)?, request);
    }
    let name = request.subject.to_string_lossy();
    if !cli.is_own() || request.wish.target.is_some() || request.wish.regions {
        return Err(Problem::Usage(format!(
            "'{name}' is no file, and for a domain the agent plans with its own host, recipes and versions; \
             leave out --host, --recipes, --target and --regions, or write './{name}' for a file"
        )));
    }
    let (proposal, json) = domain::plan(&name, request.wish.replace).map_err(|problem| {
        problem.with(&format!(
            "no file '{name}' here, so it is taken for a domain"
        ))
    })?;
    if cli.json {
        return output::object(json);
    }
    print(&proposal, &name, request)
}

/// Prints the finished definition, and nothing else, on standard output.
pub(super) fn rewrite(view: &View, definition: &Definition) -> Result<(), Problem> {
    let read = ::domain::Definition::parse(input::text(&definition.file, MAX_BYTES)?)?;
    let host = region::host(view, read.domain(), definition.wish.regions)?;
    let setting = setting(view, &host, &definition.wish);
    if view.json {
        return output::object(json(&Proposal::make(&read, &setting)?)?);
    }
    // The text alone: the diff that a proposal has takes longer than all else.
    let Rewrite { text, plan, .. } = rewrite::rewrite(&read, &setting)?;
    output::data(&text)?;
    notes(&plan.notes.iter().map(Note::of).collect::<Vec<_>>());
    let devices = plan.devices.iter().map(|one| one.address);
    assumptions(view, &devices.collect::<Vec<_>>(), &definition.wish);
    Ok(())
}

/// Prints a definition without what was added to it.
pub(super) fn revert(file: &Path) -> Result<(), Problem> {
    let definition = input::text(file, MAX_BYTES)?.parse()?;
    output::data(&planner::revert::revert(&definition)?)
}

fn show_file(view: &View, request: &Request) -> Result<(), Problem> {
    let text = input::text(&request.subject, MAX_BYTES)?;
    let definition = ::domain::Definition::parse(one_end(&text))?;
    let host = region::host(view, definition.domain(), request.wish.regions)?;
    let proposal = Proposal::make(&definition, &setting(view, &host, &request.wish))?;
    if view.json {
        return output::object(json(&proposal)?);
    }
    print(&proposal, &request.subject.to_string_lossy(), request)?;
    let devices = proposal.devices.iter().map(|one| one.address);
    assumptions(view, &devices.collect::<Vec<_>>(), &request.wish);
    Ok(())
}

/// True when a plan is for a file; anything else is a domain in libvirt.
fn is_file(subject: &Path) -> bool {
    let text = subject.to_string_lossy();
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

fn setting<'a>(view: &'a View, host: &'a Host, wish: &super::Wish) -> Setting<'a> {
    Setting {
        host,
        recipes: &view.recipes,
        target: wish.target.unwrap_or(assumed(view).into()),
        replace: wish.replace,
        asked: true,
        formatted: false,
        libvirt: &planner::from_libvirt::NOTHING,
    }
}

/// The versions that a snapshot names, or the newest tested.
fn assumed(view: &View) -> Versions {
    view.versions.unwrap_or(Versions::NEWEST_TESTED)
}

fn print(proposal: &Proposal, name: &str, request: &Request) -> Result<(), Problem> {
    output::text(&summary(proposal))?;
    diff::print(proposal, name, request.color)?;
    notes(&proposal.notes);
    Ok(())
}

fn summary(proposal: &Proposal) -> String {
    let devices: String = proposal
        .devices
        .iter()
        .map(|one| {
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
        })
        .collect();
    let domain = &proposal.domain;
    match (proposal.devices.is_empty(), proposal.changes.len()) {
        (true, _) => format!("domain '{domain}' has no device that a recipe covers\n"),
        (false, 0) => format!("{devices}domain '{domain}' is complete\n"),
        (false, 1) => format!("{devices}domain '{domain}' lacks 1 piece:\n"),
        (false, count) => format!("{devices}domain '{domain}' lacks {count} pieces:\n"),
    }
}

pub(super) fn notes(notes: &[Note]) {
    let note = |note: &Note| format!("note: {} ({})\n", about(note.device, &note.text), note.code);
    // Standard error has no buffer: each piece of a format string would be a call to the kernel.
    eprint!(
        "{}",
        output::readable(&notes.iter().map(note).collect::<String>())
    );
}

/// What a plan of a file takes for granted, and could not see.
fn assumptions(view: &View, devices: &[PciAddress], wish: &super::Wish) {
    if devices.is_empty() {
        return;
    }
    if wish.target.is_none() && view.versions.is_none() {
        let versions = Versions::NEWEST_TESTED;
        let text = format!(
            "note: written for {versions}; say --target libvirt=...,qemu=... for another\n"
        );
        eprint!("{}", output::readable(&text));
    }
    output::gaps(&concerned(view, devices));
}

/// Gaps of the host as a whole and of the planned devices; others' are no matter of this plan.
fn concerned(view: &View, devices: &[PciAddress]) -> Vec<Gap> {
    let ours = |gap: &&Gap| {
        let of_a_device = gap.path.contains("/bus/pci/devices/");
        let mut devices = devices.iter();
        !of_a_device || devices.any(|device| gap.path.contains(&device.to_string()))
    };
    view.host.gaps.iter().filter(ours).cloned().collect()
}

fn json(proposal: &Proposal) -> Result<serde_json::Value, Problem> {
    serde_json::to_value(proposal)
        .map_err(|error| Problem::Failed(format!("cannot print the plan as JSON: {error}")))
}
