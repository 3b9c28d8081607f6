//! Each failure that a check can report has a scenario that makes it in the lab.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::tests::FAILURES;
use domain::code::Code;

/// Failures that the table of this module's tests does not make.
const MORE: [Code; 3] = [
    Code::AtomicsLacking,
    Code::DeviceMissing,
    Code::DriverUnknown,
];

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// The texts of the files below a folder whose names end so.
fn texts(folder: &Path, end: &str) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    let named = paths.filter(|path| path.to_string_lossy().ends_with(end));
    named
        .map(|path| fs::read_to_string(path).expect("a text"))
        .collect()
}

fn failures() -> BTreeSet<Code> {
    let table = FAILURES.iter().map(|(_, code, _)| *code);
    table.chain(MORE).collect()
}

#[test]
fn each_failure_is_made_and_found_in_the_lab() {
    let scenarios = texts(&folder("../../tests/scenario"), ".sh").join("\n");
    let made = |code: &Code| {
        let mut lines = scenarios.lines().map(str::trim_start);
        lines.any(|line| line.starts_with(&format!("found {code} ")))
    };
    let missing: Vec<Code> = failures().into_iter().filter(|code| !made(code)).collect();
    assert!(
        missing.is_empty(),
        "no scenario has 'found CODE' for {missing:?}"
    );
}

#[test]
fn each_failure_code_of_doctor_has_a_lab_case() {
    let known = failures();
    let sources = texts(&folder("src/doctor"), ".rs").concat();
    let mut found = 0;
    for (at, call) in sources.match_indices("Check::fail(") {
        let rest = sources[at + call.len()..].trim_start();
        let Some(rest) = rest.strip_prefix("Code::") else {
            continue;
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric()).collect();
        let is_known = known.iter().any(|code| format!("{code:?}") == name);
        assert!(is_known, "Code::{name} is in neither table");
        found += 1;
    }
    assert!(found > 20, "{found}");
}
