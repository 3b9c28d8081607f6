//! `variantctl plan`, `rewrite` and `revert --file`: what a definition needs, as a diff or as the finished text,
//! and the text from before.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::{Value, json};
use similar::TextDiff;

use super::problem::Problem;
use super::{Definition, View, output, region};
use crate::domain::MAX_BYTES;
use crate::plan::{Change, Note, Plan, Planned, Setting};
use crate::rewrite::{self, Rewrite};
use crate::target::Versions;

/// Prints what is planned and why, then the diff.
pub(super) fn show(view: &View, definition: &Definition) -> Result<(), Problem> {
    let (before, after) = planned(view, definition)?;
    if view.json {
        return output::object(to_json(&before, &after));
    }
    output::text(&summary(&after.plan))?;
    output::text(&diff(&before, &after.text, &definition.file))?;
    notes(view, &after.plan, definition);
    Ok(())
}

/// Prints the finished definition, and nothing else, on standard output.
pub(super) fn rewrite(view: &View, definition: &Definition) -> Result<(), Problem> {
    let (before, after) = planned(view, definition)?;
    if view.json {
        return output::object(to_json(&before, &after));
    }
    output::text(&after.text)?;
    notes(view, &after.plan, definition);
    Ok(())
}

/// Prints a definition without what was added to it.
pub(super) fn revert(file: &Path) -> Result<(), Problem> {
    output::text(&crate::revert::revert(&read(file)?)?)
}

fn planned(view: &View, definition: &Definition) -> Result<(String, Rewrite), Problem> {
    let text = read(&definition.file)?;
    let asked = match definition.regions {
        true => Some(region::ask_for(view, &text)?),
        false => None,
    };
    let setting = Setting {
        host: asked.as_ref().unwrap_or(&view.host),
        recipes: &view.recipes,
        versions: definition.target.unwrap_or(Versions::NEWEST_TESTED),
        replace: definition.replace,
        asked: true,
    };
    let after = rewrite::rewrite(&text, &setting)?;
    Ok((text, after))
}

fn read(file: &Path) -> Result<String, Problem> {
    let name = file.display();
    let source: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(file).map_err(|error| missing(file, &error))?)
    };
    let mut bytes = Vec::new();
    // One byte more than a definition may have, so that the parser can say that it is too large.
    let limit = u64::try_from(MAX_BYTES).map_or(u64::MAX, |max| max + 1);
    source
        .take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| missing(file, &error))?;
    String::from_utf8(bytes)
        .map_err(|_| Problem::Failed(format!("cannot read '{name}': it is not UTF-8 text")))
}

fn missing(file: &Path, error: &io::Error) -> Problem {
    let text = format!("cannot read '{}': {error}", file.display());
    if error.kind() == io::ErrorKind::NotFound {
        Problem::NotFound(text)
    } else {
        Problem::Failed(text)
    }
}

fn summary(plan: &Plan) -> String {
    let device = |one: &Planned| {
        let nodes: kernel_glue::numa::RangeList =
            one.host_nodes.iter().map(|node| u32::from(*node)).collect();
        let Planned {
            address,
            label,
            recipe,
            driver,
            cells,
            ..
        } = one;
        format!(
            "{address} {label} by recipe {recipe}: driver {driver}, guest cells {cells} for host nodes {nodes}\n"
        )
    };
    let change =
        |change: &Change| format!("  {} {}: {}\n", change.code, change.path, change.reason);
    let devices: String = plan.devices.iter().map(device).collect();
    let changes: String = plan.changes.iter().map(change).collect();
    match (plan.devices.is_empty(), plan.changes.is_empty()) {
        (true, _) => format!(
            "domain '{}' has no device that a recipe covers\n",
            plan.domain
        ),
        (false, true) => format!("{devices}domain '{}' is complete\n", plan.domain),
        (false, false) => format!(
            "{devices}to be added to domain '{}':\n{changes}",
            plan.domain
        ),
    }
}

fn diff(before: &str, after: &str, file: &Path) -> String {
    if before == after {
        return String::new();
    }
    let name = file.display().to_string();
    TextDiff::from_lines(before, after)
        .unified_diff()
        .context_radius(2)
        .header(&name, &format!("{name} (planned)"))
        .to_string()
}

fn notes(view: &View, plan: &Plan, definition: &Definition) {
    for Note { code, device, text } in &plan.notes {
        let device = device
            .map(|device| format!("'{device}': "))
            .unwrap_or_default();
        eprintln!("note: {device}{text} ({code})");
    }
    if definition.target.is_none() && !plan.devices.is_empty() {
        eprintln!(
            "note: written for {}; say --target libvirt=...,qemu=... for another",
            Versions::NEWEST_TESTED
        );
    }
    if !plan.devices.is_empty() {
        output::gaps(&view.host.gaps);
    }
}

fn to_json(before: &str, after: &Rewrite) -> Value {
    let plan = &after.plan;
    let device = |one: &Planned| {
        json!({"address": one.address, "recipe": one.recipe, "label": one.label, "driver": one.driver,
               "cells": one.cells.to_string(), "host_nodes": one.host_nodes})
    };
    let change = |change: &Change| {
        let edits: Value = change
            .edits
            .iter()
            .map(|e| json!({"start": e.span.start, "end": e.span.end, "text": e.text}))
            .collect();
        json!({"code": change.code.as_str(), "device": change.device, "path": change.path, "reason": change.reason, "edits": edits})
    };
    let note =
        |note: &Note| json!({"code": note.code.as_str(), "device": note.device, "text": note.text});
    json!({
        "domain": plan.domain,
        "devices": plan.devices.iter().map(device).collect::<Value>(),
        "changes": plan.changes.iter().map(change).collect::<Value>(),
        "notes": plan.notes.iter().map(note).collect::<Value>(),
        "changed": before != after.text,
        "text": after.text,
    })
}
