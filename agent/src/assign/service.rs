//! Stops the services that hold a device, and starts them again when the device is free.
//!
//! ```text
//! held by a service that may be stopped -> record -> stop -> read the holders again -> bind
//! device released, or not bound after all, or agent started -> start -> drop the record
//! ```
//!
//! Starts only services that a record names, and stops only services that the configuration or the caller allows.

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::RebindError;
use std::sync::PoisonError;
use tracing::warn;

use super::{AssignError, Assigner};
use crate::record::StoppedUnit;
use crate::service::{ServiceError, ServiceName};
use domain::code::Code;
use domain::hint::{Hint, line};
use domain::refusal::Refusal;

impl Assigner {
    /// Runs `work`, which may bind; no stopped service is started before it has ended.
    pub(super) fn undisturbed<T>(&self, work: impl FnOnce() -> T) -> T {
        let turn = self.binding.read().unwrap_or_else(PoisonError::into_inner);
        let done = work();
        drop(turn);
        self.start_services();
        done
    }

    /// Stops those of `allowed` that hold a device which is about to be bound to `driver`.
    ///
    /// # Errors
    /// A service does not end, or another unit would end with it; stopped services are recorded.
    pub(super) fn stop_services(
        &self,
        device: PciAddress,
        driver: &DriverName,
        allowed: &[ServiceName],
    ) -> Result<(), AssignError> {
        if allowed.is_empty() || self.stays(device, driver)? {
            return Ok(());
        }
        let Ok(occupancy) = self.kernel.occupancy(device) else {
            return Ok(()); // Looking at its holders says why.
        };
        let certain = occupancy.holders.found.iter().filter(|h| h.is_certain());
        let units: Vec<&str> = certain
            .filter_map(|holder| holder.unit.as_deref())
            .collect();
        for service in allowed.iter().filter(|name| units.contains(&name.as_str())) {
            self.stop_service(service, device, allowed)?;
        }
        Ok(())
    }

    /// Starts every service again whose devices are free. If a bind is in progress, its end does that.
    pub(super) fn start_services(&self) {
        // Does not block: a bind holds the lock for up to minutes, and `undisturbed` calls this again at its end.
        let Ok(_turn) = self.binding.try_write() else {
            return;
        };
        let (units, unread) = self.records.units();
        if let Some(why) = unread {
            warn!(
                "cannot read which services were stopped for a device, so some may not run yet: \
                {why}"
            );
            self.again.unfinished();
        }
        for unit in units {
            if !unit.devices.iter().any(|device| self.is_taken(*device)) {
                self.start_service(&unit);
            }
        }
    }

    /// True while a service that should run has not been started again.
    pub(super) fn owes_services(&self) -> bool {
        let taken = |unit: &StoppedUnit| unit.devices.iter().any(|device| self.is_taken(*device));
        let (units, unread) = self.records.units();
        unread.is_some() || units.iter().any(|unit| !taken(unit))
    }

    fn stop_service(
        &self,
        service: &ServiceName,
        device: PciAddress,
        allowed: &[ServiceName],
    ) -> Result<(), AssignError> {
        // systemd also stops the units that require this one, so each of them must be allowed.
        let with_it = self.services.dependents(service);
        let with_it = with_it.map_err(|error| not_stopped(device, service, &error))?;
        let find = |unit: &String| allowed.iter().find(|name| name.as_str() == unit);
        let mut all = Vec::new();
        for unit in with_it {
            all.push(find(&unit).ok_or_else(|| {
                let (unit, other) = (service.to_string(), unit.clone());
                not_stopped(device, service, &ServiceError::Others { unit, other })
            })?);
        }
        all.push(service);
        // Recorded before the first stop: an agent that is killed in between starts them all again, and a running one is a no-op.
        for name in &all {
            self.records.add_unit(name, device)?;
        }
        // Dependents first, one call each: so the error names the unit that does not end.
        for name in all {
            let stopped = self.services.stop(name);
            stopped.map_err(|error| not_stopped(device, name, &error))?;
        }
        Ok(())
    }

    fn start_service(&self, unit: &StoppedUnit) {
        let service = &unit.service;
        match self.services.start(service) {
            // A unit that was uninstalled meanwhile can never start, and its record would be retried forever.
            Ok(()) | Err(ServiceError::Gone(_)) => {
                if let Err(error) = self.records.remove_unit(unit) {
                    warn!("{error}");
                    self.again.unfinished();
                }
            }
            Err(error) => {
                warn!("{}", not_started(service, &error));
                self.again.unfinished();
            }
        }
    }

    /// True if the device is bound to that driver already, so that nothing is unbound.
    pub(super) fn stays(
        &self,
        device: PciAddress,
        driver: &DriverName,
    ) -> Result<bool, AssignError> {
        let unreadable = |errno| RebindError::Unreadable { device, errno };
        let now = self.kernel.driver(device).map_err(unreadable)?;
        let wanted = self.kernel.registered(driver.as_str());
        Ok(now.is_some() && now == wanted.map_err(unreadable)?)
    }

    /// True while a guest has the device, or it is bound outside of any guest.
    fn is_taken(&self, device: PciAddress) -> bool {
        let manual = self.records.manual(device);
        let by_guest = self.records.holder(device, None);
        // An unreadable record counts as taken: a service that opens an assigned GPU disturbs a guest, one that waits only waits.
        !matches!(by_guest, Ok(None)) || !matches!(manual, Ok(None))
    }
}

fn not_stopped(device: PciAddress, service: &ServiceName, error: &ServiceError) -> AssignError {
    let reason = format!("'{service}' holds it, and {error}");
    let hint = match error {
        ServiceError::Others { other, .. } => {
            format!("stop '{other}' first, or add it to 'stop_services' in variantd.conf")
        }
        _ => format!("see 'systemctl status {service}', stop it, then retry"),
    };
    let unit = match error {
        ServiceError::Others { other, .. } => other,
        _ => service.as_str(),
    };
    let refusal = Refusal::new(Code::ServiceNotStopped, reason, hint).of(device);
    AssignError::Failed(refusal.by(["systemctl", "stop", unit]))
}

fn not_started(service: &ServiceName, error: &ServiceError) -> Refusal {
    let reason = format!("cannot start '{service}', which was stopped for a device: {error}");
    let hint = Hint::with(
        "{}; variantd retries this",
        line(["systemctl", "start", service.as_str()]),
    );
    Refusal::new(Code::ServiceNotStarted, reason, hint)
}
