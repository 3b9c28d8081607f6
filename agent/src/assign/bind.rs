//! Binds and gives back several devices at once; each may wait 30 s for its link and memory.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::Kernel;
use kernel_glue::rebind::{self, Before, Outcome, Rebind, RebindError};
use tracing::info;

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

/// Binds each device to its driver. On a failure those that were bound are put back.
///
/// # Errors
/// The first failure, and the devices that are not as they were before.
pub(super) fn bind(
    kernel: &SharedKernel,
    devices: &[Held],
) -> Result<(), (RebindError, Vec<Held>)> {
    let results = at_once(devices, |held| bind_one(kernel, held));
    let (mut bound, mut stuck, mut first) = (Vec::new(), Vec::new(), None);
    for (held, result) in devices.iter().zip(results) {
        match result {
            Ok(_) => bound.push(held.clone()),
            Err(error) => {
                if error.is_degraded() {
                    stuck.push(held.clone());
                }
                first.get_or_insert(error);
            }
        }
    }
    let Some(first) = first else {
        return Ok(());
    };
    let kept = give_back(kernel, &bound).into_iter().map(|(held, _)| held);
    stuck.extend(kept);
    Err((first, stuck))
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
    let outcome = rebind::restore(kernel, held.address, before)?;
    let driver = before.driver.as_ref();
    report(held.address, outcome, "given back to", driver);
    Ok(outcome)
}

fn report(device: PciAddress, outcome: Outcome, what: &str, driver: Option<&DriverName>) {
    if outcome == Outcome::Done {
        let driver = driver.map_or("no driver", DriverName::as_str);
        info!("'{device}' {what} '{driver}'");
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
