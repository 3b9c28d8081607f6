//! A plan's hunks as a unified diff for people, with each reason as a comment line above its lines.
//!
//! patch(1) skips lines that begin with '#', so the diff can still be applied.

use std::fmt::Write as _;
use std::io::{self, Write};

use anstream::{AutoStream, ColorChoice};
use anstyle::{AnsiColor, Style};
use clap::ValueEnum;

use super::output;
use super::problem::Problem;
use planner::saved_plan::{Hunk, Reason, SavedPlan};

const HEADER: Style = Style::new().bold();
const PLACE: Style = AnsiColor::Cyan.on_default();
const REASON: Style = AnsiColor::Yellow.on_default();
const GONE: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const KEPT: Style = Style::new();

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// Prints the diff of a plan whose definition is called `name`.
pub(super) fn print(saved_plan: &SavedPlan, name: &str, color: Color) -> Result<(), Problem> {
    print_hunks(&saved_plan.hunks, name, color)
}

/// Prints the hunks of a definition that is called `name`.
pub(super) fn print_hunks(hunks: &[Hunk], name: &str, color: Color) -> Result<(), Problem> {
    let choice = match color {
        Color::Auto => AutoStream::choice(&io::stdout()),
        Color::Always => ColorChoice::Always,
        Color::Never => ColorChoice::Never,
    };
    let mut out = AutoStream::new(io::stdout(), choice);
    output::written(out.write_all(text(hunks, name).as_bytes()))
}

/// The diff with colours; nothing for no hunks.
fn text(hunks: &[Hunk], name: &str) -> String {
    let mut out = String::new();
    if !hunks.is_empty() {
        line(&mut out, HEADER, &format!("--- {name}"));
        line(&mut out, HEADER, &format!("+++ {name} (planned)"));
    }
    for hunk in hunks {
        self::hunk(&mut out, hunk);
    }
    out
}

fn hunk(out: &mut String, hunk: &Hunk) {
    let Hunk {
        old_start,
        old_lines,
        new_start,
        new_lines,
        ..
    } = hunk;
    let place = format!("@@ -{old_start},{old_lines} +{new_start},{new_lines} @@");
    line(out, PLACE, &place);
    for (number, text) in hunk.lines.iter().enumerate() {
        for one in hunk.reasons.iter().filter(|reason| reason.line == number) {
            line(out, REASON, &reason(one));
        }
        let style = match text.as_bytes().first() {
            Some(b'-') => GONE,
            Some(b'+') => ADDED,
            _ => KEPT,
        };
        line(out, style, text);
    }
}

fn reason(reason: &Reason) -> String {
    let device = reason.device.map(|device| format!(" '{device}'"));
    let text = if reason.again {
        "as above"
    } else {
        &reason.text
    };
    format!("# {}{}: {text}", reason.code, device.unwrap_or_default())
}

fn line(out: &mut String, style: Style, text: &str) {
    let text = output::shown(text);
    // Writing to a string does not fail.
    let _ = writeln!(out, "{style}{text}{style:#}");
}
