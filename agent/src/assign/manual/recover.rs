//! Gives back what changes left half-way: by hand, and for guests that do not run.

use kernel_glue::address::PciAddress;
use serde::Serialize;
use tracing::warn;

use super::Fate;
use crate::assign::{AssignError, Assigner, Condition};
use crate::domain::DomainUuid;
use crate::journal::Held;
use crate::journald;
use crate::libvirt::DomainRef;

/// What came of a device that had been left half-way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// The device.
    pub device: PciAddress,
    /// The guest that had left it.
    pub domain: Option<String>,
    /// Why it is still not given back.
    pub sentence: Option<String>,
}

impl Assigner {
    /// Gives back what was left half-way outside of any guest: `device`, or all such devices.
    pub fn recover_by_hand(&self, device: Option<PciAddress>) -> Vec<Recovered> {
        let asked = |one: &PciAddress| device.is_none_or(|device| device == *one);
        let left = self.bound.devices().into_iter().filter(asked);
        let recovered = left.filter_map(|device| {
            let result = self.recover_one(device).transpose()?;
            if let Err(error) = &result {
                let message_id = journald::NOT_GIVEN_BACK;
                warn!(variantd_device = %device, message_id, "'{device}' is not given back: {error}");
                self.again.something();
            }
            Some(Recovered {
                device,
                domain: None,
                sentence: result.err().map(|error| error.to_string()),
            })
        });
        let recovered = recovered.collect();
        self.start_services();
        recovered
    }

    /// Gives back, without libvirt, what domains hold whose bind or release has not come to its end: `device`,
    /// or all such devices.
    pub fn recover_unsettled(&self, device: Option<PciAddress>) -> Vec<Recovered> {
        self.recover_entries(|_, held| {
            device.is_none_or(|device| device == held.address) && held.is_unsettled()
        })
    }

    /// Gives back what guests that are not `running` left bound: `device`, or all such devices.
    pub fn recover_guests(
        &self,
        running: &[DomainUuid],
        device: Option<PciAddress>,
    ) -> Vec<Recovered> {
        self.recover_entries(|domain, held| {
            let asked = device.is_none_or(|device| device == held.address);
            let left = !running.contains(domain) && self.orphans().contains(domain);
            asked && left && !held.is_unsettled()
        })
    }

    pub(in crate::assign) fn recover_entries(
        &self,
        due: impl Fn(&DomainUuid, &Held) -> bool,
    ) -> Vec<Recovered> {
        let all = self.journal.all().into_iter();
        let recovered = all
            .flat_map(|(domain, _)| {
                self.locks.with(&domain.uuid, || {
                    self.recover_entry(&domain, |held| due(&domain.uuid, held))
                })
            })
            .collect();
        self.start_services();
        recovered
    }

    /// Gives those devices of a domain back that are `due`; called with the domain's lock.
    fn recover_entry(&self, domain: &DomainRef, due: impl Fn(&Held) -> bool) -> Vec<Recovered> {
        let devices = || {
            let entry = self.journal.read(&domain.uuid).ok().flatten();
            entry.map_or(Vec::new(), |entry| entry.devices)
        };
        let asked: Vec<Held> = devices().into_iter().filter(|held| due(held)).collect();
        if asked.is_empty() {
            return Vec::new();
        }
        let is_asked = |held: &Held| asked.iter().any(|one| one.address == held.address);
        let result = self.give_back_those(&domain.uuid, is_asked);
        let sentence = result.err().map(|error| error.to_string());
        let kept = devices();
        let still = |held: &&Held| kept.iter().any(|one| one.address == held.address);
        let recovered = asked.iter().map(|held| Recovered {
            device: held.address,
            domain: Some(domain.name.clone()),
            sentence: sentence.clone().filter(|_| still(&held)),
        });
        recovered.collect()
    }

    fn recover_one(&self, device: PciAddress) -> Result<Option<Fate>, AssignError> {
        let _lock = self.lock_by_hand(device)?;
        let _work = self.at_work(device, Condition::Releasing);
        match self.bound.read(device)? {
            Some(record) if !record.done || self.is_stray(&record)? => {
                self.refuse_held(device)?;
                self.restore(record).map(Some)
            }
            _ => Ok(None),
        }
    }
}
