//! The table, on standard output and in `packaging/doc/performance.md`.

use std::fs;
use std::path::Path;

use anyhow::Result;

use crate::process::version;
use crate::row::Row;

const HEAD: [&str; 7] = [
    "work",
    "compared with",
    "variantd, ms",
    "other, ms",
    "ratio",
    "target",
    "reached",
];

/// A row for a terminal.
pub(crate) fn line(row: &Row) -> String {
    let [work, beside, ours, theirs, ratio, reach, verdict] = row.cells();
    format!("{work}\n    ours {ours}; {beside}: {theirs}; ratio {ratio}, {reach}: {verdict}")
}

/// Writes the document.
pub(crate) fn write(rows: &[Row]) -> Result<()> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/doc/performance.md");
    let table: String = rows.iter().map(|row| joined(&row.cells())).collect();
    let head = joined(&HEAD.map(str::to_owned)) + &joined(&HEAD.map(|_| "---".to_owned()));
    let text = format!(
        "{}\n{}\n{head}{table}\n{}",
        include_str!("report/head.md").trim_end(),
        surroundings(),
        include_str!("report/tail.md")
    );
    Ok(fs::write(path, text)?)
}

fn joined(cells: &[String; 7]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    format!("| {} |\n", cells.join(" | "))
}

/// The machine, and the versions of the other tools.
fn surroundings() -> String {
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let models = cpus
        .lines()
        .filter_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let models: Vec<&str> = models.map(|(_, model)| model).collect();
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut lines = vec![
        format!(
            "- machine: {} x {}",
            models.len(),
            models.first().unwrap_or(&"unknown processor")
        ),
        format!("- kernel: Linux {}", numbers(&kernel)),
    ];
    for (program, argument) in [
        ("bash", "--version"),
        ("lspci", "--version"),
        ("xmllint", "--version"),
        ("virsh", "--version=long"),
    ] {
        let printed = version(program, argument);
        lines.push(format!(
            "- {program}: {}",
            printed.as_deref().unwrap_or("not here")
        ));
    }
    lines.join("\n") + "\n"
}

/// The numbers at the start of a release; a distributor's suffix is removed.
fn numbers(release: &str) -> &str {
    let end = release.find(|c: char| c != '.' && !c.is_ascii_digit());
    &release[..end.unwrap_or(release.len())]
}
