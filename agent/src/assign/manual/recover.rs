//! Gives back what changes left half-way: by hand, and for guests that do not run.

use kernel_glue::address::PciAddress;
use serde::Serialize;
use tracing::warn;

use super::State;
use crate::assign::{AssignError, Assigner};
use crate::domain::DomainUuid;

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
                warn!("'{device}' is not given back: {error}");
            }
            Some(Recovered {
                device,
                domain: None,
                sentence: result.err().map(|error| error.to_string()),
            })
        });
        recovered.collect()
    }

    /// Gives back what guests that are not `running` left half-way: `device`, or all such devices.
    pub fn recover_guests(
        &self,
        running: &[DomainUuid],
        device: Option<PciAddress>,
    ) -> Vec<Recovered> {
        let mut recovered = Vec::new();
        for (domain, entry) in self.journal.all() {
            let asked = device.is_none_or(|device| entry.held(device).is_some());
            let left = self.orphans().contains(&domain.uuid);
            if !asked || !left || running.contains(&domain.uuid) {
                continue;
            }
            let sentence = self.release_left_over(&domain.uuid).err();
            recovered.extend(entry.devices.iter().map(|held| Recovered {
                device: held.address,
                domain: Some(domain.name.clone()),
                sentence: sentence.as_ref().map(ToString::to_string),
            }));
        }
        recovered
    }

    fn recover_one(&self, device: PciAddress) -> Result<Option<State>, AssignError> {
        let _lock = self.lock_by_hand(device)?;
        match self.bound.read(device)? {
            Some(record) if !record.done => {
                self.refuse_held(device)?;
                self.restore(record).map(Some)
            }
            _ => Ok(None),
        }
    }
}
