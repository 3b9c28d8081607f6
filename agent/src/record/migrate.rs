//! Migrates the files of variantd versions before version 2 of the records: reads them, writes records, and only then
//! removes them.
//!
//! ```text
//! journal/UUID.json     a domain's devices           \
//! bound/ADDRESS.json    a device bound manually       > merged by device -> records/ADDRESS.json -> the old files
//! removed
//! stopped/SERVICE.json  a service stopped for devices /
//! ```
//!
//! No other operation uses the records before: an agent that ends meanwhile leaves a state from which the next one
//! reaches the same records. An invalid file is set aside; an unreadable file ends the attempt, and the next use of the
//! records retries.
//!
//! Before a downgrade the same goes the other way: the older files are written, and only then the records are removed.

use kernel_glue::driver::DriverName;
use kernel_glue::rebind::Before;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::info;

use super::*;

/// The version of such files.
const OLDER: u32 = 1;
/// The three directories, each with the parser of its files.
const KINDS: [(&str, Parse); 3] = [("journal", entry), ("bound", bound), ("stopped", stopped)];

/// Parses a file of this name; trusts nothing in it.
pub(super) type Parse = fn(&Path, &[u8]) -> Result<Vec<DeviceRecord>, String>;

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OldEntry {
    version: u32,
    uuid: String,
    name: String,
    devices: Vec<OldHeld>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OldHeld {
    address: PciAddress,
    driver: DriverName,
    before: Option<Before>,
    state: Phase,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OldBound {
    version: u32,
    device: PciAddress,
    driver: DriverName,
    before: Before,
    done: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    leader: Option<PciAddress>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct OldStopped {
    version: u32,
    service: ServiceName,
    devices: BTreeSet<PciAddress>,
}

/// A record that files of an older version cannot describe.
#[derive(Debug, Error)]
pub enum NoOlderForm {
    /// It is bound for a guest of another management system, and the older version would not know that.
    #[error(
        "device '{device}' is bound for guest '{guest}' of KubeVirt, which such a version never releases"
    )]
    Guest {
        /// The device.
        device: PciAddress,
        /// The guest's name.
        guest: String,
    },
    /// The text is too large.
    #[error("'{name}' would be larger than {LIMIT} bytes")]
    Size {
        /// The file.
        name: String,
    },
}

/// The records could not be migrated back.
#[derive(Debug, Error)]
pub enum MigrateBackError {
    /// A record has no older form.
    #[error(transparent)]
    NoForm(#[from] NoOlderForm),
    /// A file could not be read or changed.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Whether there is a file to migrate; also true if that is unknown.
pub(super) fn is_due(run: &Path) -> bool {
    let is_file =
        |(path, _): &(PathBuf, Parse)| path.symlink_metadata().is_ok_and(|one| one.is_file());
    older(run).map_or(true, |files| files.iter().any(is_file))
}

/// The files of an older version, each with its parser.
pub(super) fn older(run: &Path) -> io::Result<Vec<(PathBuf, Parse)>> {
    let mut all = Vec::new();
    for (name, parse) in KINDS {
        let paths = files(&Files, &run.join(name))?.into_iter();
        all.extend(paths.map(|path| (path, parse)));
    }
    Ok(all)
}

/// Parses a file of an older version, of any kind; its name is `name`, without suffix.
#[must_use]
pub fn of_older_version(name: &Path, bytes: &[u8]) -> Vec<DeviceRecord> {
    let read = KINDS
        .iter()
        .filter_map(|(_, parse)| parse(name, bytes).ok());
    read.flatten().collect()
}

impl Records {
    pub(super) fn migrate(&self) -> Result<(), RecordError> {
        let (mut records, mut migrated) = (BTreeMap::new(), Vec::new());
        for (name, parse) in KINDS {
            for path in list(&*self.storage, &self.run.join(name))? {
                if let Some(found) = self.load_older(&path, parse)? {
                    merge(&mut records, found);
                    migrated.push(path);
                }
            }
        }
        for (device, older) in records {
            // From an earlier attempt, or from before a downgrade.
            let known = self.load(device)?;
            self.store(&older.over(known))?;
        }
        // Only now: until all records are written, the old files are the only complete state.
        for path in &migrated {
            match self.storage.remove(path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", path, why));
                }
                _ => info!(
                    "migrated '{}' of an older version to records by device",
                    path.display()
                ),
            }
        }
        Ok(())
    }

    /// Writes all records as files of an older version, and removes the records; returns how many there were. An
    /// error, or the end of the process, leaves files from which [`migrate`](Self::migrate) makes the same records.
    ///
    /// # Errors
    /// A record is unreadable or has no such form ([`older_form`]): nothing was changed then. A file cannot be written or removed.
    pub fn migrate_back(&self) -> Result<usize, MigrateBackError> {
        let _turn = self.turn()?;
        let mut records = Vec::new();
        for device in self.listed()? {
            records.extend(self.load(device)?);
        }
        let files = older_form(&records)?;
        for (name, text) in files {
            let path = self.run.join(name);
            let written = self.storage.replace(&path, &text);
            written.map_err(|why| failed("write", &path, why))?;
        }
        // Only now: until all older files are written, the records are the only complete state.
        for record in &records {
            let path = self.path(record.device);
            match self.storage.remove(&path) {
                Err(why) if why.kind() != io::ErrorKind::NotFound => {
                    return Err(failed("remove", &path, why).into());
                }
                _ => {}
            }
        }
        self.notifier.notify();
        Ok(records.len())
    }

    fn load_older(
        &self,
        path: &Path,
        parse: Parse,
    ) -> Result<Option<Vec<DeviceRecord>>, RecordError> {
        let bytes = match self.storage.read(path, LIMIT + 1) {
            Err(why) if is_no_file(&why) => {
                error!(
                    "'{}' is not a regular file and was not migrated",
                    path.display()
                );
                return Ok(None);
            }
            read => read.map_err(|why| failed("read", path, why))?,
        };
        let Some(bytes) = bytes else { return Ok(None) };
        match parse(path, &bytes) {
            Ok(records) => Ok(Some(records)),
            Err(reason) => set_aside(path, &reason).map(|()| None),
        }
    }
}

/// The files of an older version with the same content: names below the run directory, and texts.
///
/// # Errors
/// The first record, or domain, that such files cannot describe.
pub fn older_form(records: &[DeviceRecord]) -> Result<Vec<(String, String)>, NoOlderForm> {
    let mut files = Vec::new();
    let mut add = |name: String, text: serde_json::Result<String>| match text {
        Ok(text) if text.len() as u64 <= LIMIT => {
            files.push((name, text));
            Ok(())
        }
        _ => Err(NoOlderForm::Size { name }),
    };
    let mut units: BTreeMap<&ServiceName, BTreeSet<PciAddress>> = BTreeMap::new();
    for record in records {
        for unit in &record.units {
            units.entry(unit).or_default().insert(record.device);
        }
        let Some(manual) = &record.manual else {
            continue;
        };
        if let Some(guest) = &manual.purpose.guest {
            let (device, guest) = (record.device, guest.name.clone());
            return Err(NoOlderForm::Guest { device, guest });
        }
        if let Some(old) = OldBound::of(manual) {
            let text = serde_json::to_string_pretty(&old);
            add(format!("bound/{}.json", record.device), text)?;
        }
    }
    for (domain, entry) in entry::entries(together(records.to_vec())) {
        let text = serde_json::to_string_pretty(&OldEntry::of(&domain, entry));
        add(format!("journal/{}.json", domain.uuid), text)?;
    }
    for (service, devices) in units {
        let old = OldStopped {
            version: OLDER,
            service: service.clone(),
            devices,
        };
        let text = serde_json::to_string_pretty(&old);
        add(format!("stopped/{service}.json"), text)?;
    }
    Ok(files)
}

impl OldEntry {
    fn of(domain: &DomainRef, entry: Entry) -> Self {
        let devices = entry.devices.into_iter().map(|held| OldHeld {
            address: held.address,
            driver: held.record.target,
            before: held.record.before,
            state: held.record.phase,
        });
        Self {
            version: OLDER,
            uuid: domain.uuid.to_string(),
            name: domain.name.clone(),
            devices: devices.collect(),
        }
    }
}

impl OldBound {
    /// `None` without a previous state, which every manual record has.
    fn of(manual: &Manual) -> Option<Self> {
        Some(Self {
            version: OLDER,
            device: manual.device,
            driver: manual.record.target.clone(),
            before: manual.record.before.clone()?,
            done: manual.record.phase == Phase::Bound,
            leader: manual.purpose.leader,
        })
    }
}

impl DeviceRecord {
    /// Merges with what is `known`. For a device that an older agent found in a running guest, the record from before
    /// the downgrade knows more.
    fn over(self, known: Option<Self>) -> Self {
        let known = known.unwrap_or_else(|| Self::new(self.device));
        let known_of = |of: &OfDomain| {
            let same = known.domain.as_ref();
            same.filter(|one| one.domain.uuid == of.domain.uuid && of.record.before.is_none())
        };
        Self {
            domain: match self.domain {
                Some(of) => Some(known_of(&of).cloned().unwrap_or(of)),
                None => known.domain,
            },
            manual: self.manual.or(known.manual),
            units: self.units.into_iter().chain(known.units).collect(),
            ..self
        }
    }
}

/// Merges the content of another file about the same devices. A device has one domain: the first by UUID.
fn merge(all: &mut BTreeMap<PciAddress, DeviceRecord>, found: Vec<DeviceRecord>) {
    for one in found {
        let known = all.remove(&one.device);
        let device = one.device;
        let merged = match known {
            Some(known) => known.over(Some(one)),
            None => one,
        };
        all.insert(device, merged);
    }
}

fn entry(path: &Path, bytes: &[u8]) -> Result<Vec<DeviceRecord>, String> {
    let old: OldEntry = parse(bytes, |old: &OldEntry| old.version)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    let uuid = old.uuid.parse();
    let devices: BTreeSet<_> = old.devices.iter().map(|held| held.address).collect();
    let (Ok(uuid), true) = (uuid, old.uuid == name) else {
        return Err(format!("it is about domain {}", old.uuid));
    };
    if devices.len() != old.devices.len() {
        return Err("it names a device twice".into());
    }
    let name = old.name;
    let domain = DomainRef { uuid, name };
    let records = old.devices.into_iter().map(|held| DeviceRecord {
        domain: Some(OfDomain {
            domain: domain.clone(),
            record: text::of(Owner::Domain, held.driver, held.before, held.state),
        }),
        ..DeviceRecord::new(held.address)
    });
    Ok(records.collect())
}

fn bound(path: &Path, bytes: &[u8]) -> Result<Vec<DeviceRecord>, String> {
    let old: OldBound = parse(bytes, |old: &OldBound| old.version)?;
    let name = path.file_stem().unwrap_or_default().to_string_lossy();
    if old.device.to_string() != name {
        return Err(format!("it is about '{}'", old.device));
    }
    let phase = match old.done {
        true => Phase::Bound,
        // The older version did not record whether it was binding or releasing; `Degraded` is restored in both cases.
        false => Phase::Degraded,
    };
    let manual = Manual {
        device: old.device,
        purpose: Purpose {
            leader: old.leader,
            guest: None,
        },
        record: text::of(Owner::Admin, old.driver, Some(old.before), phase),
    };
    Ok(vec![DeviceRecord {
        manual: Some(manual),
        ..DeviceRecord::new(old.device)
    }])
}

fn stopped(_: &Path, bytes: &[u8]) -> Result<Vec<DeviceRecord>, String> {
    let old: OldStopped = parse(bytes, |old: &OldStopped| old.version)?;
    let records = old.devices.into_iter().map(|device| DeviceRecord {
        units: [old.service.clone()].into(),
        ..DeviceRecord::new(device)
    });
    Ok(records.collect())
}

fn parse<T: DeserializeOwned>(bytes: &[u8], version: impl Fn(&T) -> u32) -> Result<T, String> {
    if bytes.len() as u64 > LIMIT {
        return Err(format!("it is larger than {LIMIT} bytes"));
    }
    let old: T = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    match version(&old) {
        OLDER => Ok(old),
        other => Err(format!("it has version {other}")),
    }
}
