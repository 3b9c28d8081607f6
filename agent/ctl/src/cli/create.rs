//! `variantctl create FILE`: completes domain XML by the agent and creates a transient guest of it.
//!
//! The agent only completes the text. The guest is created with the caller's own rights on libvirt.

use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::problem::{Coded, Exit, Problem};
use super::{domain, input, output, plan};
use crate::inquiry;
use ::domain::MAX_BYTES;
use ::domain::code::Code;
use planner::saved_plan::Findings;

const URI: &str = "qemu:///system";

/// What to create, and how.
#[derive(Debug, Args)]
pub(super) struct Request {
    /// File with domain XML; '-' reads standard input
    file: PathBuf,
    /// Give a device whose guest address contradicts its recipe a new one
    #[arg(long)]
    replace: bool,
    /// Leave the guest paused
    #[arg(long)]
    paused: bool,
    /// libvirt's connection URI
    #[arg(long, value_name = "URI", default_value = URI, hide_default_value = true)]
    connect: String,
}

/// The code of the hook's refusal in libvirt's error. A hook can only say text to libvirt, which has no field for it.
fn code_of_the_hook(text: &str) -> Option<Code> {
    let mut parts = text.split(['(', ')']);
    parts.find_map(|part| part.parse().ok())
}

/// Completes, creates, and says how many pieces were added.
pub(super) fn run(request: &Request, as_json: bool) -> Result<(), Problem> {
    let text = input::text(&request.file, MAX_BYTES)?;
    let (completed, findings) = domain::complete(&text, request.replace)?;
    plan::notes(&findings.notes);
    let created = inquiry::create(&request.connect, &completed, request.paused);
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
        0 => format!("domain '{name}' was complete, and is created\n"),
        1 => format!("domain '{name}' was completed by 1 piece, and is created\n"),
        _ => format!("domain '{name}' was completed by {added} pieces, and is created\n"),
    })
}
