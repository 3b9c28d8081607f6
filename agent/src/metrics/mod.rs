//! What the agent counts, as Prometheus' text format 0.0.4: for the file in the run directory and for `Metrics` on the bus.
//!
//! Labels are keywords, codes, versions and names of drivers. Names that a guest or a caller chooses are not labels, so that the
//! number of series is limited. Format: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use api::refused::Kind;
use api::report::Report;
use domain::code::Code;
use hooks::call::Operation;
use kernel_glue::rebind::Outcome;
use planner::target::Versions;
use prometheus::{IntGauge, IntGaugeVec, TextEncoder};

use crate::assignment::OwnerKind;
use family::{Changes, Counted, Families};

pub use family::Described;
pub use file::{FILE, MetricsFile};

mod family;
mod file;

/// Names of drivers that are labels; the devices of further ones are counted together. A host has a handful.
const DRIVERS: usize = 32;
/// The label of those.
const OTHER: &str = "other";

/// The input through which a refusal or failure reached its receiver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// libvirt's hook.
    Hook,
    /// A call on the bus.
    Bus,
    /// libvirt's event about a definition, or the repair of one.
    Event,
}

/// What a client asks the agent about before libvirt has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Xml {
    /// The XML of a domain.
    Domain,
    /// The XML of a device to attach.
    Device,
}

/// The labels of a device.
#[derive(Clone, Copy, Debug)]
pub struct Labels<'a> {
    /// Its state, as on D-Bus.
    pub state: &'static str,
    /// Its driver; empty for none.
    pub driver: &'a str,
    /// `guest`, `manual`, `reservation`; without an owner `host` for a device with a driver, else `none`.
    pub owner: &'static str,
    /// A change of it was interrupted.
    pub degraded: bool,
}

/// The metrics of one agent.
#[derive(Debug)]
pub struct Metrics {
    families: Families,
    binds: Changes,
    releases: Changes,
    counted: Counted,
    connected: IntGauge,
    devices: IntGaugeVec,
    degraded: IntGaugeVec,
    stack: IntGaugeVec,
    written: IntGauge,
    /// Held while series that belong together are replaced or read.
    turn: Mutex<()>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut families = Families::default();
        let help = "The version of the running agent; the value is 1.";
        let version = families.gauges("variantd_build_info", help, &["version"]);
        version
            .with_label_values(&[env!("CARGO_PKG_VERSION")])
            .set(1);
        let help = "When the agent started, in seconds since 1970.";
        families
            .gauge("variantd_start_time_seconds", help)
            .set(now());
        let labels = ["state", "driver", "owner"];
        Self {
            binds: Changes::new(&mut families, "bind", "Binds of a device to a driver for its owner"),
            releases: Changes::new(&mut families, "release", "Releases of a device by its owner"),
            counted: Counted::new(&mut families),
            connected: families.gauge(
                "variantd_libvirt_connected",
                "1 while the agent is connected to libvirt, else 0.",
            ),
            devices: families.gauges(
                "variantd_devices",
                "Devices that a recipe covers, or that are bound or reserved; absent while the host cannot be read.",
                &labels,
            ),
            degraded: families.gauges(
                "variantd_degraded_devices",
                "Devices whose change was interrupted and not undone; absent while the host cannot be read.",
                &[],
            ),
            stack: families.gauges(
                "variantd_stack_info",
                "The versions that libvirt reported; the value is 1.",
                &["libvirt", "qemu"],
            ),
            written: families.gauge(
                "variantd_metrics_timestamp_seconds",
                "When the agent wrote these metrics, in seconds since 1970.",
            ),
            turn: Mutex::default(),
            families,
        }
    }
}

impl Metrics {
    /// All families, also those without a series yet.
    #[must_use]
    pub fn families(&self) -> &[Described] {
        &self.families.described
    }

    /// Counts a bind of a device by its result, and how long it took.
    pub(crate) fn bind<E>(
        &self,
        owner: OwnerKind,
        work: impl FnOnce() -> Result<Outcome, E>,
    ) -> Result<Outcome, E> {
        self.binds.count(owner, |outcome| *outcome, work)
    }

    /// Counts a release of a device by its result, and how long it took.
    pub(crate) fn release<T, E>(
        &self,
        owner: OwnerKind,
        outcome: impl FnOnce(&T) -> Outcome,
        work: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, E> {
        self.releases.count(owner, outcome, work)
    }

    /// Counts a refusal or a failure by its code.
    pub(crate) fn refused(&self, source: Source, kind: Kind, code: Code) {
        self.counted.refused(source, kind, code);
    }

    /// Counts a call of the hook: how long libvirt waited for the answer, and the answer.
    pub(crate) fn hook(
        &self,
        operation: Operation,
        error: Option<(Kind, Option<Code>)>,
        took: Duration,
    ) {
        let kind = error.map(|(kind, _)| kind);
        self.counted.hook(operation, kind, took);
        if let Some((kind, Some(code))) = error {
            self.refused(Source::Hook, kind, code);
        }
    }

    /// Counts an answer about XML that libvirt does not have yet: whether it was changed, or the kind of error.
    pub(crate) fn admission(&self, subject: Xml, changed: Result<bool, Option<Kind>>) {
        self.counted.admission(subject, changed);
    }

    /// Counts a preparation of a definition by the keyword of its trigger.
    pub(crate) fn preparation(&self, trigger: &'static str, report: &Report) {
        self.counted.preparation(trigger, report);
    }

    /// Sets whether libvirt is connected.
    pub(crate) fn connected(&self, is_connected: bool) {
        self.connected.set(is_connected.into());
    }

    /// Removes the devices, because the host cannot be read.
    pub(crate) fn no_devices(&self) {
        let _turn = self.turn();
        self.devices.reset();
        self.degraded.reset();
    }

    /// Sets the devices.
    pub(crate) fn devices<'a>(&self, devices: impl Iterator<Item = Labels<'a>>) {
        let _turn = self.turn();
        self.devices.reset();
        let (mut counts, mut drivers) = (BTreeMap::<_, i64>::new(), BTreeSet::new());
        let mut degraded = 0;
        for device in devices {
            let is_known = drivers.len() < DRIVERS || drivers.contains(device.driver);
            let driver = if is_known { device.driver } else { OTHER };
            drivers.insert(driver);
            let labels = [device.state, driver, device.owner];
            *counts.entry(labels).or_default() += 1;
            degraded += i64::from(device.degraded);
        }
        let none: [&str; 0] = [];
        self.degraded.with_label_values(&none).set(degraded);
        for (labels, count) in counts {
            self.devices.with_label_values(&labels).set(count);
        }
    }

    /// All metrics at this time; `versions` is what libvirt reported last.
    pub(crate) fn text(&self, versions: Option<Versions>) -> String {
        let _turn = self.turn();
        self.stack.reset();
        if let Some(versions) = versions {
            let labels = [versions.libvirt.to_string(), versions.qemu.to_string()];
            self.stack.with_label_values(&labels).set(1);
        }
        self.written.set(now());
        let families = self.families.registry.gather();
        // It fails only for a family without a name or a series, which a registry does not return.
        let text = TextEncoder::new().encode_to_string(&families);
        text.unwrap_or_default()
    }

    fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Seconds since 1970.
fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs().try_into().unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests;
