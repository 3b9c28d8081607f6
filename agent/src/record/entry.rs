//! What one domain has: the records of its devices together.

use super::*;
use crate::assignment::{Event, next};

/// What a domain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The domain's name at the time.
    pub name: String,
    /// Its devices, in address order.
    pub devices: Vec<Held>,
}

/// A device that a domain has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The device.
    pub address: PciAddress,
    /// How far it is.
    pub record: Record,
}

/// What is on record, as far as it can be read.
#[derive(Debug, Default)]
pub struct Survey {
    /// What domains have, by the records that can be read.
    pub found: Vec<(DomainRef, Entry)>,
    /// What is bound outside of any guest.
    pub manual: Vec<Manual>,
    /// Why another record cannot be read now; it may be later. One of a newer version is not meant: that stays so.
    pub unread: Option<RecordError>,
}

impl Entry {
    /// The entry's line for a device.
    #[must_use]
    pub fn held(&self, device: PciAddress) -> Option<&Held> {
        self.devices.iter().find(|held| held.address == device)
    }
}

impl Held {
    /// What is left of it after an event; none when the domain has it no more.
    pub(crate) fn after(&self, event: &Event) -> Option<Self> {
        let record = next(Some(&self.record), event).record?;
        let address = self.address;
        Some(Self { address, record })
    }

    /// True while neither the bind nor the release has come to its end.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.record.phase.is_unsettled()
    }
}

impl Records {
    /// What a domain has; `None` when that is nothing.
    ///
    /// # Errors
    /// When a record that may be of the domain cannot be read, or is of the domain and from a newer version.
    pub fn entry(&self, domain: &DomainUuid) -> Result<Option<Entry>, RecordError> {
        let turn = self.turn()?;
        let of_domain = together(self.of_domain(&turn, domain)?);
        let entry = entries(of_domain).into_iter().next();
        Ok(entry.map(|(_, entry)| entry))
    }

    /// Writes what a domain has from now on; it is on disk when this returns.
    ///
    /// # Errors
    /// When it may not be: nothing may be changed on the host then.
    pub fn set_entry(&self, domain: &DomainRef, devices: &[Held]) -> Result<(), RecordError> {
        let turn = self.turn()?;
        let mut old = self.of_domain(&turn, &domain.uuid)?;
        for held in devices {
            let (domain, record) = (domain.clone(), held.record.clone());
            let set = |one: &mut DeviceRecord| one.domain = Some(OfDomain { domain, record });
            self.change(&turn, held.address, set)?;
        }
        old.retain(|one| !devices.iter().any(|held| held.address == one.device));
        // While one that is `binding` stands, the others count as that: so those end first.
        old.sort_by_key(DeviceRecord::is_binding);
        for one in old {
            self.change(&turn, one.device, |one| one.domain = None)?;
        }
        Ok(())
    }

    /// What domains have, by all records that can be read.
    #[must_use]
    pub fn entries(&self) -> Vec<(DomainRef, Entry)> {
        self.survey().found
    }

    /// The same, and whether there may be more.
    #[must_use]
    pub fn survey(&self) -> Survey {
        let (records, unread) = self.read_all();
        let manual = records.iter().filter_map(|one| one.manual.clone());
        Survey {
            manual: manual.collect(),
            found: entries(together(records)),
            unread,
        }
    }

    /// The domains that have a device, also by a record of a newer version, and whether there may be more.
    pub(crate) fn domains(&self) -> (BTreeSet<DomainUuid>, Option<RecordError>) {
        let (mut domains, mut unread) = (BTreeSet::new(), None);
        let paths = self.devices().unwrap_or_else(|why| {
            unread = Some(why);
            Vec::new()
        });
        for device in paths {
            match self.outline(device) {
                Ok(holder) => domains.extend(holder.map(|holder| holder.uuid)),
                Err(why) if why.is_no_file() => {}
                Err(why) => unread = Some(why),
            }
        }
        (domains, unread)
    }

    /// All records that can be read, in address order, and why another one cannot be.
    pub(super) fn read_all(&self) -> (Vec<DeviceRecord>, Option<RecordError>) {
        let (mut records, mut unread) = (Vec::new(), None);
        let devices = self.devices().unwrap_or_else(|why| {
            error!("{why}: its devices stay where they are");
            unread = Some(why);
            Vec::new()
        });
        for device in devices {
            match self.load(device) {
                Ok(record) => records.extend(record),
                Err(why) => {
                    error!("{why}: its devices stay where they are");
                    if matches!(why, RecordError::Failed { .. }) && !why.is_no_file() {
                        unread.get_or_insert(why);
                    }
                }
            }
        }
        (records, unread)
    }

    /// The records of a domain's devices, as they are on disk.
    fn of_domain(
        &self,
        _turn: &MutexGuard<'_, bool>,
        domain: &DomainUuid,
    ) -> Result<Vec<DeviceRecord>, RecordError> {
        let mut records = Vec::new();
        for device in self.listed()? {
            match self.load(device) {
                Ok(record) => records.extend(record.filter(|one| one.is_of(domain))),
                Err(why) if why.is_no_file() => {}
                Err(newer @ RecordError::Newer { .. }) => {
                    let holder = self.outline(device)?;
                    if holder.is_some_and(|holder| holder.uuid == *domain) {
                        return Err(newer);
                    }
                }
                Err(why) => return Err(why),
            }
        }
        Ok(records)
    }
}

impl DeviceRecord {
    fn is_binding(&self) -> bool {
        let of_domain = self.domain.as_ref();
        of_domain.is_some_and(|of| of.record.phase == Phase::Binding)
    }
}

/// By domain; what other owners have is left out.
pub(super) fn entries(records: Vec<DeviceRecord>) -> Vec<(DomainRef, Entry)> {
    let mut all: BTreeMap<DomainUuid, Entry> = BTreeMap::new();
    for (address, of) in records
        .into_iter()
        .filter_map(|one| Some((one.device, one.domain?)))
    {
        let entry = all.entry(of.domain.uuid).or_insert_with(|| Entry {
            name: of.domain.name,
            devices: Vec::new(),
        });
        let record = of.record;
        entry.devices.push(Held { address, record });
    }
    let with_name = |(uuid, entry): (DomainUuid, Entry)| {
        let name = entry.name.clone();
        (DomainRef { uuid, name }, entry)
    };
    all.into_iter().map(with_name).collect()
}
