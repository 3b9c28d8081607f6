//! Printing: text and JSON to standard output, complaints and gaps to standard error.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use kernel_glue::host::Gap;
use serde::Serialize;
use serde_json::{Value, json};

use super::hint;
use super::problem::Problem;
use crate::code::Code;

/// Version of the JSON that every verb prints.
pub(super) const SCHEMA: u32 = 1;

/// Prints text; a closed pipe ends the program as it ends `cat`.
pub(super) fn text(text: &str) -> Result<(), Problem> {
    written(io::stdout().write_all(text.as_bytes()))
}

/// What came of writing to standard output.
pub(super) fn written(result: io::Result<()>) -> Result<(), Problem> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => Err(Problem::Failed(format!(
            "cannot write to standard output: {error}"
        ))),
        Ok(()) => Ok(()),
    }
}

/// Prints one JSON object with the schema's version in it.
pub(super) fn object(mut value: Value) -> Result<(), Problem> {
    value["version"] = json!(SCHEMA);
    text(&format!("{value:#}\n"))
}

/// Prints one JSON object that is made while it is printed, and has the schema's version as its last field.
pub(super) fn stream(object: &impl Serialize) -> Result<(), Problem> {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = serde_json::to_writer_pretty(&mut out, object).map_err(io::Error::from);
    written(
        printed
            .and_then(|()| out.write_all(b"\n"))
            .and_then(|()| out.flush()),
    )
}

/// Prints why a verb failed.
pub(super) fn complain(problem: &Problem, as_json: bool) {
    if matches!(problem, Problem::Found) {
        return;
    }
    if as_json {
        let error = json!({"version": SCHEMA, "error": {"code": problem.code().map(Code::as_str), "text": problem.to_string()}});
        eprintln!("{error:#}");
    } else {
        eprintln!("error: {problem}");
    }
}

/// Says what could not be seen, one line per reason.
pub(super) fn gaps(gaps: &[Gap]) {
    let mut reasons: BTreeMap<&str, Vec<&Gap>> = BTreeMap::new();
    for gap in gaps {
        reasons.entry(&gap.reason).or_default().push(gap);
    }
    for (reason, gaps) in reasons {
        let more = if gaps.len() > 1 {
            format!(" and {} more", gaps.len() - 1)
        } else {
            String::new()
        };
        eprintln!("note: not visible: '{}'{more}: {reason}", gaps[0].path);
    }
}

/// Says why a table of covered devices is empty.
pub(super) fn none_covered(host: &Path) {
    let text = "no device of this host is covered by a recipe; 'variantctl list --all' lists every PCI function";
    eprintln!("{}", hint::for_host(text, host));
}

/// The gaps as JSON.
pub(super) fn gaps_json(gaps: &[Gap]) -> Value {
    gaps.iter()
        .map(|gap| json!({"path": gap.path, "reason": gap.reason}))
        .collect()
}

/// Rows as columns two spaces apart; the last column is not padded.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..count)
        .map(|column| width(column).unwrap_or(0))
        .collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
