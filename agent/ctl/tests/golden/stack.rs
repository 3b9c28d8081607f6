//! Named stacks times boards times numbers of GPUs: the lines of the completed definition that differ between stacks, the notes,
//! or the refusal.

use std::fmt::Write;
use std::path::Path;

use planner::stack::Stack;

use crate::case::{self, Case};
use crate::{diff, stderr, stdout};

/// Cases with all four GPUs of a board.
const BOARDS: [&str; 3] = ["gb200-all", "gb300-all", "gh200-all"];

/// The case of a board with EGM, which asks for it and for command queues.
const WITH_EGM: &str = "gb200-egm";

/// Elements that depend on the stack.
const PIECES: [&str; 11] = [
    "<iommu",
    "<driver pciBus",
    "<driver name='vfio'",
    "<acpi nodeset",
    "<pcihole64",
    "<memory model",
    "<path>",
    "<size unit='MiB'>",
    "<pciDev>",
    "<qemu:commandline",
    "<qemu:arg ",
];

#[test]
fn every_stack_and_board_equals_its_committed_file() {
    let mut report = String::new();
    for case in case::all()
        .iter()
        .filter(|case| BOARDS.contains(&case.name.as_str()))
    {
        for stack in Stack::names() {
            let path = case::data("stacks").join(format!("{stack}-{}.txt", case.settings.host));
            report += &compared(&path, &of_board(case, stack));
        }
    }
    case::expect_none(&report);
}

#[test]
fn egm_and_command_queues_of_every_stack_equal_their_committed_file() {
    let all = case::all();
    let case = all.iter().find(|case| case.name == WITH_EGM);
    let case = case.expect("the case");
    let mut text = String::new();
    for stack in Stack::names() {
        writeln!(text, "# {stack}").expect("text");
        text += &of_board(case, stack);
    }
    let report = compared(&case::data("stacks").join("egm-gb200.txt"), &text);
    case::expect_none(&report);
}

pub(crate) fn compared(path: &Path, text: &str) -> String {
    if std::env::var_os("VARIANTD_WRITE_GOLDEN").is_some() {
        std::fs::write(path, text).expect("written");
    }
    let committed = std::fs::read_to_string(path).unwrap_or_default();
    let name = path.display().to_string();
    diff(&committed, text, (&name, "now"))
}

/// Guests with one, two and four GPUs.
fn of_board(case: &Case, stack: &str) -> String {
    let mut text = String::new();
    for count in [1, 2, 4] {
        let definition = with_gpus(&case.definition(), count);
        let output = case.run_for(stack, &["rewrite"], Some(&definition));
        writeln!(text, "== GPUs: {count}").expect("text");
        text += &pieces(&stdout(&output));
        text += &stderr(&output);
    }
    text
}

/// The definition with its first hostdevs only.
fn with_gpus(definition: &str, count: usize) -> String {
    let (head, rest) = definition.split_once("    <hostdev").expect("a hostdev");
    let all = format!("    <hostdev{rest}");
    let end = all.rfind("</hostdev>\n").expect("an end") + "</hostdev>\n".len();
    let (hostdevs, tail) = all.split_at(end);
    let kept: String = hostdevs
        .split_inclusive("</hostdev>\n")
        .take(count)
        .collect();
    format!("{head}{kept}{tail}")
}

/// The lines that depend on the stack. Nodes and distances among the arguments are counted.
fn pieces(xml: &str) -> String {
    let mut text = String::new();
    let (mut nodes, mut distances) = (0, 0);
    for line in xml.lines().map(str::trim) {
        nodes += usize::from(line.contains("'node,"));
        distances += usize::from(line.contains("'dist,"));
        let is_numa = ["'node,", "'dist,", "'-numa'"]
            .iter()
            .any(|part| line.contains(part));
        if !is_numa && PIECES.iter().any(|piece| line.starts_with(piece)) {
            writeln!(text, "{line}").expect("text");
        }
    }
    if nodes > 0 {
        writeln!(text, "as arguments: {nodes} nodes, {distances} distances").expect("text");
    }
    text
}
