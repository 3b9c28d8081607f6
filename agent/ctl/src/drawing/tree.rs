//! Parts as text, indented as `lspci -t` does.

use super::{Kind, Part};

/// The tree below a machine, without the machine itself.
#[must_use]
pub(crate) fn text(machine: &Part) -> String {
    let mut out = String::new();
    for part in &machine.below {
        out.push_str(&format!("{}\n", line(part)));
        branch(part, "", &mut out);
    }
    out
}

fn branch(part: &Part, indent: &str, out: &mut String) {
    for (position, below) in part.below.iter().enumerate() {
        let last = position + 1 == part.below.len();
        let (tee, bar) = if last { ("`- ", "   ") } else { ("|- ", "|  ") };
        out.push_str(&format!("{indent}{tee}{}\n", line(below)));
        branch(below, &format!("{indent}{bar}"), out);
    }
}

fn line(part: &Part) -> String {
    let between = match part.kind {
        Kind::Socket | Kind::Machine => ": ",
        _ => "  ",
    };
    let label = match part.label.is_empty() {
        true => String::new(),
        false => format!(" {}", part.label),
    };
    match part.facts.is_empty() {
        true => format!("{}{label}", part.name),
        false => format!("{}{label}{between}{}", part.name, part.facts.join(", ")),
    }
}
