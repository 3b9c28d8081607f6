//! Named stacks times boards times numbers of GPUs: the lines of the completed definition that differ between stacks, the notes,
//! or the refusal.

use std::fmt::Write;
use std::path::Path;

use planner::stack::{Feature, Stack};

use crate::case::{self, Case};
use crate::{diff, stderr, stdout};

/// Cases with all four GPUs of a board.
const BOARDS: [&str; 3] = ["gb200-all", "gb300-all", "gh200-all"];

/// The case with EGM that is compared for every stack.
const WITH_EGM: &str = "gb200-egm";

/// Cases with EGM that are compared for the stacks that have it.
const MORE_WITH_EGM: [&str; 3] = ["gb200-nic-egm", "gb300-egm", "gh200-egm"];

/// The domain of each network adapter, which guests with one or two GPUs also have.
const ADAPTERS: [&str; 2] = ["<address domain='0x0002'", "<address domain='0x0012'"];

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
    case::expect_none(&with_egm(WITH_EGM, Stack::names()));
}

#[test]
fn egm_of_every_board_equals_its_committed_file() {
    let has_egm = |name: &&str| {
        let stack = Stack::named(name).expect("a stack");
        stack.has(Feature::Egm) && stack.has(Feature::QemuEgm)
    };
    let stacks: Vec<&str> = Stack::names().filter(has_egm).collect();
    assert_eq!(stacks, ["nvidia-10.1", "nvidia-11.0"]);
    let boards = MORE_WITH_EGM.map(|name| with_egm(name, stacks.iter().copied()));
    case::expect_none(&boards.concat());
}

/// Differences of a case from its committed file, `egm-BOARD.txt`.
fn with_egm(name: &str, stacks: impl Iterator<Item = &'static str>) -> String {
    let all = case::all();
    let case = all.iter().find(|case| case.name == name);
    let case = case.expect("the case");
    let mut text = String::new();
    for stack in stacks {
        writeln!(text, "# {stack}").expect("text");
        text += &of_board(case, stack);
    }
    let board = name.trim_end_matches("-egm");
    compared(
        &case::data("stacks").join(format!("egm-{board}.txt")),
        &text,
    )
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

/// The definition with its first GPUs only.
fn with_gpus(definition: &str, count: usize) -> String {
    let (head, rest) = definition.split_once("    <hostdev").expect("a hostdev");
    let all = format!("    <hostdev{rest}");
    let end = all.rfind("</hostdev>\n").expect("an end") + "</hostdev>\n".len();
    let (hostdevs, tail) = all.split_at(end);
    let is_adapter = |hostdev: &str| ADAPTERS.iter().any(|one| hostdev.contains(one));
    let all = hostdevs.split_inclusive("</hostdev>\n");
    let (adapters, gpus): (Vec<&str>, Vec<&str>) = all.partition(|hostdev| is_adapter(hostdev));
    let kept = gpus.into_iter().take(count).chain(adapters);
    format!("{head}{}{tail}", kept.collect::<String>())
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
