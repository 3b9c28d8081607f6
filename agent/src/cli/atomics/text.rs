//! Reports on AtomicOps for people: a table, and for each device its path as a tree.

use kernel_glue::address::PciAddress;
use kernel_glue::host::Gap;

use super::super::output;
use super::super::problem::Problem;
use crate::atomics::{Answer, Bus, Element, Report, in_words, word};
use crate::recipe::Need;

const HEAD: [&str; 7] = [
    "DEVICE", "WIDTH", "HOST", "GUEST", "DRIVER", "VERDICT", "RULE",
];

pub(super) fn print(reports: &[Report]) -> Result<(), Problem> {
    if reports.is_empty() {
        eprintln!("no device: name one, or see 'variantctl list --all'");
        return Ok(());
    }
    let head = HEAD.map(str::to_owned).to_vec();
    let rows = reports.iter().flat_map(rows);
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    output::text(&output::columns(&rows))?;
    let details: String = reports.iter().map(details).collect();
    output::text(&details)
}

/// Gaps of the host as a whole and on the way of these devices.
pub(super) fn concerned(gaps: &[Gap], reports: &[Report]) -> Vec<Gap> {
    let on_the_way = |gap: &Gap, report: &Report| {
        let own = [report.address, report.judged];
        let path = report.path.iter().map(|element| element.address);
        let mut all = own.into_iter().chain(path);
        all.any(|address| gap.path.ends_with(&format!("{address}/config")))
    };
    let ours = |gap: &&Gap| reports.iter().any(|report| on_the_way(gap, report));
    gaps.iter().filter(ours).cloned().collect()
}

fn rows(report: &Report) -> Vec<Vec<String>> {
    let guest = report.guest.as_ref().map_or("-", said);
    let row = |(width, verdict): (kernel_glue::atomics::Width, &Answer)| {
        let wants = report.need.widths.contains(width) && report.need.otherwise.is_none();
        let driver = match report.need.need {
            Need::Require if wants => "requires",
            Need::Prefer if wants => "prefers",
            _ => "-",
        };
        let rule = verdict.finding().map_or("-".to_owned(), |finding| {
            format!("{} {}", finding.code, finding.reason)
        });
        let cells = [
            report.address.to_string(),
            width.to_string(),
            said(report.host.of(width)).to_owned(),
            guest.to_owned(),
            driver.to_owned(),
            said(verdict).to_owned(),
            rule,
        ];
        cells.to_vec()
    };
    report.verdict.iter().map(row).collect()
}

fn said(answer: &Answer) -> &'static str {
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
        "\n{}{}{}{}{facts}",
        driver(report),
        tree(report),
        guest(report),
        asked(report)
    )
}

fn driver(report: &Report) -> String {
    let address = report.address;
    let recipe = match &report.need.recipe {
        Some(recipe) => format!(" by recipe {recipe}"),
        None => ", of which no recipe says what its driver needs".to_owned(),
    };
    let said = match report.driver.finding() {
        Some(finding) => format!(": {} ({})", finding.reason, finding.code),
        None if report.need.need != Need::Ignore => {
            ": its driver gets the AtomicOps that it wants".to_owned()
        }
        None => String::new(),
    };
    format!("{address}{recipe}{said}\n")
}

/// The path on the host, from the root port down, with the rules that fail where they do.
fn tree(report: &Report) -> String {
    let mut out = String::new();
    let mut indent = String::from("  ");
    for element in &report.path {
        let what = what(element);
        let failing = failing(report, element.address);
        out.push_str(&format!("{indent}{} {what}{failing}\n", element.address));
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
        let text = "its virtual function; the physical one is judged";
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

/// Which widths end at a function, and by which rules.
fn failing(report: &Report, at: PciAddress) -> String {
    let mut rules: Vec<(String, Vec<String>)> = Vec::new();
    for (width, answer) in report.host.iter() {
        let Some(finding) = answer.finding().filter(|finding| finding.at == Some(at)) else {
            continue;
        };
        let rule = format!("by {}", finding.code);
        match rules.iter_mut().find(|(known, _)| *known == rule) {
            Some((_, widths)) => widths.push(width.to_string()),
            None => rules.push((rule, vec![format!("{} {width}", said(answer))])),
        }
    }
    let rule = |(rule, widths): &(String, Vec<String>)| format!("{} {rule}", widths.join(", "));
    let rules: Vec<String> = rules.iter().map(rule).collect();
    match rules.is_empty() {
        true => String::new(),
        false => format!("   <-- {}", rules.join("; ")),
    }
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
    let finding = report.guest.as_ref().and_then(Answer::finding);
    let failing = finding.map(|finding| format!("   <-- {}", finding.code));
    format!(
        "  guest: {}{slot}{how}{}\n",
        place.bus,
        failing.unwrap_or_default()
    )
}

fn asked(report: &Report) -> String {
    let Some(asked) = report.asked else {
        return String::new();
    };
    let differs = match asked == report.computed {
        true => String::new(),
        false => format!("; config space gives {}", report.computed),
    };
    format!("  VFIO was asked, and says: {asked}{differs}\n")
}
