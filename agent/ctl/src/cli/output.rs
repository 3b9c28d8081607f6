//! Printing: text and JSON to standard output, errors and unavailable facts to standard error.
//!
//! Names, paths and other programs' errors may have any character. Text for people has control characters escaped, JSON has
//! them as JSON's escapes, and data for programs (a definition, a diff) stays unchanged unless it goes to a terminal.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::Path;

use domain::printable::{Printable, is_control, is_plain, lines};
use kernel_glue::host::Gap;
use serde::Serialize;
use serde_json::{Value, json};

use super::hint;
use super::problem::Problem;
use domain::code::Code;
use domain::hint::Hint;

/// Version of the JSON that every verb prints.
pub(super) const SCHEMA: u32 = 1;

/// Prints text for people; a closed pipe ends the program as it ends `cat`.
pub(super) fn text(text: &str) -> Result<(), Problem> {
    print(&lines(text))
}

/// The same for many lines, which are made while they are printed.
pub(super) fn text_lines(mut texts: impl Iterator<Item = String>) -> Result<(), Problem> {
    let mut out = BufWriter::new(io::stdout().lock());
    let printed = texts.try_for_each(|text| writeln!(out, "{}", lines(&text)));
    written(printed.and_then(|()| out.flush()))
}

/// Prints text for programs: unchanged, except on a terminal.
pub(super) fn data(text: &str) -> Result<(), Problem> {
    print(&shown(text))
}

/// The text in the form for standard output.
pub(super) fn shown(text: &str) -> Cow<'_, str> {
    match io::stdout().is_terminal() {
        true => lines(text),
        false => Cow::Borrowed(text),
    }
}

/// Prints a line for people to standard error.
pub(super) fn say(line: &str) {
    say_lines(&format!("{line}\n"));
}

/// Prints lines for people to standard error.
pub(super) fn say_lines(text: &str) {
    to_standard_error(&lines(text));
}

/// Writes a text to standard error as it is.
pub(super) fn to_standard_error(text: &str) {
    // `eprint!` panics when standard error is closed or full; the exit status must still be that of the verb. Standard error has
    // no buffer, so a text is one call to the kernel.
    let _ = io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) -> Result<(), Problem> {
    let mut out = io::stdout();
    // What follows the last line end stays in the buffer, and the flush at the end of the process reports no error.
    written(out.write_all(text.as_bytes()).and_then(|()| out.flush()))
}

/// The result of a write to standard output.
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
    print(&format!("{}\n", json_text(&value)))
}

/// JSON text in which the control characters that serde_json does not escape (DEL, C1, direction) are escaped as well. They occur
/// only in strings.
pub(super) fn json_text(value: &Value) -> String {
    escaped(&format!("{value:#}"))
}

/// The same for a JSON text.
pub(super) fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for one in json.chars() {
        // Line ends between tokens stay; in strings serde_json has escaped them.
        match is_control(one) && !one.is_ascii_whitespace() {
            true => text.push_str(&format!("\\u{:04x}", u32::from(one))),
            false => text.push(one),
        }
    }
    text
}

/// A writer that escapes its input. serde_json writes whole characters.
struct Escaping<W>(W);

impl<W: Write> Write for Escaping<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if is_plain(buffer) {
            self.0.write_all(buffer)?;
        } else {
            let text = str::from_utf8(buffer).map_err(io::Error::other)?;
            self.0.write_all(escaped(text).as_bytes())?;
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Prints one JSON object that is made while it is printed, and has the schema's version as its last field.
pub(super) fn stream(object: &impl Serialize) -> Result<(), Problem> {
    // serde_json writes each token on its own.
    let mut out = Escaping(BufWriter::new(io::stdout().lock()));
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
        let error = json!({"version": SCHEMA, "error": {
            "code": problem.code().map(Code::as_str),
            "text": problem.to_string(),
            "hint": problem.hint().map(Hint::as_str),
            "command": problem.hint().and_then(Hint::command),
        }});
        to_standard_error(&format!("{}\n", json_text(&error)));
    } else {
        say(&format!("error: {problem}"));
    }
}

/// Prints the unavailable facts, one line per reason.
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
        say(&format!(
            "note: not visible: '{}'{more}: {reason}",
            gaps[0].path
        ));
    }
}

/// Prints why a table of covered devices is empty.
pub(super) fn none_covered(host: &Path) {
    let all = hint::for_host("variantctl list --all", host);
    say(&format!(
        "no device of this host is covered by a recipe; '{all}' lists every PCI function"
    ));
}

/// The unavailable facts as JSON.
pub(super) fn gaps_json(gaps: &[Gap]) -> Value {
    gaps.iter()
        .map(|gap| json!({"path": gap.path, "reason": gap.reason}))
        .collect()
}

/// Rows as columns two spaces apart; the last column is not padded. A cell is always one line.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let shown = |row: &Vec<String>| row.iter().map(|cell| Printable(cell).to_string()).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(shown).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_without_control_characters_has_the_same_content() {
        let value = json!({"name": "a\u{9b}31m\u{7f}\u{202e}\n é", "list": [1, "\u{1b}"]});
        for text in [json_text(&value), streamed(&value)] {
            assert!(
                !text.chars().any(|one| one != '\n' && is_control(one)),
                "{text}"
            );
            assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
        }
    }

    fn streamed(value: &Value) -> String {
        let mut bytes = Vec::new();
        serde_json::to_writer_pretty(Escaping(&mut bytes), value).expect("written");
        String::from_utf8(bytes).expect("text")
    }
}
