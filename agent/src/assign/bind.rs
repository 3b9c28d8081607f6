//! Binds and gives back several devices at once; each may wait 30 s for its link and memory.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Kernel;
use kernel_glue::rebind::{Before, Outcome, Rebind, RebindError};
use nix::errno::Errno;
use tracing::info;

use super::release;
use super::returning::{Return, Unwilling, bring_back};
use crate::config::Release;
use crate::journal::Held;
use crate::journald;
use crate::refusal::Refusal;

const BOUND_TO: &str = "bound to";

/// A kernel that several threads share.
pub type SharedKernel = dyn Kernel + Send + Sync;

/// The driver's real name on this host, loading its module if need be; `name` itself when there is
/// none, which binding will say.
///
/// # Errors
/// When that cannot be seen, or the module has not been loaded in time.
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
    let results = at_once(devices, |held| {
        let way = Return {
            certain: hung(held),
            unwilling: Unwilling::Kept,
        };
        let before = held.before.as_ref();
        before.map(|before| bring_back(kernel, held.address, before, way))
    });
    let astray = devices.iter().zip(results).filter(|(held, result)| {
        let Some(before) = &held.before else {
            return false;
        };
        match result {
            Some(Err(error)) if error.is_hung() => true,
            Some(Ok(returned)) => differs(kernel, held.address, &returned.to),
            _ => differs(kernel, held.address, before),
        }
    });
    astray.map(|(held, _)| held.clone()).collect()
}

/// What became of a device that a domain had.
pub(super) type GivenBack = (Held, Result<Option<Refusal>, RebindError>);

/// Gives each device to where it belongs after a release.
///
/// Returns each with the reason why it is not there, or with what is to be said of where it is.
pub(super) fn give_back(
    kernel: &SharedKernel,
    devices: &[Held],
    policy: &Release,
    unwilling: Unwilling,
) -> Vec<GivenBack> {
    let results = at_once(devices, |held| {
        give_back_one(kernel, held, policy, unwilling)
    });
    devices.iter().cloned().zip(results).collect()
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
    unwilling: Unwilling,
) -> Result<Option<Refusal>, RebindError> {
    let goal = match release::goal(kernel, held, policy) {
        Err(error) if error.is_gone() => held.before.clone(),
        goal => goal?,
    };
    let Some(goal) = goal else { return Ok(None) };
    let way = Return {
        // A write of an agent that has died, or that hung, may still be under way.
        certain: held.is_unsettled(),
        unwilling,
    };
    let returned = bring_back(kernel, held.address, &goal, way)?;
    report(
        held.address,
        returned.outcome,
        "given back to",
        returned.to.driver.as_ref(),
    );
    Ok(returned.note)
}

/// True when the device is there and not as it should be.
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

/// Does the work for each device in a thread of its own; here, one after another, where no thread can be had.
pub(super) fn at_once<T: Send>(devices: &[Held], work: impl Fn(&Held) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let work = &work;
        let begin = |held| {
            let thread = thread::Builder::new().spawn_scoped(scope, move || work(held));
            (held, thread)
        };
        let threads: Vec<_> = devices.iter().map(begin).collect();
        let end =
            |(held, thread): (_, std::io::Result<thread::ScopedJoinHandle<'_, T>>)| match thread {
                Ok(thread) => thread
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
                Err(_) => work(held),
            };
        threads.into_iter().map(end).collect()
    })
}
