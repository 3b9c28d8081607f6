//! Running guests and left-over entries that the agent finds when it, or libvirt, starts again.

use tracing::{info, warn};

use super::{AssignError, Assigner, Unwilling, reference};
use crate::assignment::{Event, Phase};
use crate::libvirt::DomainRef;
use crate::record::{Entry, Held};
use domain::{Domain, DomainUuid};

impl Assigner {
    /// libvirt found the guest running after its own restart, or we did after ours.
    ///
    /// # Errors
    /// When the entry cannot be written.
    pub fn adopt(&self, running: &Domain) -> Result<(), AssignError> {
        let domain = reference(running)?;
        self.locks.with(&domain.uuid, || {
            self.heard_of(&domain.uuid);
            let devices = self.covered(running)?;
            if devices.is_empty() || self.records.entry(&domain.uuid)?.is_some() {
                return Ok(());
            }
            info!("guest '{domain}' was found running: its devices stay where they are");
            Ok(self.records.set_entry(&domain, &devices)?)
        })
    }

    /// Ends what the agent had begun when it stopped, by the records alone: a bind goes back, since no
    /// guest runs before it is done; a release is finished. Called before libvirt is heard.
    pub fn resume(&self) {
        self.unheard();
        let survey = self.records.survey();
        for (domain, entry) in survey.found {
            if entry.devices.iter().any(Held::is_unsettled) {
                self.resume_one(&domain, &entry);
            }
        }
        if survey.unread.is_some() {
            self.again.something();
        }
        self.start_services();
    }

    /// A start may come before [`resume`](Self::resume) does. What is half-way is then put back first: a write of the
    /// agent that has died may still be under way, and a driver link that it shows says nothing.
    pub(super) fn restore_incomplete(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        if !self.heard_of(domain) {
            return Ok(());
        }
        let entry = self.records.entry(domain);
        let entry = entry.inspect_err(|_| self.left_over(domain))?;
        let incomplete =
            |held: &Held| matches!(held.record.phase, Phase::Binding | Phase::Releasing);
        if entry.is_some_and(|entry| entry.devices.iter().any(incomplete)) {
            self.release_those(domain, incomplete, &Event::Resumed, Unwilling::Kept)?;
            self.heard_of(domain);
        }
        Ok(())
    }

    fn resume_one(&self, domain: &DomainRef, entry: &Entry) {
        for held in entry.devices.iter().filter(|held| held.is_unsettled()) {
            let (device, state) = (held.address, held.record.phase);
            warn!("'{device}' of '{domain}' was left {state:?}: it is given back");
        }
        let result = self.locks.with(&domain.uuid, || {
            // Otherwise a hook has come first, and the entry is of its making.
            let unheard = self.orphans().contains(&domain.uuid);
            match unheard {
                true => {
                    let left = Held::is_unsettled;
                    self.release_those(&domain.uuid, left, &Event::Resumed, Unwilling::Kept)
                }
                false => Ok(Vec::new()),
            }
        });
        if let Err(error) = result {
            warn!("devices of '{domain}' are not given back: {error}");
        }
    }

    /// Gives back what domains held before the agent started and that are not `running` now.
    pub fn recover(&self, running: &[DomainUuid]) {
        for domain in self.unheard() {
            if running.contains(&domain) {
                continue;
            }
            let result = self.release_left_over(&domain);
            if let Err(error) = result {
                warn!("devices of domain {domain} are not given back: {error}");
            }
        }
        self.start_services();
    }

    /// Gives back what a domain holds of whose end no hook has told, as when the agent could not be reached. `is_active`,
    /// libvirt's word, is asked for after what is held was seen: a start that comes behind that is heard of, and one that is under
    /// way is active (libvirt 9.0, qemuProcessInit: its id is there before the hook is called).
    ///
    /// # Errors
    /// Those of `is_active`.
    pub fn release_unheard<E>(
        &self,
        domain: &DomainUuid,
        is_active: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        if matches!(self.records.entry(domain), Ok(None)) {
            return Ok(());
        }
        let was_heard = self.orphans().insert(domain);
        let active = is_active();
        if !matches!(active, Ok(false)) {
            if was_heard {
                self.heard_of(domain);
            }
            return active.map(drop);
        }
        if let Err(error) = self.release_left_over(domain) {
            warn!("devices of domain {domain} are not given back: {error}");
        }
        self.start_services();
        Ok(())
    }

    /// Gives back what a domain holds, if nothing was heard of it since it failed to, or since the
    /// agent started.
    ///
    /// # Errors
    /// As [`release`](Self::release).
    pub fn release_left_over(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        self.locks.with(domain, || match self.heard_of(domain) {
            true => self.release_devices(domain),
            false => Ok(()),
        })
    }
}
