//! Handles running guests and left-over entries when the agent, or libvirt, starts again.

use tracing::{info, warn};

use super::{AssignError, Assigner, OnRefusal, reference};
use crate::assignment::{Event, Phase};
use crate::libvirt::DomainRef;
use crate::record::{Entry, Held};
use domain::{Domain, DomainUuid};

impl Assigner {
    /// Adopts a guest that was running when libvirt, or the agent, restarted.
    ///
    /// # Errors
    /// The entry cannot be written.
    pub fn adopt(&self, running: &Domain) -> Result<(), AssignError> {
        let domain = reference(running)?;
        self.locks.with(&domain.uuid, || {
            self.note_event(&domain.uuid);
            let devices = self.covered(running)?;
            // An existing entry knows the previous drivers, and an adopted one would replace them by "unknown".
            if devices.is_empty() || self.records.entry(&domain.uuid)?.is_some() {
                return Ok(());
            }
            info!("guest '{domain}' was found running: its devices keep their drivers");
            Ok(self.records.set_entry(&domain, &devices)?)
        })
    }

    /// Finishes what an earlier agent had begun, by the records alone: a bind is undone, because no guest runs before
    /// it is done; a release is finished. Called before the first event of libvirt.
    pub fn resume(&self) {
        self.without_event();
        let survey = self.records.survey();
        for (domain, entry) in survey.found {
            if entry.devices.iter().any(Held::is_unsettled) {
                self.resume_one(&domain, &entry);
            }
        }
        // The unreadable record may belong to a device that must be released, so the retry reads it again.
        if survey.unread.is_some() {
            self.again.unfinished();
        }
        self.start_services();
    }

    /// A start may come before [`resume`](Self::resume). It then restores interrupted changes first: a write of the
    /// earlier agent may still be in progress, and the driver link is unreliable meanwhile.
    pub(super) fn restore_incomplete(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        // A domain that is not an orphan has no interrupted change: its own calls run under the same lock.
        if !self.note_event(domain) {
            return Ok(());
        }
        let entry = self.records.entry(domain);
        let entry = entry.inspect_err(|_| self.left_over(domain))?;
        let incomplete =
            |held: &Held| matches!(held.record.phase, Phase::Binding | Phase::Releasing);
        if entry.is_some_and(|entry| entry.devices.iter().any(incomplete)) {
            self.release_those(domain, incomplete, &Event::Resumed, OnRefusal::Kept)?;
            self.note_event(domain);
        }
        Ok(())
    }

    fn resume_one(&self, domain: &DomainRef, entry: &Entry) {
        for held in entry.devices.iter().filter(|held| held.is_unsettled()) {
            let (device, state) = (held.address, held.record.phase);
            warn!("releasing '{device}' of '{domain}', which was left in phase {state:?}");
        }
        let result = self.locks.with(&domain.uuid, || {
            // Otherwise a hook call came first and made the entry.
            let without_event = self.orphans().contains(&domain.uuid);
            match without_event {
                true => {
                    let left = Held::is_unsettled;
                    self.release_those(&domain.uuid, left, &Event::Resumed, OnRefusal::Kept)
                }
                false => Ok(Vec::new()),
            }
        });
        if let Err(error) = result {
            warn!("cannot release the devices of '{domain}': {error}");
        }
    }

    /// Releases what domains held before the agent started and that are not `running` at present.
    pub fn recover(&self, running: &[DomainUuid]) {
        for domain in self.without_event() {
            if running.contains(&domain) {
                continue;
            }
            let result = self.release_left_over(&domain);
            if let Err(error) = result {
                warn!("cannot release the devices of domain {domain}: {error}");
            }
        }
        self.start_services();
    }

    /// Releases what a domain holds if no hook call reported its end, for example because the agent could not be
    /// reached. Calls `is_active`, libvirt's answer, after reading what is held: a later start causes an event, and a
    /// start in progress counts as active (libvirt 9.0, qemuProcessInit: its id exists before the hook is called).
    ///
    /// # Errors
    /// Those of `is_active`.
    pub fn release_missed<E>(
        &self,
        domain: &DomainUuid,
        is_active: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        if matches!(self.records.entry(domain), Ok(None)) {
            return Ok(());
        }
        // Inserted before libvirt is asked: a start in the meantime removes it, and then nothing is released below.
        let was_heard = self.orphans().insert(domain);
        let active = is_active();
        if !matches!(active, Ok(false)) {
            // This call inserted it, so this call removes it. An orphan of an earlier agent stays one until its own event.
            if was_heard {
                self.note_event(domain);
            }
            return active.map(drop);
        }
        if let Err(error) = self.release_left_over(domain) {
            warn!("cannot release the devices of domain {domain}: {error}");
        }
        self.start_services();
        Ok(())
    }

    /// Releases what a domain holds, if there was no event since its release failed, or since the agent started.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn release_left_over(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        self.locks.with(domain, || match self.note_event(domain) {
            true => self.release_devices(domain),
            false => Ok(()),
        })
    }
}
