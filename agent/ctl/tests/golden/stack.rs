//! Named stacks times boards times numbers of GPUs, also with command queues, network adapters and EGM: the lines of the completed
//! definition that depend on the stack, the notes, or the refusal.

use std::fmt::Write;
use std::path::Path;

use planner::stack::{Feature, Stack};
use similar::{ChangeTag, TextDiff};

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

/// Hosts with network adapters, by the host of a board's case; and an adapter of the first two sockets.
const WITH_NICS: [(&str, &str, [&str; 2]); 6] = [
    ("gb200-4gpu", "gb200-nic", ["0002:01:00.0", "0012:01:00.0"]),
    ("gb300-4gpu", "gb300-4gpu", ["0008:03:00.0", "0018:03:00.0"]),
    ("gh200-4gpu", "gh200-nic", ["0002:01:00.0", "0012:01:00.0"]),
    (
        "gb200-egm",
        "gb200-nic-egm",
        ["0002:01:00.0", "0012:01:00.0"],
    ),
    ("gb300-egm", "gb300-egm", ["0008:03:00.0", "0018:03:00.0"]),
    (
        "gh200-4gpu-egm",
        "gh200-nic-egm",
        ["0002:01:00.0", "0012:01:00.0"],
    ),
];

/// The options of the cases with EGM, and what is left of them without command queues.
const EGM_OPTIONS: [&str; 2] = ["egm='on' cmdqv='on'", "egm='on'"];

/// Command queues are an option of the guest, and need huge pages for its memory.
const QUEUES: [(&str, &str); 2] = [
    (
        "<memory ",
        "<metadata><options xmlns='urn:variantd:options:1' cmdqv='on'/></metadata>",
    ),
    (
        "<vcpu ",
        "<memoryBacking><hugepages><page size='524288' unit='KiB'/></hugepages></memoryBacking>",
    ),
];

/// Another form of a guest: its title, and the edit of the definition.
type Queues = (&'static str, fn(&str) -> String);
const WITH_QUEUES: Queues = ("command queues and huge pages", with_queues);
const WITHOUT_QUEUES: Queues = ("without command queues", without_queues);

/// Numbers of GPUs of a guest.
const COUNTS: [usize; 3] = [1, 2, 4];

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
            report += &compared(&path, &of_board(case, stack, WITH_QUEUES));
        }
    }
    case::expect_none(&report);
}

/// So the committed files show all that a stack changes.
#[test]
fn all_other_lines_are_the_same_for_every_stack_that_takes_the_elements() {
    let cases = case::all();
    for case in cases
        .iter()
        .filter(|case| BOARDS.contains(&case.name.as_str()))
    {
        let others = |stack: &str| {
            let output = case.run_for(stack, &["rewrite"], None);
            let xml = stdout(&output);
            let (_, mut others) = parted(&xml);
            // The mark names the pieces that were added, and one that is left out has no end.
            others.retain(|line| !line.starts_with("<variantd:") && *line != "</iommu>");
            others.join("\n")
        };
        let reference = others("debian-testing");
        assert!(reference.lines().count() > 100, "{}", case.name);
        for stack in ["nvidia-10.1", "nvidia-11.0", "stream-10", "ubuntu-26.04"] {
            let differing = diff(&reference, &others(stack), ("debian-testing", stack));
            assert_eq!(differing, "", "{} for {stack}", case.name);
        }
    }
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
        text += &of_board(case, stack, WITHOUT_QUEUES);
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

/// The case on a host with network adapters, and the adapters.
fn beside(case: &Case) -> Option<(Case, &'static [&'static str])> {
    let mut boards = WITH_NICS.iter();
    let (_, host, adapters) = boards.find(|(host, ..)| *host == case.settings.host)?;
    let mut beside = case.clone();
    beside.settings.host = (*host).to_owned();
    Some((beside, adapters))
}

/// Guests with one, two and four GPUs, and each also with other command queues and with network adapters: the lines that differ then.
/// A case that has adapters has no second form with them.
fn of_board(case: &Case, stack: &str, (queues, edit): Queues) -> String {
    let guests = COUNTS.map(|count| {
        let plain = with_gpus(&case.definition(), count);
        let before = completed(case, stack, &plain);
        let after = completed(case, stack, &edit(&plain));
        let changes = changed(&before, &after);
        let mut text = format!("== GPUs: {count}\n{before}= {queues}\n{changes}");
        if let Some((beside, adapters)) = beside(case) {
            let nics = completed(&beside, stack, &with_adapters(&plain, adapters));
            text += &format!("= two network adapters\n{}", changed(&before, &nics));
        }
        text
    });
    guests.concat()
}

/// The lines that depend on the stack, and the notes, or the refusal.
fn completed(case: &Case, stack: &str, definition: &str) -> String {
    let output = case.run_for(stack, &["rewrite"], Some(definition));
    pieces(&stdout(&output)) + &stderr(&output)
}

fn without_queues(definition: &str) -> String {
    let [both, alone] = EGM_OPTIONS;
    assert!(definition.contains(both), "{definition}");
    definition.replace(both, alone)
}

fn with_queues(definition: &str) -> String {
    let mut text = definition.to_owned();
    for (before, added) in QUEUES {
        text = text.replacen(before, &format!("{added}\n  {before}"), 1);
    }
    text
}

/// The definition with more host devices.
fn with_adapters(definition: &str, adapters: &[&str]) -> String {
    let at = definition.rfind("  </devices>").expect("devices");
    let (head, tail) = definition.split_at(at);
    let one = |address: &&str| {
        let (domain, bus) = (&address[..4], &address[5..7]);
        format!(
            "    <hostdev mode='subsystem' type='pci' managed='yes'>\n      <source>\n        <address domain='0x{domain}' \
             bus='0x{bus}' slot='0x00' function='0x0'/>\n      </source>\n    </hostdev>\n"
        )
    };
    format!(
        "{head}{}{tail}",
        adapters.iter().map(one).collect::<String>()
    )
}

/// The lines that differ, with their signs.
fn changed(before: &str, after: &str) -> String {
    let diff = TextDiff::from_lines(before, after);
    let changes = diff.iter_all_changes();
    let changed = changes.filter(|change| change.tag() != ChangeTag::Equal);
    let text: String = changed
        .map(|change| format!("{}{change}", change.tag()))
        .collect();
    match text.is_empty() {
        true => "no line differs\n".to_owned(),
        false => text,
    }
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
    let (pieces, _) = parted(xml);
    for line in pieces {
        nodes += usize::from(line.contains("'node,"));
        distances += usize::from(line.contains("'dist,"));
        let is_numa = ["'node,", "'dist,", "'-numa'"]
            .iter()
            .any(|part| line.contains(part));
        if !is_numa {
            writeln!(text, "{line}").expect("text");
        }
    }
    if nodes > 0 {
        writeln!(text, "as arguments: {nodes} nodes, {distances} distances").expect("text");
    }
    text
}

/// The lines that depend on the stack, and the others.
fn parted(xml: &str) -> (Vec<&str>, Vec<&str>) {
    let lines = xml.lines().map(str::trim);
    lines.partition(|line| PIECES.iter().any(|piece| line.starts_with(piece)))
}
