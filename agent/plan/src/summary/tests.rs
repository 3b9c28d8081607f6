//! Summaries of plans, of plans that replace an older one, and of what a revert removes.

use std::collections::BTreeSet;

use super::*;
use crate::fixture::{GPU, address, definition, guest, host};
use crate::plan::PlanInput;
use crate::recipe::Recipes;
use crate::revert::{removed, revert};
use crate::rewrite::rewrite;

fn summary(text: &str) -> (Summary, String) {
    let recipes = Recipes::shipped().expect("recipes");
    let host = host();
    let input = PlanInput::newest(&host, &recipes);
    let definition = definition(text);
    let saved = SavedPlan::make(&definition, &input).expect("a plan");
    let rewrite = rewrite(&definition, &input).expect("a rewrite");
    let summary = Summary::of(&saved);
    assert_eq!(summary, Summary::of_rewrite(&definition, &rewrite));
    (summary, rewrite.text)
}

fn counted(summary: &Summary) -> Lines {
    let mut lines = Lines::default();
    summary.rows.iter().for_each(|row| lines.add(row.lines));
    lines
}

#[test]
fn rows_count_the_lines_of_the_diff() {
    let text = guest(GPU);
    let (summary, after) = summary(&text);
    assert_eq!(counted(&summary), summary.lines);
    let grown = after.lines().count() - text.lines().count();
    assert_eq!(summary.lines.added - summary.lines.removed, grown);
    let elements: BTreeSet<&str> = summary.rows.iter().map(|row| &*row.element).collect();
    assert!(elements.contains("devices/hostdev/acpi"), "{elements:?}");
    assert!(
        elements.iter().all(|one| !one.contains('[')),
        "{elements:?}"
    );
    let gpu = summary
        .rows
        .iter()
        .find(|row| row.element.ends_with("/acpi"));
    assert_eq!(gpu.expect("a row").devices, [address(GPU)]);
}

#[test]
fn cells_of_a_device_are_one_row_with_its_host_nodes() {
    let (summary, _) = summary(&guest(GPU));
    let cells = &summary.cells;
    let device = cells.rows.iter().find(|row| row.device.is_some());
    let device = device.expect("the GPU's cells");
    assert_eq!(device.device, Some(address(GPU)));
    assert_eq!(device.cells, summary.devices[0].cells);
    assert_eq!(cells.distances.pairs, cells.count * (cells.count - 1));
    assert!(!cells.distances.same_device.is_empty());
    assert!(cells.distances.other_device.is_empty());
}

#[test]
fn a_complete_definition_has_no_rows_but_its_cells() {
    let (_, after) = summary(&guest(GPU));
    let (again, _) = summary(&after);
    assert_eq!((again.rows.len(), again.lines), (0, Lines::default()));
    assert!(again.cells.count > 1);
}

#[test]
fn revert_counts_elements_and_lines() {
    let text = guest(GPU);
    let (done, after) = summary(&text);
    let completed = definition(&after);
    let back = revert(&completed).expect("reverted");
    assert_eq!(back, text);
    let removed = removed(&completed, &back);
    assert_eq!(
        (removed.lines.added, removed.lines.removed),
        (done.lines.removed, done.lines.added)
    );
    let count = |name: &str| {
        let mut rows = removed.rows.iter();
        rows.find(|row| row.element == name)
            .map_or(0, |row| row.count)
    };
    assert_eq!((count("metadata"), count("acpi")), (1, 1));
    assert_eq!(removed.rows.iter().map(|row| row.lines).min(), Some(1));
    let plain = definition(&text);
    assert_eq!(crate::removed::Removed::of(&text, &text, []).rows, []);
    assert_eq!(crate::revert::removed(&plain, &text).rows, []);
}

#[test]
fn an_element_has_no_predicates() {
    let path = "/domain/devices/hostdev[source='0009:01:00.0']/acpi";
    assert_eq!(element(path), "devices/hostdev/acpi");
    assert_eq!(element("/domain/iommufd"), "iommufd");
    assert_eq!(element("/domain/a[b[1]]/c]"), "a/c");
}
