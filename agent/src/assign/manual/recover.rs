//! Releases devices whose change was interrupted: manual ones, and those of guests that do not run.

use kernel_glue::address::PciAddress;
use serde::Serialize;
use tracing::warn;

use crate::assign::{AssignError, Assigner, Condition, OnRefusal};
use crate::assignment::Event;
use crate::journald;
use crate::libvirt::DomainRef;
use crate::record::Held;
use domain::DomainUuid;
use domain::refusal::Refusal;

/// The result for a device whose change was interrupted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// The device.
    pub device: PciAddress,
    /// The guest that left it.
    pub domain: Option<String>,
    /// Why it is still not released.
    pub sentence: Option<String>,
    /// The code of that message.
    pub code: Option<&'static str>,
    /// Why it was released without its previous driver.
    pub note: Option<String>,
}

impl Assigner {
    /// Releases what was interrupted outside of any guest: `device`, or all such devices.
    pub fn recover_manually(
        &self,
        device: Option<PciAddress>,
        on_refusal: OnRefusal,
    ) -> Vec<Recovered> {
        let asked = |one: &PciAddress| device.is_none_or(|device| device == *one);
        let left = self.records.devices().unwrap_or_else(|why| {
            warn!("cannot check devices that are bound outside of any guest: {why}");
            self.again.unfinished();
            Vec::new()
        });
        // A record that cannot be read is included, so that its error is reported for that device.
        let is_manual = |one: &PciAddress| !matches!(self.records.manual(*one), Ok(None));
        let left = left.into_iter().filter(asked).filter(is_manual);
        let recovered = left.filter_map(|device| {
            let result = self.recover_one(device, on_refusal).transpose()?;
            if let Err(error) = &result {
                let message_id = journald::NOT_GIVEN_BACK;
                warn!(variantd_device = %device, message_id, "cannot release '{device}': {error}");
                self.again.unfinished();
            }
            let (note, error) = match result {
                Ok(note) => (note.map(|note| note.to_string()), None),
                Err(error) => (None, Some(error)),
            };
            Some(Recovered {
                device,
                domain: None,
                sentence: error.as_ref().map(ToString::to_string),
                code: error.as_ref().map(code),
                note,
            })
        });
        let recovered = recovered.collect();
        self.start_services();
        recovered
    }

    /// Releases, without libvirt, the devices of domains whose bind or release was interrupted: `device`, or all such
    /// devices.
    pub fn recover_unsettled(&self, device: Option<PciAddress>) -> Vec<Recovered> {
        let due = |_: &DomainUuid, held: &Held| {
            device.is_none_or(|device| device == held.address) && held.is_unsettled()
        };
        self.recover_entries(due, &Event::Resumed, OnRefusal::Freed)
    }

    /// Releases the devices that guests that are not `running` left bound: `device`, or all such devices.
    pub fn recover_guests(
        &self,
        running: &[DomainUuid],
        device: Option<PciAddress>,
    ) -> Vec<Recovered> {
        let due = |domain: &DomainUuid, held: &Held| {
            let asked = device.is_none_or(|device| device == held.address);
            let left = !running.contains(domain) && self.orphans().contains(domain);
            asked && left && !held.is_unsettled()
        };
        self.recover_entries(due, &Event::Released, OnRefusal::Freed)
    }

    pub(in crate::assign) fn recover_entries(
        &self,
        due: impl Fn(&DomainUuid, &Held) -> bool,
        event: &Event,
        on_refusal: OnRefusal,
    ) -> Vec<Recovered> {
        let survey = self.records.survey();
        if survey.unread.is_some() {
            self.again.unfinished();
        }
        let recovered = survey
            .found
            .into_iter()
            .flat_map(|(domain, _)| {
                self.locks.with(&domain.uuid, || {
                    self.recover_entry(&domain, |held| due(&domain.uuid, held), event, on_refusal)
                })
            })
            .collect();
        self.start_services();
        recovered
    }

    /// Releases those devices of a domain that are `due`; called with the domain's lock.
    fn recover_entry(
        &self,
        domain: &DomainRef,
        due: impl Fn(&Held) -> bool,
        event: &Event,
        on_refusal: OnRefusal,
    ) -> Vec<Recovered> {
        let devices = || {
            let entry = self.records.entry(&domain.uuid).ok().flatten();
            entry.map_or(Vec::new(), |entry| entry.devices)
        };
        // Read again under the lock: the survey was made before it, and a release may have ended meanwhile.
        let asked: Vec<Held> = devices().into_iter().filter(|held| due(held)).collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let is_asked = |held: &Held| asked.iter().any(|one| one.address == held.address);
        let result = self.release_those(&domain.uuid, is_asked, event, on_refusal);
        let (notes, error) = match result {
            Ok(notes) => (notes, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let kept = devices();
        let still = |held: &&Held| kept.iter().any(|one| one.address == held.address);
        let note = |held: &Held| {
            let mut notes = notes.iter();
            notes.find(|note| note.device == Some(held.address))
        };
        let recovered = asked.iter().map(|held| {
            let error = error.as_ref().filter(|_| still(&held));
            Recovered {
                device: held.address,
                domain: Some(domain.name.clone()),
                sentence: error.map(ToString::to_string),
                code: error.map(code),
                note: note(held).map(ToString::to_string),
            }
        });
        recovered.collect()
    }

    /// `None` if nothing was left; the inner value says why the device is not bound to its previous driver.
    fn recover_one(
        &self,
        device: PciAddress,
        on_refusal: OnRefusal,
    ) -> Result<Option<Option<Refusal>>, AssignError> {
        let _lock = self.lock_for_admin(device)?;
        let _work = self.at_work(device, Condition::Releasing);
        match self.records.manual(device)? {
            Some(record) if record.is_unsettled() => {
                self.refuse_held(device)?;
                let (_, note) = self.restore(&record, &Event::Resumed, on_refusal)?;
                Ok(Some(note))
            }
            Some(record) if self.is_stray(&record)? => {
                self.refuse_held(device)?;
                let (_, note) = self.restore(&record, &Event::Released, on_refusal)?;
                Ok(Some(note))
            }
            _ => Ok(None),
        }
    }
}

fn code(error: &AssignError) -> &'static str {
    error.refusal().code.as_str()
}
