//! The text of a journal entry: JSON, one domain each. variantd.journal(5) says the same for people.

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::{Deserialize, Serialize};

use crate::assignment::{Event, Owner, Record, next};
use crate::libvirt::DomainRef;

pub use crate::assignment::Phase as State;

/// The version written, and the newest that is read.
pub(crate) const VERSION: u32 = 1;
/// Larger than any entry we write, in bytes.
pub(super) const LIMIT: u64 = 64 << 10;

/// What one domain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    version: u32,
    uuid: String,
    /// The domain's name at the time.
    pub name: String,
    /// Its devices, in address order.
    pub devices: Vec<Held>,
}

/// A device that a domain holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The device.
    pub address: PciAddress,
    /// The driver it was, or is about to be, bound to.
    pub driver: DriverName,
    /// Driver and override before; `None` when the device was found in a running guest, and then
    /// it stays where it is.
    pub before: Option<Before>,
    /// How far it is.
    pub state: State,
}

/// Why a text is no entry.
#[derive(Debug)]
pub enum Unusable {
    /// Written by a newer variantd, whose meaning is not known here.
    Newer(u32),
    /// Anything else.
    Damaged(String),
}

/// What every version of an entry says.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Outline {
    version: u32,
    pub(super) uuid: String,
    pub(super) name: String,
    devices: Vec<Line>,
}

#[derive(Clone, Debug, Deserialize)]
struct Line {
    address: PciAddress,
}

impl Entry {
    /// An entry about `domain`.
    #[must_use]
    pub fn new(domain: &DomainRef, devices: Vec<Held>) -> Self {
        Self {
            version: VERSION,
            uuid: domain.uuid.to_string(),
            name: domain.name.clone(),
            devices,
        }
    }

    /// Reads an entry that must be about the domain whose UUID is `uuid`; trusts nothing in it.
    ///
    /// # Errors
    /// When it is larger than any we write, is none, or is from a newer version.
    pub fn parse(bytes: &[u8], uuid: &str) -> Result<Self, Unusable> {
        parse(bytes, uuid)
    }

    /// The entry's line for a device.
    #[must_use]
    pub fn held(&self, device: PciAddress) -> Option<&Held> {
        self.devices.iter().find(|held| held.address == device)
    }

    /// The domain; `None` when the text names none.
    #[must_use]
    pub fn domain(&self) -> Option<DomainRef> {
        Some(DomainRef {
            uuid: self.uuid.parse().ok()?,
            name: self.name.clone(),
        })
    }
}

impl Held {
    /// What a domain has, as a line of its entry.
    pub(crate) fn of(address: PciAddress, record: Record) -> Self {
        Self {
            address,
            driver: record.target,
            before: record.before,
            state: record.phase,
        }
    }

    /// The device's record.
    pub(crate) fn record(&self) -> Record {
        Record {
            owner: Owner::Domain,
            target: self.driver.clone(),
            before: self.before.clone(),
            phase: self.state,
            replaces: None,
        }
    }

    /// What stands in the entry after an event; none when the domain has it no more.
    pub(crate) fn after(&self, event: &Event) -> Option<Self> {
        let record = next(Some(&self.record()), event).record;
        record.map(|record| Self::of(self.address, record))
    }

    /// True while neither the bind nor the release has come to its end.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.state.is_unsettled()
    }
}

impl Outline {
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }

    pub(super) fn has(&self, device: PciAddress) -> bool {
        self.devices.iter().any(|line| line.address == device)
    }
}

fn parse(bytes: &[u8], uuid: &str) -> Result<Entry, Unusable> {
    let damaged = |reason: String| Err(Unusable::Damaged(reason));
    if bytes.len() as u64 > LIMIT {
        return damaged(format!("it is larger than {LIMIT} bytes"));
    }
    match Outline::parse(bytes) {
        Some(outline) if outline.version > VERSION => return Err(Unusable::Newer(outline.version)),
        _ => {}
    }
    let entry: Entry = match serde_json::from_slice(bytes) {
        Ok(entry) => entry,
        Err(error) => return damaged(error.to_string()),
    };
    let devices: BTreeSet<_> = entry.devices.iter().map(|held| held.address).collect();
    match entry {
        _ if entry.version != VERSION => damaged(format!("it has version {}", entry.version)),
        _ if entry.uuid != uuid => damaged(format!("it is about domain {}", entry.uuid)),
        _ if devices.len() != entry.devices.len() => damaged("it names a device twice".into()),
        entry => Ok(entry),
    }
}
