//! Devices bound and released outside of any guest: by an administrator, and by a reservation.
//!
//! ```text
//! bind:    lock -> no guest has it -> record (not done) -> rebind -> record (done)
//!                  on failure: the previous record; if the undo failed too: it stays not done
//! release: lock -> no guest has it -> record (not done) -> restore -> drop the record
//!                  on failure: the previous record; if the undo failed too: it stays not done
//! recover: release what is not done
//! ```
//!
//! A guest that starts with a device bound here finds it on its driver and leaves it there.

use std::collections::BTreeSet;
use std::sync::PoisonError;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;
use kernel_glue::rebind::{self, Before, Outcome, Rebind, RebindError, Step};
use serde::Serialize;
use tracing::info;

use super::check::Budget;
use super::claim::claimed;
use super::returning::{OnRefusal, Return, give_back};
use super::{AssignError, Assigner, Condition, bind, error};
use crate::assignment::{self, Action, Claim, Event, Owner, OwnerKind, next};
use crate::journald;
use crate::libvirt::DomainRef;
use crate::progress;
use crate::record::RecordError;
use crate::record::{DeviceLock, Manual, Purpose};
use crate::service::ServiceName;
use domain::code::Code;
use domain::hint::Hint;
use domain::refusal::Refusal;

pub use group::GroupAnswer;
pub use onlooker::Onlooker;
pub use recover::Recovered;

mod claim;
mod group;
mod guest;
mod onlooker;
mod recover;

/// The result for a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindOutcome {
    /// It was bound.
    Bound,
    /// It was released.
    Released,
    /// Nothing was written: it had the wanted state.
    AlreadySo,
    /// Nothing was written: a dry run.
    Planned,
}

/// The reply to a bind or release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// The device.
    pub device: PciAddress,
    /// The driver it is, or would be, bound to.
    pub driver: Option<DriverName>,
    /// The result.
    pub outcome: BindOutcome,
    /// The module that is loaded first.
    pub module: Option<String>,
    /// The writes in order, each as `path <- value`.
    pub writes: Vec<String>,
    /// The obstacles that a dry run found, as messages; for a release, why the device is not bound to its previous
    /// driver.
    #[serde(rename = "against")]
    pub obstacles: Vec<String>,
}

/// The options of an administrator's bind.
#[derive(Clone, Debug, Default)]
pub struct BindOptions {
    /// The driver; by default the one that the device's recipe names.
    pub driver: Option<DriverName>,
    /// Functions of the device's IOMMU group that the host uses may be bound, too.
    pub allow_group: bool,
    /// Services that are known to hold GPUs, or that the configuration names, may be stopped while they hold the
    /// device.
    pub stop_services: bool,
}

/// On whose behalf a device is bound outside of this host's guests.
#[derive(Clone, Copy)]
enum Asker<'a> {
    Admin,
    Reservation,
    /// A guest whose libvirt is not this host's.
    Guest(&'a DomainRef),
}

/// A planned bind.
struct ManualBind {
    owner: Owner,
    rebind: Rebind,
    now: Before,
    old: Option<Manual>,
    purpose: Purpose,
}

impl Assigner {
    /// Binds a device outside of any guest; by default to the driver that its recipe names.
    ///
    /// # Errors
    /// A refusal while a guest has the device; after a failure its previous state is restored unless the code says
    /// otherwise.
    pub fn bind_manually(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Answer, AssignError> {
        self.bind_from_holders(Asker::Admin, device, driver, &[])
    }

    /// Like [`bind_manually`](Self::bind_manually), for a reservation.
    ///
    /// # Errors
    /// As [`bind_manually`](Self::bind_manually).
    pub fn bind_reserved(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Answer, AssignError> {
        self.bind_from_holders(Asker::Reservation, device, driver, &[])
    }

    /// Like [`bind_manually`](Self::bind_manually), and first stops the services of `allowed` that hold the device;
    /// they start again when it is released, or if the bind fails.
    fn bind_from_holders(
        &self,
        asker: Asker<'_>,
        device: PciAddress,
        driver: Option<DriverName>,
        allowed: &[ServiceName],
    ) -> Result<Answer, AssignError> {
        let driver = self.wanted(device, driver)?;
        let _lock = match asker {
            Asker::Reservation => self.lock_for_reservation(device)?,
            _ => self.lock_for_admin(device)?,
        };
        self.wait_until_stable([(device, &driver)], allowed)?;
        progress::begin().map_err(AssignError::Refused)?;
        let _work = self.at_work(device, Condition::Binding);
        self.undisturbed(|| self.bind_locked(asker, device, &driver, allowed))
    }

    fn bind_locked(
        &self,
        asker: Asker<'_>,
        device: PciAddress,
        driver: &DriverName,
        allowed: &[ServiceName],
    ) -> Result<Answer, AssignError> {
        match asker {
            Asker::Reservation => self.settle_claim(device)?,
            _ => self.settle_manual(device)?,
        }
        progress::stage("loading the driver's module", 0.1);
        let manual_bind =
            self.manual_bind(device, bind::resolve(&*self.kernel, device, driver)?)?;
        let manual_bind = manual_bind.by(asker);
        let answer = manual_bind.answer(BindOutcome::Bound, None);
        if answer.writes.is_empty() {
            self.hand_over(&manual_bind)?;
            let outcome = BindOutcome::AlreadySo;
            return Ok(Answer { outcome, ..answer });
        }
        progress::stage("checking which processes use the device", 0.2);
        let mut budget = Budget::new(self.memory_timeout);
        self.take_from_holders(&self.context.look(), device, driver, allowed, &mut budget)?;
        progress::stage("binding the device", 0.4);
        self.take(&manual_bind)?;
        info!(variantd_device = %device, message_id = journald::BOUND, "'{device}' bound to '{driver}', outside of any guest");
        Ok(answer)
    }

    /// The writes that [`bind_manually`](Self::bind_manually) would make, and the obstacles. Changes nothing.
    ///
    /// # Errors
    /// A guest has the device, or it cannot be read.
    pub fn plan_manual_bind(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Answer, AssignError> {
        let _lock = self.lock_for_admin(device)?;
        self.plan_unlocked(device, driver)
    }

    fn plan_unlocked(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Answer, AssignError> {
        let driver = self.wanted(device, driver)?;
        let unreadable = |errno| RebindError::Unreadable { device, errno };
        let registered = self.kernel.registered(driver.as_str());
        let registered = registered.map_err(unreadable)?;
        let module = registered
            .is_none()
            .then(|| driver.as_str().replace('-', "_"));
        let manual_bind = self.manual_bind(device, registered.unwrap_or(driver))?;
        let answer = manual_bind.answer(BindOutcome::Planned, module);
        let obstacles = match answer.writes.is_empty() {
            true => Vec::new(),
            false => self.manual_bind_obstacles(device, &manual_bind.rebind.to)?,
        };
        Ok(Answer {
            obstacles,
            ..answer
        })
    }

    /// The obstacles against a bind, or against a guest that then gets the device.
    fn manual_bind_obstacles(
        &self,
        device: PciAddress,
        driver: &DriverName,
    ) -> Result<Vec<String>, AssignError> {
        let host_view = self.context.look();
        let found = self.obstacles(&host_view, device, driver);
        let found = found.map_err(AssignError::Refused)?;
        Ok(found.iter().map(ToString::to_string).collect())
    }

    /// Releases a device that was bound outside of any guest.
    ///
    /// # Errors
    /// A refusal while a guest has the device; after a failure it stays recorded, so that the caller can retry.
    pub fn release_manually(&self, device: PciAddress) -> Result<Answer, AssignError> {
        let released = self.release_locked(device);
        self.start_services();
        let (outcome, note) = released?;
        Ok(Answer {
            device,
            driver: self.now(device)?.driver,
            outcome,
            module: None,
            writes: Vec::new(),
            obstacles: note.iter().map(ToString::to_string).collect(),
        })
    }

    fn release_locked(
        &self,
        device: PciAddress,
    ) -> Result<(BindOutcome, Option<Refusal>), AssignError> {
        let _lock = self.lock_for_admin(device)?;
        progress::begin().map_err(AssignError::Refused)?;
        let _work = self.at_work(device, Condition::Releasing);
        self.refuse_held(device)?;
        let Some(record) = self.records.manual(device)? else {
            return Ok((BindOutcome::AlreadySo, None));
        };
        progress::stage("releasing the device", 0.3);
        self.restore(&record, &Event::Released, OnRefusal::Kept)
    }

    /// The id of a device that could be bound.
    ///
    /// # Errors
    /// A refusal if the device does not exist, or no driver is known for it.
    pub fn reservable(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<PciId, AssignError> {
        self.wanted(device, driver)?;
        let host_view = self.context.look();
        let found = host_view.device(device).map_err(AssignError::Refused)?;
        Ok(found.ok_or_else(|| missing(device))?.id)
    }

    /// The device's lock, after a region query has ended: the query holds it for a moment.
    fn lock_for_admin(&self, device: PciAddress) -> Result<DeviceLock, AssignError> {
        let claims = self.claims.lock().unwrap_or_else(PoisonError::into_inner);
        let is_asked = |asked: &mut BTreeSet<PciAddress>| asked.contains(&device);
        let claims = self.asked.wait_while(claims, is_asked);
        let _claim = claims.unwrap_or_else(PoisonError::into_inner);
        self.lock(device)
    }

    /// Locks the device against other threads and processes.
    pub(super) fn lock(&self, device: PciAddress) -> Result<DeviceLock, AssignError> {
        self.records
            .lock(device)?
            .ok_or_else(|| error::busy(device))
    }

    /// The wanted driver of a device: `driver`, or the one that its recipe names.
    fn wanted(
        &self,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<DriverName, AssignError> {
        let host_view = self.context.look();
        let found = host_view.device(device).map_err(AssignError::Refused)?;
        let found = found.ok_or_else(|| missing(device))?;
        if let Some(driver) = driver {
            self.permit(&host_view.rules, device, &driver)?;
            return Ok(driver);
        }
        let recipe = host_view.rules.recipes.for_device(found);
        recipe.map(|recipe| recipe.driver.clone()).ok_or_else(|| {
            let reason = "no recipe covers it";
            let hint = "name the driver with '--driver'";
            AssignError::Refused(Refusal::new(Code::DriverUnknown, reason, hint).of(device))
        })
    }

    fn manual_bind(&self, device: PciAddress, to: DriverName) -> Result<ManualBind, AssignError> {
        self.refuse_held(device)?;
        Ok(ManualBind {
            owner: Owner::Admin,
            rebind: Rebind { device, to },
            now: self.now(device)?,
            old: self.records.manual(device)?,
            purpose: Purpose::default(),
        })
    }

    /// Binds; returns the record with which [`cancel`](Self::cancel) undoes the bind.
    fn take(&self, manual_bind: &ManualBind) -> Result<assignment::Record, AssignError> {
        let Rebind { device, to } = &manual_bind.rebind;
        let old = manual_bind.old.as_ref().map(|manual| &manual.record);
        let holder = self.records.holder(*device, None)?;
        let claim = Claim {
            owner: manual_bind.owner,
            target: to.clone(),
            now: manual_bind.now.clone(),
            is_taken: holder.is_some(),
            lender: None,
        };
        let record = claimed(*device, old, claim, holder.as_deref())?;
        self.note_record(*device, &manual_bind.purpose, Some(&record))?;
        let owner = OwnerKind::of(manual_bind.owner, manual_bind.purpose.guest.is_some());
        let apply = || manual_bind.rebind.apply(&*self.kernel, &manual_bind.now);
        match self.context.metrics.bind(owner, apply) {
            Ok(_) => {
                self.set_note(*device, None);
                let step = next(Some(&record), &Event::Bound);
                self.end(*device, &manual_bind.purpose, &step)?;
                Ok(step.record.unwrap_or(record))
            }
            Err(error) => {
                let lasting = error.is_degraded() || error.is_hung();
                let step = next(Some(&record), &Event::NotBound { lasting });
                self.end(*device, &manual_bind.purpose, &step)?;
                Err(error.into())
            }
        }
    }

    /// Undoes a bind; a device that cannot be restored stays recorded for `recover`.
    fn cancel(
        &self,
        manual_bind: &ManualBind,
        record: &assignment::Record,
    ) -> Result<(), AssignError> {
        let device = manual_bind.rebind.device;
        let step = next(Some(record), &Event::Cancelled);
        self.note_record(device, &manual_bind.purpose, step.record.as_ref())?;
        // To the state before this bind, which may itself be a manual bind to another driver.
        let back = rebind::restore(&*self.kernel, device, &manual_bind.now);
        let event = match &back {
            Ok(_) => Event::Restored,
            Err(_) => Event::NotRestored { lasting: true },
        };
        self.end(
            device,
            &manual_bind.purpose,
            &next(step.record.as_ref(), &event),
        )?;
        back?;
        Ok(())
    }

    /// Writes the new record; called before the change that it announces.
    fn note_record(
        &self,
        device: PciAddress,
        purpose: &Purpose,
        record: Option<&assignment::Record>,
    ) -> Result<(), RecordError> {
        let manual = record.map(|record| Manual {
            device,
            purpose: purpose.clone(),
            record: record.clone(),
        });
        let noted = self.records.set_manual(device, manual);
        // The file may contain a record that should not exist: no caller knows of it, so the agent retries.
        noted.inspect_err(|_| self.again.unfinished())
    }

    /// Writes the final record of a change, and schedules a retry if one is due.
    fn end(
        &self,
        device: PciAddress,
        purpose: &Purpose,
        step: &assignment::Step,
    ) -> Result<(), RecordError> {
        if step.action() == Some(Action::Retry) {
            self.again.unfinished();
        }
        self.note_record(device, purpose, step.record.as_ref())
    }

    /// Restores a device whose earlier change was interrupted, or hung: its write may still be in progress, and the
    /// driver link is unreliable meanwhile.
    fn settle_manual(&self, device: PciAddress) -> Result<(), AssignError> {
        self.refuse_held(device)?;
        match self.records.manual(device)? {
            Some(record) if record.is_unsettled() => {
                let restored = self.restore(&record, &Event::Resumed, OnRefusal::Kept);
                restored.map(drop)
            }
            _ => Ok(()),
        }
    }

    /// Restores a device by an event; also returns why it is not bound to its previous driver.
    fn restore(
        &self,
        noted: &Manual,
        event: &Event,
        on_refusal: OnRefusal,
    ) -> Result<(BindOutcome, Option<Refusal>), AssignError> {
        let (device, purpose) = (noted.device, &noted.purpose);
        let step = next(Some(&noted.record), event);
        if !noted.is_unsettled() {
            self.note_record(device, purpose, step.record.as_ref())?;
        }
        let target = Return {
            certain: step.restore().is_some_and(|restore| restore.certain),
            on_refusal,
        };
        let Some(before) = &noted.record.before else {
            self.end(device, purpose, &step)?;
            return Ok((BindOutcome::AlreadySo, None));
        };
        let owner = noted.owner_kind();
        let metrics = &self.context.metrics;
        let returned = match give_back(&*self.kernel, metrics, owner, device, before, target) {
            Err(error) => {
                let lasting = error.is_degraded() || error.is_hung();
                let event = Event::NotRestored { lasting };
                self.end(device, purpose, &next(step.record.as_ref(), &event))?;
                return Err(error.into());
            }
            Ok(returned) => returned,
        };
        self.set_note(device, returned.note.as_ref());
        self.end(
            device,
            purpose,
            &next(step.record.as_ref(), &Event::Restored),
        )?;
        let outcome = match returned.outcome {
            Outcome::Done => {
                info!(variantd_device = %device, message_id = journald::GIVEN_BACK, "'{device}' \
                    released, outside of any guest");
                BindOutcome::Released
            }
            Outcome::AlreadySo => BindOutcome::AlreadySo,
        };
        Ok((outcome, returned.note))
    }

    fn refuse_held(&self, device: PciAddress) -> Result<(), AssignError> {
        match self.records.holder(device, None)? {
            Some(domain) => Err(error::taken(device, &domain)),
            None => Ok(()),
        }
    }

    fn now(&self, device: PciAddress) -> Result<Before, AssignError> {
        match Before::read(&*self.kernel, device) {
            Err(error) if error.is_gone() => Err(missing(device)),
            result => Ok(result?),
        }
    }
}

impl ManualBind {
    /// With its owner. A device that is bound for any guest already stays so when one guest asks for it.
    fn by(self, asker: Asker<'_>) -> Self {
        let lender = self.old.as_ref().filter(|old| old.purpose.guest.is_none());
        let (owner, purpose) = match (asker, lender) {
            (Asker::Admin, _) => (Owner::Admin, Purpose::default()),
            (Asker::Reservation, _) => (Owner::Reservation, Purpose::default()),
            (Asker::Guest(_), Some(lender)) => (lender.record.owner, lender.purpose.clone()),
            (Asker::Guest(guest), None) => {
                let guest = Some(guest.clone());
                (
                    Owner::Admin,
                    Purpose {
                        guest,
                        leader: None,
                    },
                )
            }
        };
        Self {
            owner,
            purpose,
            ..self
        }
    }

    fn answer(&self, outcome: BindOutcome, module: Option<String>) -> Answer {
        let steps = self.rebind.plan(&self.now);
        Answer {
            device: self.rebind.device,
            driver: Some(self.rebind.to.clone()),
            outcome,
            module,
            writes: steps.iter().map(Step::to_string).collect(),
            obstacles: Vec::new(),
        }
    }
}

fn missing(device: PciAddress) -> AssignError {
    let reason = "this host has no such PCI device";
    let hint = Hint::run("variantctl list --all");
    AssignError::Refused(Refusal::new(Code::DeviceMissing, reason, hint).of(device))
}

#[cfg(test)]
mod tests;
