//! A report on AtomicOps as JSON.

use kernel_glue::atomics::Widths;
use serde_json::{Map, Value, json};

use planner::atomics::word;
use planner::atomics::{Answer, Element, Fact, Finding, Judgement, PerWidth, Place, Report};
use planner::recipe;

/// One device.
pub(super) fn json(report: &Report) -> Value {
    json!({
        "address": report.address,
        "judged_by": report.judged,
        "type": report.kind.map(word::port),
        "completer": report.completer.map(widths),
        "requester_enabled": report.requester_enabled,
        "root_port": report.root_port,
        "path": report.path.iter().map(element).collect::<Value>(),
        "host": per_width(&report.host),
        "vfio": report.asked.map(widths),
        "place": report.place.as_ref().map(place),
        "guest": report.guest.as_ref().map(|answer| repeated(answer, &report.host)),
        "verdict": verdict(report),
        "driver": driver(report),
        "facts": report.facts.iter().map(fact).collect::<Value>(),
    })
}

fn element(element: &Element) -> Value {
    json!({
        "address": element.address,
        "type": element.kind.map(word::port),
        "routing": element.routing,
        "egress_blocked": element.egress_blocked,
        "completer": element.completer.map(widths),
        "hidden": element.hidden,
    })
}

fn widths(widths: Widths) -> Vec<u32> {
    widths.iter().map(|width| width.bits()).collect()
}

fn per_width(answers: &PerWidth) -> Value {
    let entries = answers
        .judgements()
        .map(|(width, one)| (width.to_string(), judgement(one)));
    Value::Object(entries.collect())
}

/// The place in the guest has the same effect on all widths.
fn repeated(one: &Judgement, like: &PerWidth) -> Value {
    let entries = like
        .iter()
        .map(|(width, _)| (width.to_string(), judgement(one)));
    Value::Object(entries.collect())
}

/// The answer with its first rule, and all failing rules.
fn judgement(one: &Judgement) -> Value {
    let mut value = answer(&one.answer);
    value["failing"] = one.failing.iter().map(rule).collect();
    value
}

fn rule(answer: &Answer) -> Value {
    let Finding { code, at, reason } = answer.finding().expect("a rule that fails has a finding");
    json!({"ok": answer.ok(), "code": code.as_str(), "reason": reason, "at": at})
}

fn answer(answer: &Answer) -> Value {
    let finding = answer.finding();
    json!({
        "ok": answer.ok(),
        "code": finding.map(|finding| finding.code.as_str()),
        "reason": finding.map(|finding| &finding.reason),
        "at": finding.and_then(|finding| finding.at),
    })
}

fn verdict(report: &Report) -> Value {
    let mut value = per_width(&report.verdict);
    value["driver"] = answer(&report.driver);
    value
}

fn driver(report: &Report) -> Value {
    let need = &report.need;
    json!({
        "recipe": need.recipe,
        "need": need_word(need.need),
        "widths": widths(need.widths),
        "any": need.any,
        "otherwise": need.otherwise,
    })
}

/// The recipe's keyword.
fn need_word(need: recipe::Need) -> &'static str {
    match need {
        recipe::Need::Require => "require",
        recipe::Need::Prefer => "prefer",
        recipe::Need::Ignore => "ignore",
    }
}

fn place(place: &Place) -> Value {
    let (slot, function) = place.slot;
    let mut value = Map::new();
    value.insert("bus".to_owned(), json!(place.bus.to_string()));
    value.insert("slot".to_owned(), json!(slot));
    value.insert("function".to_owned(), json!(function));
    value.insert("predicted".to_owned(), json!(place.predicted));
    Value::Object(value)
}

fn fact(fact: &Fact) -> Value {
    json!({"code": fact.code.as_str(), "at": fact.at, "text": fact.text})
}
