//! `variantctl create FILE`: has the agent complete domain XML, and creates a transient guest from it.
//!
//! The agent only completes the text. The guest is created with the caller's own rights on libvirt.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::capacity::Numa;
use super::problem::{Coded, Exit, Problem};
use super::progress::Progress;
use super::{Switch, domain, input, output, plan};
use crate::inquiry;
use ::domain::MAX_BYTES;
use ::domain::code::Code;
use planner::saved_plan::Findings;

const URI: &str = "qemu:///system";

/// The guest to create.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// File with domain XML; '-' reads standard input
    file: PathBuf,
    /// Give a device whose guest address contradicts its recipe a new one
    #[arg(long)]
    replace: bool,
    /// Set the domain's option for EGM: the GPUs' EGM regions are the guest's memory, or are not
    #[arg(long, value_enum, value_name = "WHETHER")]
    egm: Option<Switch>,
    /// Set the domain's option for the NUMA layout: mirror the host nodes of its devices, or keep the definition's own
    #[arg(long, value_enum, value_name = "MODE")]
    numa: Option<Numa>,
    /// Leave the guest paused
    #[arg(long)]
    paused: bool,
    /// libvirt's connection URI
    #[arg(long, value_name = "URI", default_value = URI, hide_default_value = true)]
    connect: String,
}

/// The code of the hook's refusal in libvirt's error. libvirt's errors have no field for it, so it is read from the text.
fn code_of_the_hook(text: &str) -> Option<Code> {
    let mut parts = text.split(['(', ')']);
    parts.find_map(|part| part.parse().ok())
}

/// Completes and creates the guest, and prints the number of added pieces.
pub(super) fn run(request: &Request, as_json: bool) -> Result<(), Problem> {
    let text = input::text(&request.file, MAX_BYTES)?;
    let wanted = domain::Wanted {
        replace: request.replace,
        egm: request.egm.map(bool::from),
        numa: request.numa.map(Into::into),
    };
    let (completed, findings) = domain::complete(&text, wanted)?;
    // Before the start, which can take minutes.
    plan::notes(&findings.notes);
    let progress = Progress::begin(&format!("creating domain '{}'", findings.domain));
    let created = inquiry::create(&request.connect, &completed, request.paused);
    drop(progress);
    let name = created.map_err(|why| {
        let domain = &findings.domain;
        let text = format!("cannot create domain '{domain}': {why}");
        match code_of_the_hook(&text) {
            Some(code) => Problem::Coded(Exit::Failed, Coded::new(code, text)),
            None => Problem::Failed(text),
        }
    })?;
    let added = findings.changes.len();
    if as_json {
        let Findings { changes, notes, .. } = findings;
        return output::object(json!({"domain": name, "changes": changes, "notes": notes}));
    }
    output::text(&match added {
        0 => format!("domain '{name}' was complete and is created\n"),
        1 => format!("domain '{name}' is created; 1 piece was added\n"),
        _ => format!("domain '{name}' is created; {added} pieces were added\n"),
    })
}
