//! Reports on AtomicOps for people: a table, and for each device its path as a tree. Devices with the same answers are one entry.

use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::host::Gap;

use super::super::problem::Problem;
use super::super::{hint, output};
use planner::atomics::{Answer, Bus, Element, Finding, Judgement, Report, in_words, word};
use planner::recipe::Need;
use planner::summary::fold::Folded;

const HEAD: [&str; 7] = [
    "DEVICE", "WIDTH", "HOST", "GUEST", "DRIVER", "VERDICT", "RULE",
];

/// Begin of the line about the place in the guest.
const GUEST: &str = "  guest: ";

pub(super) fn print(reports: &[Report], host: &Path) -> Result<(), Problem> {
    if reports.is_empty() {
        let all = hint::for_host("variantctl list --all", host);
        output::say(&format!("no device has a recipe; name one of '{all}'"));
        return Ok(());
    }
    let alike = alike(reports);
    let head = HEAD.map(str::to_owned).to_vec();
    let rows = alike.iter().flat_map(|(reports, _)| rows(reports));
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    output::text(&output::columns(&rows))?;
    let details: String = alike.iter().map(|(_, text)| text.as_str()).collect();
    output::text(&details)
}

/// Reports that differ only in addresses and places in the guest, and what they print together.
fn alike(reports: &[Report]) -> Vec<(Vec<&Report>, String)> {
    let mut groups: Vec<(String, Vec<&Report>, Vec<Folded>)> = Vec::new();
    for report in reports {
        let text = details(report);
        let verdicts = rows(&[report]).into_iter().map(|row| row[1..].join(" "));
        let form: String = verdicts
            .chain([text.clone()])
            .map(|text| form(&text))
            .collect();
        match groups.iter_mut().find(|(known, ..)| *known == form) {
            Some((_, reports, lines)) => {
                reports.push(report);
                for (line, text) in lines.iter_mut().zip(text.lines()) {
                    line.join(text);
                }
            }
            None => groups.push((form, vec![report], text.lines().map(Folded::new).collect())),
        }
    }
    let print = |(_, reports, lines): (_, Vec<_>, Vec<Folded>)| {
        let lines = lines.iter().map(|line| format!("{line}\n"));
        (reports, lines.collect())
    };
    groups.into_iter().map(print).collect()
}

/// A text without addresses of devices and places in the guest.
fn form(text: &str) -> String {
    let line = |line: &str| {
        let is_place = line.starts_with(GUEST);
        let word = |word: &str| {
            let bare = word.trim_matches(|one: char| one.is_ascii_punctuation());
            let is_number = is_place && bare.parse::<u32>().is_ok();
            match is_number || bare.parse::<PciAddress>().is_ok() {
                true => word.replace(bare, "@"),
                false => word.to_owned(),
            }
        };
        let words: Vec<String> = line.split(' ').map(word).collect();
        words.join(" ") + "\n"
    };
    text.lines().map(line).collect()
}

/// Unreadable facts of the host as a whole and on the paths of these devices.
pub(super) fn concerned(gaps: &[Gap], reports: &[Report]) -> Vec<Gap> {
    let on_the_way = |gap: &Gap, report: &Report| {
        let own = [report.address, report.judged];
        let path = report.path.iter().map(|element| element.address);
        let mut all = own.into_iter().chain(path);
        // AtomicOps are decided by config space; the other files of these functions do not matter.
        all.any(|address| gap.path.ends_with(&format!("{address}/config")))
    };
    let ours = |gap: &&Gap| reports.iter().any(|report| on_the_way(gap, report));
    gaps.iter().filter(ours).cloned().collect()
}

/// The rows of reports with the same answers.
fn rows(reports: &[&Report]) -> Vec<Vec<String>> {
    let report = reports[0];
    let device = match reports.len() {
        1 => report.address.to_string(),
        count => format!("{} and {} more", report.address, count - 1),
    };
    let guest = report
        .guest
        .as_ref()
        .map_or("-", |guest| printed(&guest.answer));
    let row = |(width, verdict): (kernel_glue::atomics::Width, &Judgement)| {
        let wants = report.need.widths.contains(width) && report.need.otherwise.is_none();
        let driver = match report.need.need {
            Need::Require if wants => "requires",
            Need::Prefer if wants => "prefers",
            _ => "-",
        };
        let cells = [
            device.clone(),
            width.to_string(),
            printed(report.host.of(width)).to_owned(),
            guest.to_owned(),
            driver.to_owned(),
            printed(&verdict.answer).to_owned(),
            rules(verdict),
        ];
        cells.to_vec()
    };
    report.verdict.judgements().map(row).collect()
}

/// The deciding rule with its reason, and the codes of all other failing rules.
fn rules(verdict: &Judgement) -> String {
    let Some(first) = verdict.answer.finding() else {
        return "-".to_owned();
    };
    let others = verdict.findings().filter(|finding| *finding != first);
    let others: Vec<&str> = others.map(|finding| finding.code.as_str()).collect();
    let also = match others.is_empty() {
        true => String::new(),
        false => format!("; also {}", others.join(", ")),
    };
    format!("{} {}{also}", first.code, first.reason)
}

fn printed(answer: &Answer) -> &'static str {
    match answer.ok() {
        Some(true) => "yes",
        Some(false) => "no",
        None => "open",
    }
}

fn details(report: &Report) -> String {
    let facts: String = report
        .facts
        .iter()
        .map(|fact| {
            let at = fact.at.map(|at| format!("'{at}': ")).unwrap_or_default();
            format!("  note: {at}{} ({})\n", fact.text, fact.code)
        })
        .collect();
    format!(
        "\n{}{}{}{}{}{facts}",
        driver(report),
        tree(report),
        host(report),
        guest(report),
        asked(report)
    )
}

fn driver(report: &Report) -> String {
    let address = report.address;
    let recipe = match &report.need.recipe {
        Some(recipe) => format!(" by recipe {recipe}"),
        None => "; no recipe names its driver's needs".to_owned(),
    };
    let printed = match report.driver.finding() {
        Some(finding) => format!(": {} ({})", finding.reason, finding.code),
        None if report.need.need != Need::Ignore => ": its driver gets its AtomicOps".to_owned(),
        None => String::new(),
    };
    format!("{address}{recipe}{printed}\n")
}

/// The path on the host, from the root port down, with the failing rules at each function.
fn tree(report: &Report) -> String {
    let mut out = String::new();
    let mut indent = String::from("  ");
    for element in &report.path {
        let what = what(element);
        let failing = failing(report, element.address);
        out.push_str(&format!("{indent}{} {what}{failing}\n", element.address));
        // The path has no branches, so each further element only moves the mark to the right.
        match indent.trim().is_empty() && indent.len() == 2 {
            true => indent.push_str("`- "),
            false => indent.insert_str(2, "   "),
        }
    }
    let kind = report.kind.map_or("device", word::port);
    let completer = report
        .completer
        .map_or("not visible".to_owned(), |c| c.to_string());
    let failing = failing(report, report.judged);
    out.push_str(&format!(
        "{indent}{} {kind}, atomics {completer}{failing}\n",
        report.judged
    ));
    if report.judged != report.address {
        let text = "its virtual function; the physical function is checked";
        out.push_str(&format!("{indent}{} {text}\n", report.address));
    }
    out
}

fn what(element: &Element) -> String {
    let kind = element.kind.map_or("bridge", word::port);
    let bits = match (&element.hidden, element.completer) {
        (Some(why), _) => format!("not visible: {why}"),
        (None, None) => "none".to_owned(),
        (None, Some(completer)) => in_words(
            completer,
            element.routing.unwrap_or_default(),
            element.egress_blocked.unwrap_or_default(),
        ),
    };
    format!("{kind}, atomics {bits}")
}

/// The widths that end at a function, and the rules.
fn failing(report: &Report, at: PciAddress) -> String {
    let rules = failing_where(report, |finding| finding.at == Some(at));
    let rules: Vec<String> = rules
        .iter()
        .map(|(finding, widths)| format!("{widths} by {}", finding.code))
        .collect();
    match rules.is_empty() {
        true => String::new(),
        false => format!("   <-- {}", rules.join("; ")),
    }
}

/// The failing rules of the host that belong to no function: the kernel's, and VFIO's own answer.
fn host(report: &Report) -> String {
    let rules = failing_where(report, |finding| finding.at.is_none());
    rules
        .iter()
        .map(|(finding, widths)| {
            format!(
                "  host: {}   <-- {widths} by {}\n",
                finding.reason, finding.code
            )
        })
        .collect()
}

/// The failing rules of the host, each once with the widths that it ends.
fn failing_where(report: &Report, wanted: impl Fn(&Finding) -> bool) -> Vec<(&Finding, String)> {
    let mut rules: Vec<(&Finding, String)> = Vec::new();
    for (width, judgement) in report.host.judgements() {
        for answer in &judgement.failing {
            let Some(finding) = answer.finding().filter(|finding| wanted(finding)) else {
                continue;
            };
            match rules
                .iter_mut()
                .find(|(known, _)| known.code == finding.code)
            {
                Some((_, widths)) => widths.push_str(&format!(", {width}")),
                None => rules.push((finding, format!("{} {width}", printed(answer)))),
            }
        }
    }
    rules
}

fn guest(report: &Report) -> String {
    let Some(place) = &report.place else {
        return String::new();
    };
    let (slot, function) = place.slot;
    let slot = match place.bus {
        Bus::NoFreePort | Bus::Unknown(_) | Bus::Conventional(_) => String::new(),
        _ => format!(", slot {slot}, function {function}"),
    };
    let how = place.predicted.as_ref();
    let how = how.map(|how| format!(" ({how})")).unwrap_or_default();
    let findings = report.guest.iter().flat_map(Judgement::findings);
    let codes: Vec<&str> = findings.map(|finding| finding.code.as_str()).collect();
    let failing = match codes.is_empty() {
        true => String::new(),
        false => format!("   <-- {}", codes.join(", ")),
    };
    format!("{GUEST}{}{slot}{how}{failing}\n", place.bus)
}

fn asked(report: &Report) -> String {
    let Some(asked) = report.asked else {
        return String::new();
    };
    let differs = match asked == report.computed {
        true => String::new(),
        false => format!("; config space gives {}", report.computed),
    };
    format!("  VFIO's answer: {asked}{differs}\n")
}
