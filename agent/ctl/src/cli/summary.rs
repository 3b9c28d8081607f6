//! What a plan adds, on one screen: the pieces with their line counts, the devices, the guest's cells with their host nodes.

use std::collections::BTreeSet;

use anstyle::{AnsiColor, Style};
use kernel_glue::address::PciAddress;

use super::diff::Color;
use super::problem::Problem;
use super::table::{self, Cell};
use domain::printable::Printable;
use planner::removed::Removed;
use planner::saved_plan::PlannedDevice;
use planner::size::kib_in_units;
use planner::summary::{Distances, GuestCell, Lines, Row, Summary};

const PLAIN: Style = Style::new();
const HEAD: Style = Style::new().bold();
const CODE: Style = AnsiColor::Yellow.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
const REMOVED: Style = AnsiColor::Red.on_default();
/// Different distances of one class that are listed; of more only the range is shown.
const LISTED: usize = 4;

/// Prints a heading and what a plan adds.
pub(super) fn print(heading: &str, summary: &Summary, color: Color) -> Result<(), Problem> {
    table::print(&text(heading, summary, table::width()), color)
}

fn text(heading: &str, summary: &Summary, width: Option<usize>) -> String {
    let all: Vec<PciAddress> = summary.devices.iter().map(|one| one.address).collect();
    let mut out = format!("{HEAD}{}{HEAD:#}\n", Printable(heading));
    if !summary.rows.is_empty() {
        let head = ["LINES", "CODE", "ELEMENT", "DEVICE", "WHAT AND WHY"];
        let rows = summary.rows.iter().map(|row| piece(row, &all));
        out += &table::table(&with_head(&head, rows), width);
    }
    if !summary.devices.is_empty() {
        let head = ["DEVICE", "RECIPE", "DRIVER", "LABEL"];
        let rows = summary.devices.iter().map(device);
        out += &format!("\n{}", table::table(&with_head(&head, rows), width));
    }
    let is_numa = summary.cells.count > 1;
    if is_numa {
        let head = ["CELLS", "HOST NODES", "CPUS", "MEMORY", "DEVICE"];
        let rows = summary.cells.rows.iter().map(cell);
        out += &format!("\n{}", table::table(&with_head(&head, rows), width));
        let matrix = matrix(summary.cells.count, &summary.cells.distances);
        let lines = table::wrapped(&matrix, width);
        out += &format!("{}\n", lines.join("\n"));
    }
    out
}

fn with_head(head: &[&str], rows: impl Iterator<Item = Vec<Cell>>) -> Vec<Vec<Cell>> {
    let head = head.iter().map(|text| Cell::new(text, HEAD)).collect();
    std::iter::once(head).chain(rows).collect()
}

fn piece(row: &Row, all: &[PciAddress]) -> Vec<Cell> {
    let lines = row.lines;
    let style = if lines.added > 0 { ADDED } else { REMOVED };
    vec![
        Cell::new(printed(lines), style),
        Cell::new(row.code.to_string(), CODE),
        Cell::new(&row.element, PLAIN),
        Cell::new(devices(&row.devices, all), PLAIN),
        Cell::new(&row.text, PLAIN),
    ]
}

fn printed(lines: Lines) -> String {
    match (lines.added, lines.removed) {
        (0, 0) => "-".to_owned(),
        (added, 0) => format!("+{added}"),
        (0, removed) => format!("-{removed}"),
        (added, removed) => format!("+{added} -{removed}"),
    }
}

/// The devices of a row, or of a note: all of several by their number.
pub(super) fn devices(devices: &[PciAddress], all: &[PciAddress]) -> String {
    let distinct: BTreeSet<&PciAddress> = devices.iter().collect();
    let is_all = all.len() > 1 && distinct.len() == all.len();
    match (is_all, devices.is_empty()) {
        (_, true) => "-".to_owned(),
        (true, _) => format!("all {}", all.len()),
        _ => {
            let named: Vec<String> = distinct.iter().map(ToString::to_string).collect();
            named.join(", ")
        }
    }
}

fn device(device: &PlannedDevice) -> Vec<Cell> {
    vec![
        Cell::new(device.address.to_string(), PLAIN),
        Cell::new(&device.recipe, PLAIN),
        Cell::new(device.driver.as_str(), PLAIN),
        Cell::new(&device.label, PLAIN),
    ]
}

fn cell(row: &GuestCell) -> Vec<Cell> {
    let or_none = |text: &str| match text.is_empty() {
        true => "-".to_owned(),
        false => text.to_owned(),
    };
    let memory = match row.memory_kib {
        0 => "-".to_owned(),
        kib => kib_in_units(kib),
    };
    let device = row.device.map_or_else(|| "-".into(), |one| one.to_string());
    vec![
        Cell::new(&row.cells, PLAIN),
        Cell::new(or_none(&row.nodes), PLAIN),
        Cell::new(or_none(&row.cpus), PLAIN),
        Cell::new(memory, PLAIN),
        Cell::new(device, PLAIN),
    ]
}

/// The matrix of distances as one line.
fn matrix(count: usize, distances: &Distances) -> String {
    if distances.pairs == 0 {
        return format!("{count} cells, no distances");
    }
    let classes = [
        ("socket to socket", &distances.sockets),
        ("socket to GPU", &distances.to_device),
        ("same GPU", &distances.same_device),
        ("other GPU", &distances.other_device),
    ];
    let classes = classes.iter().filter(|(_, values)| !values.is_empty());
    let classes: Vec<String> = classes
        .map(|(name, values)| format!("{name} {}", listed(values)))
        .collect();
    let whole = count * (count - 1);
    let size = match distances.pairs >= whole {
        true => format!("{count} x {count}"),
        false => format!("of {} of {whole} pairs", distances.pairs),
    };
    format!("{count} cells, distances {size}: {}", classes.join(", "))
}

fn listed(values: &BTreeSet<u8>) -> String {
    let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
    match texts.as_slice() {
        [one] => one.clone(),
        [first, .., last] if texts.len() > LISTED => format!("{first} to {last}"),
        [others @ .., last] => format!("{} or {last}", others.join(", ")),
        [] => String::new(),
    }
}

/// Prints a heading and what a revert removed.
pub(super) fn print_removed(heading: &str, removed: &Removed) -> Result<(), Problem> {
    let head = ["LINES", "REMOVED", "ELEMENT"];
    let rows = removed.rows.iter().map(|row| {
        vec![
            Cell::new(format!("-{}", row.lines), REMOVED),
            Cell::new(row.count.to_string(), PLAIN),
            Cell::new(format!("<{}>", row.element), PLAIN),
        ]
    });
    let mut out = format!("{HEAD}{}{HEAD:#}\n", Printable(heading));
    if !removed.rows.is_empty() {
        out += &table::table(&with_head(&head, rows), table::width());
    }
    table::print(&out, Color::Auto)
}

/// The lines of a diff in words.
pub(super) fn in_words(lines: Lines) -> String {
    let count = |count: usize, what: &str| match count {
        1 => format!("1 line {what}"),
        _ => format!("{count} lines {what}"),
    };
    match (lines.added, lines.removed) {
        (added, 0) => count(added, "added"),
        (0, removed) => count(removed, "removed"),
        (added, removed) => format!("{}, {removed} removed", count(added, "added")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_one_line_with_the_distances_of_each_class() {
        let set = |values: &[u8]| values.iter().copied().collect::<BTreeSet<u8>>();
        let mut distances = Distances {
            pairs: 33 * 32,
            sockets: BTreeSet::new(),
            to_device: set(&[80, 120]),
            same_device: set(&[11]),
            other_device: set(&[40]),
        };
        assert_eq!(
            matrix(33, &distances),
            "33 cells, distances 33 x 33: socket to GPU 80 or 120, same GPU 11, other GPU 40"
        );
        distances.sockets = set(&[12, 20, 22, 24, 32]);
        distances.pairs = 40;
        assert_eq!(
            matrix(33, &distances),
            "33 cells, distances of 40 of 1056 pairs: socket to socket 12 to 32, socket to GPU 80 or 120, same GPU 11, other GPU 40"
        );
        assert_eq!(matrix(2, &Distances::default()), "2 cells, no distances");
    }

    #[test]
    fn devices_of_a_row_are_named_unless_they_are_all() {
        let device = |bus: u8| format!("0000:{bus:02x}:00.0").parse().expect("address");
        let all = [device(1), device(2), device(3)];
        assert_eq!(devices(&all, &all), "all 3");
        assert_eq!(devices(&all[..2], &all), "0000:01:00.0, 0000:02:00.0");
        assert_eq!(devices(&all[..1], &all[..1]), "0000:01:00.0");
        assert_eq!(devices(&[], &all), "-");
    }

    #[test]
    fn lines_are_counted_in_words() {
        let lines = |added, removed| in_words(Lines { added, removed });
        assert_eq!(lines(1, 0), "1 line added");
        assert_eq!(lines(20, 3), "20 lines added, 3 removed");
        assert_eq!(lines(0, 4), "4 lines removed");
    }
}
