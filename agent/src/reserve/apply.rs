//! `variantd --reserve`: binds the reserved devices, each independently and all in parallel; `variantd --reserved`:
//! keeps a new device from every other driver until then.

use std::thread;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use tracing::{error, info};

use super::{Reservation, ReserveError};
use crate::assign::{AssignError, Assigner, BindOutcome};
use crate::journald;
use domain::code::Code;

/// Binds each reserved device; a failure does not affect the others. Returns how many are not in force.
pub fn apply(
    assigner: &Assigner,
    host: &Host,
    all: Vec<Result<Reservation, ReserveError>>,
) -> usize {
    let results = thread::scope(|scope| {
        let one = |found| scope.spawn(move || bind(assigner, host, found));
        let threads: Vec<_> = all.into_iter().map(one).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, Result<String, ReserveError>>| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<Vec<_>>()
    });
    for result in &results {
        match result {
            Ok(sentence) => info!("{sentence}"),
            Err(error) => error!(
                message_id = journald::NOT_RESERVED,
                "a reservation is not in force: {error}"
            ),
        }
    }
    results.iter().filter(|result| result.is_err()).count()
}

/// Claims a device that has just appeared, if it is reserved; returns the driver for its override.
///
/// # Errors
/// Its reservation is invalid, or another device is at its address.
pub fn claim(
    assigner: &Assigner,
    host: &Host,
    all: Vec<Result<Reservation, ReserveError>>,
    device: PciAddress,
) -> Result<Option<DriverName>, ReserveError> {
    let mut usable = all.into_iter().flatten();
    // Invalid files are skipped: they must not delay or refuse every other device that appears.
    let Some(found) = usable.find(|found| found.device == device) else {
        return Ok(None);
    };
    found.device(host).map_err(AssignError::Refused)?;
    Ok(assigner.claim_reserved(device, found.driver)?)
}

/// Binds one, and logs it.
fn bind(
    assigner: &Assigner,
    host: &Host,
    found: Result<Reservation, ReserveError>,
) -> Result<String, ReserveError> {
    let found = found?;
    found.device(host).map_err(AssignError::Refused)?;
    let device = found.device;
    match assigner.bind_reserved(device, found.driver) {
        Ok(answer) => {
            let already = match answer.outcome {
                BindOutcome::AlreadySo => " already",
                _ => "",
            };
            let driver = answer.driver.map_or(String::new(), |name| name.to_string());
            Ok(format!(
                "'{device}' is reserved and bound to '{driver}'{already}"
            ))
        }
        // The reservation.
        Err(AssignError::Refused(refusal)) if refusal.code == Code::DeviceTaken => {
            Ok(format!("'{device}' is reserved and in use by a guest"))
        }
        Err(error) => Err(error.into()),
    }
}
