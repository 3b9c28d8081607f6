//! The entry of one domain: the records of its devices together.

use super::*;
use crate::assignment::{Event, next};

/// The devices of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The domain's name at the time.
    pub name: String,
    /// Its devices, in address order.
    pub devices: Vec<Held>,
}

/// A device of a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The device.
    pub address: PciAddress,
    /// Its record.
    pub record: Record,
}

/// All records, as far as they can be read.
#[derive(Debug, Default)]
pub struct Survey {
    /// The entries of domains, from the readable records.
    pub found: Vec<(DomainRef, Entry)>,
    /// Devices that are bound outside of any guest.
    pub manual: Vec<Manual>,
    /// Why another record cannot be read at present. Does not include records of a newer version, which stay
    /// unreadable.
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
    /// The entry's line after an event; `None` if the domain no longer has the device.
    pub(crate) fn after(&self, event: &Event) -> Option<Self> {
        let record = next(Some(&self.record), event).record?;
        let address = self.address;
        Some(Self { address, record })
    }

    /// True while the bind or release has not ended.
    #[must_use]
    pub fn is_unsettled(&self) -> bool {
        self.record.phase.is_unsettled()
    }
}

impl Records {
    /// The entry of a domain; `None` if it has no device.
    ///
    /// # Errors
    /// A record that may belong to the domain cannot be read, or belongs to it and has a newer version.
    pub fn entry(&self, domain: &DomainUuid) -> Result<Option<Entry>, RecordError> {
        let turn = self.turn()?;
        let of_domain = together(self.of_domain(&turn, domain)?);
        let entry = entries(of_domain).into_iter().next();
        Ok(entry.map(|(_, entry)| entry))
    }

    /// Writes the new entry of a domain; it is on disk when this returns.
    ///
    /// # Errors
    /// It may not be on disk: nothing may be changed on the host then.
    pub fn set_entry(&self, domain: &DomainRef, devices: &[Held]) -> Result<(), RecordError> {
        let turn = self.turn()?;
        let mut old = self.of_domain(&turn, &domain.uuid)?;
        // First the new records, then the ends of the old ones: a crash in between leaves a device recorded twice, and never unrecorded.
        for held in devices {
            let (domain, record) = (domain.clone(), held.record.clone());
            let set = |one: &mut DeviceRecord| one.domain = Some(OfDomain { domain, record });
            match old.iter().find(|one| one.device == held.address) {
                Some(known) => self.change_from(&turn, held.address, Some(known.clone()), set)?,
                None => self.change(&turn, held.address, set)?,
            }
        }
        old.retain(|one| !devices.iter().any(|held| held.address == one.device));
        // While one record is `binding`, the others count as binding, too: so those end first.
        old.sort_by_key(DeviceRecord::is_binding);
        for one in old {
            self.change_from(&turn, one.device, Some(one), |one| one.domain = None)?;
        }
        Ok(())
    }

    /// The entries of domains, from all readable records.
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

    /// The domains that have a device, including records of a newer version, and whether there may be more.
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

    /// All readable records, in address order, and why another one cannot be read.
    pub(super) fn read_all(&self) -> (Vec<DeviceRecord>, Option<RecordError>) {
        let (mut records, mut unread) = (Vec::new(), None);
        let devices = self.devices().unwrap_or_else(|why| {
            log(&why);
            unread = Some(why);
            Vec::new()
        });
        for device in devices {
            match self.load(device) {
                Ok(record) => records.extend(record),
                Err(why) => {
                    log(&why);
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

/// Groups records by domain; skips other owners.
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

/// Logs a record that is not read, with the way out.
fn log(why: &RecordError) {
    let hint = match why {
        RecordError::Newer { .. } => "; install that version again",
        RecordError::Failed { .. } => "",
    };
    error!("{why}: its devices keep their drivers{hint}");
}
