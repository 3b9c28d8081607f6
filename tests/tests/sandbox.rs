//! packaging/doc/sandbox.md names each capability, system call group and address family of the units, and no other.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../packaging/doc/sandbox.md");
const SECTION: &str = "## Permissions of each unit\n";
/// Settings that list what a unit may do.
const SETTINGS: [&str; 3] = [
    "CapabilityBoundingSet=",
    "SystemCallFilter=",
    "RestrictAddressFamilies=",
];

/// A permission and the unit that has it.
type Pair = (String, String);

fn of_unit(unit: &str, text: &str) -> BTreeSet<Pair> {
    let lists = text.lines().filter_map(|line| {
        let mut settings = SETTINGS.iter();
        let list = settings.find_map(|setting| line.strip_prefix(*setting))?;
        (!list.starts_with('~')).then_some(list)
    });
    let words = lists.flat_map(str::split_whitespace);
    words
        // 'none' and a list that begins with '~' take permissions away.
        .filter(|word| *word != "none")
        .map(|word| (word.to_owned(), unit.to_owned()))
        .collect()
}

fn of_units() -> BTreeSet<Pair> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd");
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).expect("units").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(unit) = name.strip_suffix(".service") {
            let text = fs::read_to_string(entry.path()).expect("a unit");
            found.extend(of_unit(unit.trim_end_matches('@'), &text));
        }
    }
    found
}

/// The rows `| PERMISSION | UNIT, UNIT | REASON | STEP, STEP |` of the section, with a step of the scenario `sandbox` for each unit.
fn of_page(page: &str) -> BTreeSet<Pair> {
    let (_, section) = page.split_once(SECTION).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter(|line| line.starts_with("| "))
        .skip(1);
    let mut found = BTreeSet::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let [permission, units, reason, steps] = cells[..] else {
            unreachable!("not four cells: {row}");
        };
        assert!(!reason.is_empty(), "no reason: {row}");
        assert_eq!(
            units.split(", ").count(),
            steps.split(", ").count(),
            "not a step for each unit: {row}"
        );
        found.extend(
            units
                .split(", ")
                .map(|unit| (permission.to_owned(), unit.to_owned())),
        );
    }
    found
}

#[test]
fn the_sandbox_page_names_each_permission_of_the_units_and_no_other() {
    let (units, page) = (of_units(), of_page(PAGE));
    let unnamed: Vec<_> = units.difference(&page).collect();
    let stale: Vec<_> = page.difference(&units).collect();
    assert!(
        unnamed.is_empty() && stale.is_empty(),
        "not in the page: {unnamed:?}; only in the page: {stale:?}"
    );
    assert!(units.len() > 15, "{units:?}");
}

#[test]
fn a_permission_of_one_side_only_is_found() {
    let unit = "[Service]\nCapabilityBoundingSet=CAP_SYS_ADMIN CAP_KILL\nSystemCallFilter=@system-service\n";
    let page = format!(
        "{SECTION}\n| permission | units | needed for | fails without it |\n|---|---|---|---|\n\
         | CAP_SYS_ADMIN | a, b | x | start, start |\n"
    );
    let (unit, page) = (of_unit("a", unit), of_page(&page));
    let pair = |permission: &str, unit: &str| (permission.to_owned(), unit.to_owned());
    let unnamed = [pair("@system-service", "a"), pair("CAP_KILL", "a")];
    assert_eq!(unit.difference(&page).cloned().collect::<Vec<_>>(), unnamed);
    assert_eq!(
        page.difference(&unit).cloned().collect::<Vec<_>>(),
        [pair("CAP_SYS_ADMIN", "b")]
    );
}
