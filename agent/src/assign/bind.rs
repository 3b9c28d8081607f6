//! Binds and gives back several devices at once; each may wait 30 s for its link and memory.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Kernel;
use kernel_glue::rebind::{self, Before, Outcome, Rebind, RebindError};
use nix::errno::Errno;
use tracing::{info, warn};

use super::release;
use crate::config::Release;
use crate::journal::Held;
use crate::journald;

const BOUND_TO: &str = "bound to";

/// A kernel that several threads share.
pub type SharedKernel = dyn Kernel + Send + Sync;

/// The driver's real name on this host, loading its module if need be; `name` itself when there is
/// none, which binding will say.
pub(super) fn resolve(kernel: &SharedKernel, name: &DriverName) -> DriverName {
    let registered = || kernel.registered(name.as_str());
    let loaded = || {
        kernel.load_module(name.as_str()).ok()?;
        registered()
    };
    registered().or_else(loaded).unwrap_or_else(|| name.clone())
}

/// Not all devices could be bound.
pub(super) struct Setback {
    /// The first failure.
    pub(super) error: RebindError,
    /// The devices that are not as they were before.
    pub(super) stuck: Vec<Held>,
}

/// Binds each device to its driver. On a failure all are put back as they were before.
///
/// # Errors
/// The first failure, and the devices that are not as they were before.
pub(super) fn bind(kernel: &SharedKernel, devices: &[Held]) -> Result<(), Box<Setback>> {
    let results = at_once(devices, |held| bind_one(kernel, held));
    let failed = results.iter().filter_map(|result| result.as_ref().err());
    let hung = |held: &Held| {
        let mut about = failed.clone().filter(|error| error.is_about(held.address));
        about.any(RebindError::is_hung)
    };
    let stuck = match failed.clone().next() {
        Some(_) => put_back(kernel, devices, hung),
        None => return Ok(()),
    };
    let Some(error) = results.into_iter().find_map(Result::err) else {
        return Ok(());
    };
    let error = match stuck.iter().any(|held| error.is_about(held.address)) {
        true => error,
        false => error.put_back(),
    };
    Err(Box::new(Setback { error, stuck }))
}

/// Puts each device back as it was before its bind, wherever it is; returns those that are not.
///
/// What was found half-way by a bind, after a crash, was not as before either: so what is asked
/// for is never the state that the bind began with, but the journalled one. A device with a write
/// that `hung` is not as before until that write has ended, whatever it looks like.
pub(super) fn put_back(
    kernel: &SharedKernel,
    devices: &[Held],
    hung: impl Fn(&Held) -> bool + Sync,
) -> Vec<Held> {
    let results = at_once(devices, |held| match &held.before {
        Some(before) => settle(kernel, held.address, before, hung(held)),
        None => Ok(Outcome::AlreadySo),
    });
    let astray = devices.iter().zip(results).filter(|(held, result)| {
        result.as_ref().is_err_and(RebindError::is_hung) || differs(kernel, held)
    });
    astray.map(|(held, _)| held.clone()).collect()
}

/// Gives each device to where it belongs after a release.
///
/// Returns the devices that are not there, with the reason.
pub(super) fn give_back(
    kernel: &SharedKernel,
    devices: &[Held],
    policy: &Release,
) -> Vec<(Held, RebindError)> {
    let results = at_once(devices, |held| give_back_one(kernel, held, policy));
    let failed = devices.iter().zip(results);
    failed
        .filter_map(|(held, result)| Some((held.clone(), result.err()?)))
        .collect()
}

fn bind_one(kernel: &SharedKernel, held: &Held) -> Result<Outcome, RebindError> {
    let rebind = Rebind {
        device: held.address,
        to: held.driver.clone(),
    };
    let now = Before::read(kernel, held.address)?;
    let outcome = rebind.apply(kernel, &now)?;
    report(held.address, outcome, BOUND_TO, Some(&held.driver));
    Ok(outcome)
}

fn give_back_one(
    kernel: &SharedKernel,
    held: &Held,
    policy: &Release,
) -> Result<Outcome, RebindError> {
    match release::goal(kernel, held, policy) {
        // A write of an agent that has died, or that hung, may still be under way.
        Some(goal) => settle(kernel, held.address, &goal, held.is_unsettled()),
        None => Ok(Outcome::AlreadySo),
    }
}

/// Brings a device to a state, if need be `certain` that it stays there; one that is gone from the
/// host needs nothing.
fn settle(
    kernel: &SharedKernel,
    device: PciAddress,
    goal: &Before,
    certain: bool,
) -> Result<Outcome, RebindError> {
    let settled = match certain {
        true => rebind::settle(kernel, device, goal),
        false => rebind::restore(kernel, device, goal),
    };
    let outcome = match settled {
        Err(RebindError::Unreadable {
            errno: Errno::ENODEV,
            ..
        }) => {
            warn!("'{device}' is gone from this host: nothing to give back");
            Outcome::AlreadySo
        }
        result => result?,
    };
    report(device, outcome, "given back to", goal.driver.as_ref());
    Ok(outcome)
}

/// True when the device is there and not as it was before; one that was found running is.
fn differs(kernel: &SharedKernel, held: &Held) -> bool {
    match Before::read(kernel, held.address) {
        Ok(now) => held.before.as_ref().is_some_and(|before| *before != now),
        Err(error) => error.errno() != Errno::ENODEV,
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

pub(super) fn at_once<T: Send>(devices: &[Held], work: impl Fn(&Held) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = devices
            .iter()
            .map(|held| scope.spawn(move || work(held)))
            .collect();
        let join = |thread: thread::ScopedJoinHandle<'_, T>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect()
    })
}
