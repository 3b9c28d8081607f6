//! Families of metrics: names, labels and buckets. A family is registered once, so a wrong name fails in the first test.

use std::time::{Duration, Instant};

use api::refused::Kind;
use api::report::{self, Report};
use domain::code::Code;
use hooks::call::Operation;
use kernel_glue::rebind::Outcome;
use prometheus::core::Collector;
use prometheus::{
    HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use super::{Source, Xml};
use crate::assignment::OwnerKind;

/// Seconds of a bind or release: a driver that only registers takes milliseconds, one that trains a link up to minutes.
const CHANGE: [f64; 12] = [
    0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0,
];
/// Seconds of a call of the hook: reading the host takes milliseconds, and a start contains the binds.
const CALL: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 15.0, 60.0, 120.0,
];

/// A family, as its documentation has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `gauge`, `counter` or `histogram`.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// The text of `# HELP`.
    pub help: String,
}

/// Binds or releases of devices.
#[derive(Debug)]
pub(super) struct Changes {
    total: IntCounterVec,
    seconds: HistogramVec,
}

/// What other parts of the agent count.
#[derive(Debug)]
pub(super) struct Counted {
    refusals: IntCounterVec,
    failures: IntCounterVec,
    hook: HistogramVec,
    admissions: IntCounterVec,
    preparations: IntCounterVec,
}

impl Changes {
    /// Those named `variantd_NAMEs_total` and `variantd_NAME_duration_seconds`. Each series begins at 0, so that the first
    /// change is an increase.
    pub(super) fn new(families: &mut Families, name: &str, what: &str) -> Self {
        let labels = ["owner", "result"];
        let total = families.counters(
            &format!("variantd_{name}s_total"),
            &format!("{what}, by result."),
            &labels,
        );
        for owner in OwnerKind::ALL {
            for result in [Ok(Outcome::Done), Ok(Outcome::AlreadySo), Err(())] {
                total.with_label_values(&[owner.as_str(), changed(result)]);
            }
        }
        let seconds = families.histograms(
            &format!("variantd_{name}_duration_seconds"),
            &format!("{what}: how long they took."),
            &["owner"],
            &CHANGE,
        );
        Self { total, seconds }
    }

    /// Does the work, and counts it by its result and by how long it took.
    pub(super) fn count<T, E>(
        &self,
        owner: OwnerKind,
        outcome: impl FnOnce(&T) -> Outcome,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        let (owner, begun) = (owner.as_str(), Instant::now());
        let done = work();
        let seconds = self.seconds.with_label_values(&[owner]);
        seconds.observe(begun.elapsed().as_secs_f64());
        let result = changed(done.as_ref().map(outcome).map_err(drop));
        self.total.with_label_values(&[owner, result]).inc();
        done
    }
}

impl Counted {
    /// Series on which alerts are made begin at 0, so that the first event is an increase.
    pub(super) fn new(families: &mut Families) -> Self {
        let new = Self {
            refusals: families.counters(
                "variantd_refusals_total",
                "Operations that the agent refused, by code.",
                &["code", "source"],
            ),
            failures: families.counters(
                "variantd_failures_total",
                "Operations that failed on the host, in libvirt or in the agent, by code.",
                &["code", "source"],
            ),
            hook: families.histograms(
                "variantd_hook_duration_seconds",
                "How long libvirt waited for the agent's answer to its hook.",
                &["operation", "result"],
                &CALL,
            ),
            admissions: families.counters(
                "variantd_admissions_total",
                "Answers about XML that libvirt does not have yet: from variantd-connect, variantctl and other clients.",
                &["subject", "result"],
            ),
            preparations: families.counters(
                "variantd_preparations_total",
                "Preparations of definitions in libvirt, by reason and outcome.",
                &["trigger", "outcome"],
            ),
        };
        for operation in [Operation::Prepare, Operation::Start, Operation::Release] {
            for error in [None, Some(Kind::Refused), Some(Kind::Failed)] {
                let labels = [operation.word(), answered(error)];
                new.hook.with_label_values(&labels);
            }
        }
        for trigger in ["define", "repair"] {
            for outcome in [
                report::Outcome::Completed,
                report::Outcome::Refused,
                report::Outcome::Failed,
            ] {
                let labels = [trigger, outcome.as_str()];
                new.preparations.with_label_values(&labels);
            }
        }
        for subject in [Xml::Domain, Xml::Device] {
            for changed in [Ok(false), Ok(true), Err(Some(Kind::Refused)), Err(None)] {
                new.admissions
                    .with_label_values(&[subject.as_str(), admitted(changed)]);
            }
        }
        new
    }

    pub(super) fn refused(&self, source: Source, kind: Kind, code: Code) {
        let family = match is_refusal(kind) {
            true => &self.refusals,
            false => &self.failures,
        };
        family
            .with_label_values(&[code.as_str(), source.as_str()])
            .inc();
    }

    pub(super) fn hook(&self, operation: Operation, error: Option<Kind>, took: Duration) {
        self.hook
            .with_label_values(&[operation.word(), answered(error)])
            .observe(took.as_secs_f64());
    }

    pub(super) fn admission(&self, subject: Xml, changed: Result<bool, Option<Kind>>) {
        self.admissions
            .with_label_values(&[subject.as_str(), admitted(changed)])
            .inc();
    }

    pub(super) fn preparation(&self, trigger: &'static str, report: &Report) {
        self.preparations
            .with_label_values(&[trigger, report.outcome.as_str()])
            .inc();
    }
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Hook => "hook",
            Self::Bus => "bus",
            Self::Event => "event",
        }
    }
}

impl Xml {
    fn as_str(self) -> &'static str {
        match self {
            Self::Domain => "domain",
            Self::Device => "device",
        }
    }
}

/// True if the request is the reason, false if the host, libvirt or the agent is.
fn is_refusal(kind: Kind) -> bool {
    match kind {
        Kind::Refused | Kind::NotAuthorized | Kind::NotFound => true,
        Kind::Failed | Kind::TimedOut | Kind::Cancelled => false,
    }
}

fn changed(result: Result<Outcome, ()>) -> &'static str {
    match result {
        Ok(Outcome::Done) => "done",
        Ok(Outcome::AlreadySo) => "unchanged",
        Err(()) => "failed",
    }
}

fn answered(error: Option<Kind>) -> &'static str {
    match error {
        None => "allowed",
        Some(Kind::Refused) => "refused",
        Some(_) => "failed",
    }
}

fn admitted(changed: Result<bool, Option<Kind>>) -> &'static str {
    match changed {
        Ok(false) => "unchanged",
        Ok(true) => "completed",
        Err(Some(kind)) if is_refusal(kind) => "refused",
        Err(_) => "failed",
    }
}

/// All families: registered, and described.
#[derive(Debug, Default)]
pub(super) struct Families {
    pub(super) registry: Registry,
    pub(super) described: Vec<Described>,
}

impl Families {
    /// A gauge without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str) -> IntGauge {
        self.add("gauge", IntGauge::new(name, help))
    }

    /// A gauge for each value of the labels.
    pub(super) fn gauges(&mut self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add("gauge", IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn counters(&mut self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add("counter", IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: &[f64],
    ) -> HistogramVec {
        let options = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add("histogram", HistogramVec::new(options, labels))
    }

    fn add<C: Collector + Clone + 'static>(
        &mut self,
        kind: &'static str,
        family: prometheus::Result<C>,
    ) -> C {
        let family = family.expect("names and labels are valid");
        let described = family.desc().into_iter().map(|one| Described {
            name: one.fq_name.clone(),
            kind,
            labels: one.variable_labels.clone(),
            help: one.help.clone(),
        });
        self.described.extend(described);
        let added = self.registry.register(Box::new(family.clone()));
        added.expect("each name is used once");
        family
    }
}
