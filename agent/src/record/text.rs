//! The text of a record: JSON, one device each. variantd.journal(5) documents it.

use std::collections::BTreeSet;
use std::io;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::{Deserialize, Serialize};

use super::{DeviceRecord, Manual, OfDomain, Purpose};
use crate::assignment::{self, Phase, Record};
use crate::libvirt::DomainRef;
use crate::service::ServiceName;

/// The version written, and the newest that can be read.
pub const VERSION: u32 = 2;
/// Maximum size of a record in bytes.
pub const LIMIT: u64 = 64 << 10;

/// Why a text is not a valid record.
#[derive(Debug)]
pub enum Unusable {
    /// Written by a newer variantd, in an unknown format.
    Newer(u32),
    /// Anything else.
    Damaged(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    version: u32,
    device: PciAddress,
    owner: Owner,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    target: Option<DriverName>,
    #[serde(default)]
    before: Option<Before>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    phase: Option<Phase>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<PciAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guest: Option<Named>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lender: Option<Lender>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    units: BTreeSet<ServiceName>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Owner {
    Domain(Named),
    Admin,
    Reservation,
    /// The device was restored; services that were stopped for it do not run again yet.
    None,
}

/// An owner outside of any guest.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Outside {
    Admin,
    Reservation,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    uuid: String,
    name: String,
}

/// The owner from which a domain has borrowed the device.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Lender {
    owner: Outside,
    target: DriverName,
    before: Before,
    phase: Phase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<PciAddress>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    guest: Option<Named>,
}

/// The fields of a record of every version.
#[derive(Deserialize)]
struct Outline {
    version: u32,
    device: PciAddress,
    owner: Option<serde_json::Value>,
}

/// The text of a record that [`read`] accepts.
///
/// # Errors
/// It would exceed the size limit.
pub fn write(record: &DeviceRecord) -> io::Result<String> {
    let text = serde_json::to_string_pretty(&Text::of(record)).map_err(io::Error::other)?;
    match text.len() as u64 > LIMIT {
        true => {
            let why = format!("its {} bytes exceed the limit of {LIMIT} bytes", text.len());
            Err(io::Error::new(io::ErrorKind::FileTooLarge, why))
        }
        false => Ok(text),
    }
}

/// Reads a record that must be about `device`; trusts nothing in it.
///
/// # Errors
/// It is too large, invalid, or from a newer version.
pub fn read(bytes: &[u8], device: PciAddress) -> Result<DeviceRecord, Unusable> {
    let damaged = |reason: String| Err(Unusable::Damaged(reason));
    if bytes.len() as u64 > LIMIT {
        return damaged(format!("it is larger than {LIMIT} bytes"));
    }
    match serde_json::from_slice::<Outline>(bytes) {
        // Before the strict parser, which would call a newer text with new fields damaged, and set it aside.
        Ok(outline) if outline.version > VERSION => return Err(Unusable::Newer(outline.version)),
        _ => {}
    }
    let text: Text = match serde_json::from_slice(bytes) {
        Ok(text) => text,
        Err(error) => return damaged(error.to_string()),
    };
    match text {
        text if text.version != VERSION => damaged(format!("it has version {}", text.version)),
        text if text.device != device => damaged(format!("it is about '{}'", text.device)),
        text => text.record().map_err(Unusable::Damaged),
    }
}

/// The domain in a text of any version.
///
/// # Errors
/// The version of a text with an unknown owner.
pub(super) fn outline(bytes: &[u8], device: PciAddress) -> Result<Option<DomainRef>, u32> {
    let Ok(outline) = serde_json::from_slice::<Outline>(bytes) else {
        return Ok(None);
    };
    if outline.device != device {
        return Ok(None);
    }
    let owner = outline.owner.unwrap_or_default();
    match serde_json::from_value(owner) {
        Ok(Owner::Domain(named)) => Ok(named.reference()),
        Ok(Owner::Admin | Owner::Reservation | Owner::None) => Ok(None),
        Err(_) if outline.version > VERSION => Err(outline.version),
        Err(_) => Ok(None),
    }
}

impl Text {
    fn of(record: &DeviceRecord) -> Self {
        let mut text = Self {
            version: VERSION,
            device: record.device,
            owner: Owner::None,
            target: None,
            before: None,
            phase: None,
            leader: None,
            guest: None,
            lender: record.manual.as_ref().and_then(Lender::of),
            units: record.units.clone(),
        };
        if let Some(of) = &record.domain {
            text.owner = Owner::Domain(Named::of(&of.domain));
            text.target = Some(of.record.target.clone());
            text.before = of.record.before.clone();
            text.phase = Some(of.record.phase);
        } else if let Some(lender) = text.lender.take() {
            text.owner = lender.owner.into();
            text.target = Some(lender.target);
            text.before = Some(lender.before);
            text.phase = Some(lender.phase);
            text.leader = lender.leader;
            text.guest = lender.guest;
        }
        text
    }

    fn record(self) -> Result<DeviceRecord, String> {
        let device = self.device;
        let mut record = DeviceRecord::new(device);
        record.units = self.units;
        let lender = self.lender.map(|lender| lender.manual(device));
        record.manual = lender.transpose()?;
        let purpose = (self.leader, self.guest);
        let rest = (self.target, self.phase, self.before, purpose);
        match (self.owner, rest) {
            (Owner::Domain(named), (Some(target), Some(phase), before, (None, None))) => {
                let domain = named.reference().ok_or("its domain has no UUID")?;
                let owner = assignment::Owner::Domain;
                let record_of = of(owner, target, before, phase);
                record.domain = Some(OfDomain {
                    domain,
                    record: record_of,
                });
            }
            (owner, (Some(target), Some(phase), Some(before), (leader, guest)))
                if record.manual.is_none() =>
            {
                let owner = Outside::of(&owner).ok_or("its owner contradicts its other fields")?;
                let lender = Lender {
                    owner,
                    target,
                    before,
                    phase,
                    leader,
                    guest,
                };
                record.manual = Some(lender.manual(device)?);
            }
            (Owner::None, (None, None, None, (None, None)))
                if record.manual.is_none() && !record.units.is_empty() => {}
            _ => return Err("its owner contradicts its other fields".into()),
        }
        Ok(record)
    }
}

impl Lender {
    fn of(manual: &Manual) -> Option<Self> {
        Some(Self {
            owner: match manual.record.owner {
                assignment::Owner::Reservation => Outside::Reservation,
                _ => Outside::Admin,
            },
            target: manual.record.target.clone(),
            before: manual.record.before.clone()?,
            phase: manual.record.phase,
            leader: manual.purpose.leader,
            guest: manual.purpose.guest.as_ref().map(Named::of),
        })
    }

    fn manual(self, device: PciAddress) -> Result<Manual, String> {
        let guest = self.guest.map(Named::reference);
        let guest = guest.map(|guest| guest.ok_or("its guest has no UUID"));
        Ok(Manual {
            device,
            purpose: Purpose {
                leader: self.leader,
                guest: guest.transpose()?,
            },
            record: of(
                match self.owner {
                    Outside::Admin => assignment::Owner::Admin,
                    Outside::Reservation => assignment::Owner::Reservation,
                },
                self.target,
                Some(self.before),
                self.phase,
            ),
        })
    }
}

impl Outside {
    fn of(owner: &Owner) -> Option<Self> {
        match owner {
            Owner::Admin => Some(Self::Admin),
            Owner::Reservation => Some(Self::Reservation),
            Owner::Domain(_) | Owner::None => None,
        }
    }
}

impl From<Outside> for Owner {
    fn from(owner: Outside) -> Self {
        match owner {
            Outside::Admin => Self::Admin,
            Outside::Reservation => Self::Reservation,
        }
    }
}

impl Named {
    fn of(domain: &DomainRef) -> Self {
        Self {
            uuid: domain.uuid.to_string(),
            name: domain.name.clone(),
        }
    }

    fn reference(self) -> Option<DomainRef> {
        Some(DomainRef {
            uuid: self.uuid.parse().ok()?,
            name: self.name,
        })
    }
}

pub(super) fn of(
    owner: assignment::Owner,
    target: DriverName,
    before: Option<Before>,
    phase: Phase,
) -> Record {
    Record {
        owner,
        target,
        before,
        phase,
        replaces: None,
    }
}
