//! Binds and releases several devices in parallel; each may wait 30 s for its link and memory.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Kernel;
use kernel_glue::rebind::{Before, Outcome, Rebind, RebindError};
use nix::errno::Errno;
use tracing::info;

use super::release;
use super::returning::{OnRefusal, Return, bring_back, give_back};
use crate::assignment::{Event, OwnerKind, Restore, next};
use crate::journald;
use crate::metrics::Metrics;
use crate::record::Held;
use domain::refusal::Refusal;
use settings::config::Release;

const BOUND_TO: &str = "bound to";

/// A kernel that several threads share.
pub type SharedKernel = dyn Kernel + Send + Sync;

/// The driver's real name on this host; loads its module if necessary. Returns `name` itself if there is no such
/// driver; the bind reports that.
///
/// # Errors
/// The lookup failed, or the module was not loaded in time.
pub(super) fn resolve(
    kernel: &SharedKernel,
    device: PciAddress,
    name: &DriverName,
) -> Result<DriverName, RebindError> {
    let registered = || {
        let found = kernel.registered(name.as_str());
        found.map_err(|errno| RebindError::Unreadable { device, errno })
    };
    if let Some(driver) = registered()? {
        return Ok(driver);
    }
    // After a timeout the load may still be in progress, so the bind is not tried. The bind itself reports any other error.
    match kernel.load_module(name.as_str()) {
        Err(errno @ Errno::ETIMEDOUT) => Err(RebindError::NoDriver {
            device,
            driver: name.clone(),
            errno,
        }),
        Err(_) => Ok(name.clone()),
        Ok(()) => Ok(registered()?.unwrap_or_else(|| name.clone())),
    }
}

/// Not all devices were bound.
pub(super) struct FailedBind {
    /// The first failure.
    pub(super) error: RebindError,
    /// The devices that are not in their previous state; they stay in the entry.
    pub(super) left: Vec<Held>,
}

/// Binds each device to its driver. After a failure it restores the previous state of all.
///
/// # Errors
/// The first failure, and the devices that could not be restored.
pub(super) fn bind(
    kernel: &SharedKernel,
    metrics: &Metrics,
    devices: &[Held],
) -> Result<(), Box<FailedBind>> {
    // All devices are tried although one has failed: a thread in a kernel write cannot be cancelled, so the others end anyway.
    let results = at_once(devices, |held| {
        metrics.bind(OwnerKind::Guest, || bind_one(kernel, held))
    });
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    let event = |held: &Held| match failed.clone().find(|error| error.is_about(held.address)) {
        Some(error) => Event::NotBound {
            lasting: error.is_hung(),
        },
        None => Event::Cancelled,
    };
    let left = match failed.clone().next() {
        Some(_) => restore_drivers(kernel, devices, event),
        None => return Ok(()),
    };
    let Some(error) = results.into_iter().find_map(Result::err) else {
        return Ok(());
    };
    // The text of a rebind error says whether the device was restored, and this restore came after that text was made.
    let error = match left.iter().any(|held| error.is_about(held.address)) {
        true => error,
        false => error.restore_drivers(),
    };
    Err(Box::new(FailedBind { error, left }))
}

/// Restores the state that each device had before its bind, from any state, after an event that requires it; returns
/// what is left in the entry.
///
/// A bind that starts after a crash may find a device in an interrupted state. So it restores the journalled state, not
/// the one that the bind found. A device with a hung write does not count as restored until that write has ended,
/// whatever its driver link shows.
pub(super) fn restore_drivers(
    kernel: &SharedKernel,
    devices: &[Held],
    event: impl Fn(&Held) -> Event + Sync,
) -> Vec<Held> {
    let left = at_once(devices, |held| {
        // Two steps of the state machine: the event that requires the restore, then the restore's own result.
        let step = next(Some(&held.record), &event(held));
        let result = restore_driver(kernel, held, step.restore());
        let left = next(step.record.as_ref(), &result).record;
        let address = held.address;
        left.map(|record| Held { address, record })
    });
    left.into_iter().flatten().collect()
}

fn restore_driver(kernel: &SharedKernel, held: &Held, restore: Option<Restore>) -> Event {
    let (Some(restore), Some(before)) = (restore, &held.record.before) else {
        return Event::Restored;
    };
    let way = Return {
        certain: restore.certain,
        on_refusal: OnRefusal::Kept,
    };
    // The driver link of a device with a hung write may change at any time, so it proves nothing.
    let is_astray = match bring_back(kernel, held.address, before, way) {
        // A hung write counts as failed even if the link looks right at this moment.
        Err(error) if error.is_hung() => true,
        Ok(returned) => differs(kernel, held.address, &returned.to),
        Err(_) => differs(kernel, held.address, before),
    };
    match is_astray {
        true => Event::NotRestored { lasting: true },
        false => Event::Restored,
    }
}

/// A device whose release has begun.
pub(super) struct Begun {
    pub(super) device: PciAddress,
    /// Its line in the entry from now on.
    pub(super) held: Option<Held>,
    restore: Option<Restore>,
}

impl Begun {
    /// Begins a release by an event.
    pub(super) fn by(event: &Event, held: &Held) -> Self {
        let device = held.address;
        let step = next(Some(&held.record), event);
        let restore = step.restore();
        let address = device;
        let held = step.record.map(|record| Held { address, record });
        Self {
            device,
            held,
            restore,
        }
    }

    /// Its line in the entry when the release has ended.
    pub(super) fn left(&self, result: Result<(), &RebindError>) -> Option<Held> {
        let event = match result {
            Ok(()) => Event::Restored,
            Err(error) => Event::NotRestored {
                lasting: error.is_degraded() || error.is_hung(),
            },
        };
        self.held.as_ref()?.after(&event)
    }
}

/// The result of a release: a note about the device, or the reason of the failure.
pub(super) type ReleaseResult = Result<Option<Refusal>, RebindError>;

/// The terms of a release.
#[derive(Clone, Copy)]
pub(super) struct Terms<'a> {
    pub(super) policy: &'a Release,
    pub(super) on_refusal: OnRefusal,
    pub(super) metrics: &'a Metrics,
}

/// Releases each device to the state that the policy requires.
///
/// Returns for each the reason of the failure, or a note about its state.
pub(super) fn release_devices(
    kernel: &SharedKernel,
    devices: &[Begun],
    terms: Terms<'_>,
) -> Vec<ReleaseResult> {
    at_once(devices, |begun| match (&begun.held, begun.restore) {
        (Some(held), Some(restore)) => release_one(kernel, held, restore, terms),
        _ => Ok(None),
    })
}

fn bind_one(kernel: &SharedKernel, held: &Held) -> Result<Outcome, RebindError> {
    let rebind = Rebind {
        device: held.address,
        to: held.record.target.clone(),
    };
    let now = Before::read(kernel, held.address)?;
    let outcome = rebind.apply(kernel, &now)?;
    report(held.address, outcome, BOUND_TO, Some(&held.record.target));
    Ok(outcome)
}

fn release_one(
    kernel: &SharedKernel,
    held: &Held,
    restore: Restore,
    terms: Terms<'_>,
) -> ReleaseResult {
    let goal = match release::goal(kernel, held, restore.by_policy, terms.policy) {
        // Unplugged: the restore reports it as gone, and the record ends.
        Err(error) if error.is_gone() => held.record.before.clone(),
        goal => goal?,
    };
    let Some(goal) = goal else { return Ok(None) };
    let way = Return {
        certain: restore.certain,
        on_refusal: terms.on_refusal,
    };
    let owner = OwnerKind::Guest;
    let returned = give_back(kernel, terms.metrics, owner, held.address, &goal, way)?;
    report(
        held.address,
        returned.outcome,
        "released to",
        returned.to.driver.as_ref(),
    );
    Ok(returned.note)
}

/// True if the device exists and is not in the wanted state.
fn differs(kernel: &SharedKernel, device: PciAddress, wanted: &Before) -> bool {
    match Before::read(kernel, device) {
        Ok(now) => now != *wanted,
        Err(error) => !error.is_gone(),
    }
}

fn report(device: PciAddress, outcome: Outcome, what: &str, driver: Option<&DriverName>) {
    if outcome == Outcome::Done {
        let driver = driver.map_or("no driver".into(), |driver| format!("'{driver}'"));
        let message_id = match what {
            BOUND_TO => journald::BOUND,
            _ => journald::GIVEN_BACK,
        };
        info!(variantd_device = %device, message_id, "'{device}' {what} {driver}");
    }
}

/// Does the work for all devices at the same time: for the last one in this thread, for each other one in its own; sequentially in
/// this thread if no thread can be created.
pub(super) fn at_once<D: Sync, T: Send>(devices: &[D], work: impl Fn(&D) -> T + Sync) -> Vec<T> {
    let Some((last, others)) = devices.split_last() else {
        return Vec::new();
    };
    thread::scope(|scope| {
        let work = &work;
        let begin = |held| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || work(held));
            (held, thread)
        };
        let threads: Vec<_> = others.iter().map(begin).collect();
        let own = work(last);
        let end =
            |(held, thread): (_, std::io::Result<thread::ScopedJoinHandle<'_, T>>)| match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                // No thread is left (RLIMIT_NPROC, memory): slower, but nothing is skipped.
                Err(_) => work(held),
            };
        threads.into_iter().map(end).chain([own]).collect()
    })
}
