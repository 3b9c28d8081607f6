//! A report on AtomicOps as JSON. The fields of an object are in the order of their names, as in the JSON of the other verbs.

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use planner::atomics::word;
use planner::atomics::{Answer, Element, Fact, Finding, Judgement, PerWidth, Place, Report};
use planner::recipe;

/// One device.
#[derive(Serialize)]
pub(super) struct DeviceForm<'a> {
    address: PciAddress,
    completer: Option<Bits>,
    driver: DriverForm<'a>,
    facts: Vec<FactForm<'a>>,
    guest: Option<Repeated<'a>>,
    host: ByWidth<'a>,
    judged_by: PciAddress,
    path: Vec<ElementForm<'a>>,
    place: Option<PlaceForm<'a>>,
    requester_enabled: Option<bool>,
    root_port: Option<PciAddress>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
    verdict: VerdictForm<'a>,
    vfio: Option<Bits>,
}

impl<'a> DeviceForm<'a> {
    pub(super) fn of(report: &'a Report) -> Self {
        let widths = &report.host;
        Self {
            address: report.address,
            completer: report.completer.map(Bits),
            driver: DriverForm::of(report),
            facts: report.facts.iter().map(FactForm::of).collect(),
            guest: report
                .guest
                .as_ref()
                .map(|answer| Repeated { answer, widths }),
            host: ByWidth(&report.host),
            judged_by: report.judged,
            path: report.path.iter().map(ElementForm::of).collect(),
            place: report.place.as_ref().map(PlaceForm::of),
            requester_enabled: report.requester_enabled,
            root_port: report.root_port,
            kind: report.kind.map(word::port),
            verdict: VerdictForm(report),
            vfio: report.asked.map(Bits),
        }
    }
}

/// The widths as numbers of bits.
struct Bits(Widths);

impl Serialize for Bits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Width::bits))
    }
}

#[derive(Serialize)]
struct ElementForm<'a> {
    address: PciAddress,
    completer: Option<Bits>,
    egress_blocked: Option<bool>,
    hidden: Option<&'a str>,
    routing: Option<bool>,
    #[serde(rename = "type")]
    kind: Option<&'static str>,
}

impl<'a> ElementForm<'a> {
    fn of(element: &'a Element) -> Self {
        Self {
            address: element.address,
            completer: element.completer.map(Bits),
            egress_blocked: element.egress_blocked,
            hidden: element.hidden.as_deref(),
            routing: element.routing,
            kind: element.kind.map(word::port),
        }
    }
}

/// An answer for each width.
struct ByWidth<'a>(&'a PerWidth);

impl ByWidth<'_> {
    fn entries<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
        by_name(self.0.judgements())
            .into_iter()
            .try_for_each(|(name, one)| map.serialize_entry(&name, &JudgementForm::of(one)))
    }
}

impl Serialize for ByWidth<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        self.entries(&mut map)?;
        map.end()
    }
}

/// In the order of their names: 128, 32, 64.
fn by_name<T>(widths: impl Iterator<Item = (Width, T)>) -> Vec<(String, T)> {
    let mut named: Vec<(String, T)> = widths
        .map(|(width, one)| (width.to_string(), one))
        .collect();
    named.sort_by(|(one, _), (other, _)| one.cmp(other));
    named
}

/// The place in the guest has the same effect on all widths.
struct Repeated<'a> {
    answer: &'a Judgement,
    widths: &'a PerWidth,
}

impl Serialize for Repeated<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let names = by_name(self.widths.iter()).into_iter();
        serializer.collect_map(names.map(|(name, _)| (name, JudgementForm::of(self.answer))))
    }
}

/// The answer with its first rule, and all failing rules.
#[derive(Serialize)]
struct JudgementForm<'a> {
    at: Option<PciAddress>,
    code: Option<&'static str>,
    failing: Vec<AnswerForm<'a>>,
    ok: Option<bool>,
    reason: Option<&'a str>,
}

impl<'a> JudgementForm<'a> {
    fn of(one: &'a Judgement) -> Self {
        let AnswerForm {
            at,
            code,
            ok,
            reason,
        } = AnswerForm::of(&one.answer);
        Self {
            at,
            code,
            failing: one.failing.iter().map(AnswerForm::of).collect(),
            ok,
            reason,
        }
    }
}

#[derive(Serialize)]
struct AnswerForm<'a> {
    at: Option<PciAddress>,
    code: Option<&'static str>,
    ok: Option<bool>,
    reason: Option<&'a str>,
}

impl<'a> AnswerForm<'a> {
    fn of(answer: &'a Answer) -> Self {
        let finding = answer.finding();
        Self {
            at: finding.and_then(|Finding { at, .. }| *at),
            code: finding.map(|finding| finding.code.as_str()),
            ok: answer.ok(),
            reason: finding.map(|finding| &*finding.reason),
        }
    }
}

/// The answers for each width, and for the driver.
struct VerdictForm<'a>(&'a Report);

impl Serialize for VerdictForm<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        ByWidth(&self.0.verdict).entries(&mut map)?;
        map.serialize_entry("driver", &AnswerForm::of(&self.0.driver))?;
        map.end()
    }
}

#[derive(Serialize)]
struct DriverForm<'a> {
    any: bool,
    need: &'static str,
    otherwise: Option<&'a str>,
    recipe: Option<&'a str>,
    widths: Bits,
}

impl<'a> DriverForm<'a> {
    fn of(report: &'a Report) -> Self {
        let need = &report.need;
        Self {
            any: need.any,
            need: need_word(need.need),
            otherwise: need.otherwise.as_deref(),
            recipe: need.recipe.as_deref(),
            widths: Bits(need.widths),
        }
    }
}

/// The recipe's keyword.
fn need_word(need: recipe::Need) -> &'static str {
    match need {
        recipe::Need::Require => "require",
        recipe::Need::Prefer => "prefer",
        recipe::Need::Ignore => "ignore",
    }
}

#[derive(Serialize)]
struct PlaceForm<'a> {
    bus: String,
    function: u8,
    predicted: Option<&'a str>,
    slot: u8,
}

impl<'a> PlaceForm<'a> {
    fn of(place: &'a Place) -> Self {
        let (slot, function) = place.slot;
        Self {
            bus: place.bus.to_string(),
            function,
            predicted: place.predicted.as_deref(),
            slot,
        }
    }
}

#[derive(Serialize)]
struct FactForm<'a> {
    at: Option<PciAddress>,
    code: &'static str,
    text: &'a str,
}

impl<'a> FactForm<'a> {
    fn of(fact: &'a Fact) -> Self {
        Self {
            at: fact.at,
            code: fact.code.as_str(),
            text: &fact.text,
        }
    }
}
