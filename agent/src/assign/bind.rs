//! Binds and gives back several devices at once; each may wait 30 s for its link and memory.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Kernel;
use kernel_glue::rebind::{self, Before, Outcome, Rebind, RebindError};
use nix::errno::Errno;
use tracing::{info, warn};

use crate::journal::Held;

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

/// Binds each device to its driver. On a failure those that were bound are put back.
///
/// # Errors
/// The first failure, and the devices that are not as they were before.
pub(super) fn bind(kernel: &SharedKernel, devices: &[Held]) -> Result<(), Box<Setback>> {
    let results = at_once(devices, |held| bind_one(kernel, held));
    let bound = devices.iter().zip(&results);
    let bound: Vec<Held> = bound
        .filter(|(_, result)| result.is_ok())
        .map(|(held, _)| held.clone())
        .collect();
    let Some(error) = results.into_iter().find_map(Result::err) else {
        return Ok(());
    };
    give_back(kernel, &bound);
    let stuck = devices.iter().filter(|held| differs(kernel, held));
    let stuck = stuck.cloned().collect();
    Err(Box::new(Setback { error, stuck }))
}

/// Gives each device back as it was before.
///
/// Returns the devices that were not, with the reason.
pub(super) fn give_back(kernel: &SharedKernel, devices: &[Held]) -> Vec<(Held, RebindError)> {
    let results = at_once(devices, |held| give_back_one(kernel, held));
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
    report(held.address, outcome, "bound to", Some(&held.driver));
    Ok(outcome)
}

/// A device without a known state before stays where it is.
fn give_back_one(kernel: &SharedKernel, held: &Held) -> Result<Outcome, RebindError> {
    let Some(before) = &held.before else {
        return Ok(Outcome::AlreadySo);
    };
    let outcome = match rebind::restore(kernel, held.address, before) {
        Err(RebindError::Unreadable {
            errno: Errno::ENODEV,
            ..
        }) => {
            warn!(
                "'{}' is gone from this host: nothing to give back",
                held.address
            );
            Outcome::AlreadySo
        }
        result => result?,
    };
    let driver = before.driver.as_ref();
    report(held.address, outcome, "given back to", driver);
    Ok(outcome)
}

/// True when the device is there and not as it was before.
fn differs(kernel: &SharedKernel, held: &Held) -> bool {
    match Before::read(kernel, held.address) {
        Ok(now) => held.before.as_ref() != Some(&now),
        Err(error) => error.errno() != Errno::ENODEV,
    }
}

fn report(device: PciAddress, outcome: Outcome, what: &str, driver: Option<&DriverName>) {
    if outcome == Outcome::Done {
        let driver = driver.map_or("no driver".into(), |driver| format!("'{driver}'"));
        info!("'{device}' {what} {driver}");
    }
}

fn at_once<T: Send>(devices: &[Held], work: impl Fn(&Held) -> T + Sync) -> Vec<T> {
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
