//! A host snapshot: everything that planning reads of a host, as one JSON text for planning on another machine.
//!
//! A recorded host has files as the kernel shows them, to debug the reader; a snapshot has the result of reading them.
//! Plans from both are the same. The format has a version number: an unknown version is refused.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use domain::code::Code;
use domain::refusal::Refusal;
use kernel_glue::capacity::{Capacity, MAX_CPUS};
use kernel_glue::host::Host;
use planner::json;
use planner::stack::Stack;
use planner::target::{Arch, Target, Versions};
use serde::{Deserialize, Serialize};

use crate::file::capacity;
use crate::reservation::Reservation;

/// The format version that is written and read.
pub const VERSION: u32 = 1;
/// File name in the run directory, where the agent publishes it.
pub const FILE: &str = "host.json";
/// Maximum size of a snapshot in bytes: twice the size for 4,096 functions and 1,024 nodes.
pub const MAX_BYTES: usize = 16 << 20;

/// Everything that planning reads of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// [`VERSION`].
    pub version: u32,
    /// The version of variantd that wrote it.
    pub variantd: String,
    /// The versions that run guests on the host.
    pub target: Runs,
    /// The host, including regions that VFIO reported.
    pub host: Host,
    /// CPUs and huge pages, for NUMA layouts. `None` in the one that the agent publishes, which would change with each start of a
    /// guest, and in those of releases that did not read them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Capacity>,
    /// Devices reserved for guests.
    pub reservations: Vec<Reservation>,
}

/// The versions that run guests on a host; `None` if unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// libvirt and QEMU.
    pub versions: Option<Versions>,
    /// The processor's architecture.
    pub arch: Option<Arch>,
    /// What the pair can express, where that is not what its versions say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stack: Option<Stack>,
}

/// The version number of any format.
#[derive(Deserialize)]
struct Form {
    version: u64,
}

impl Snapshot {
    /// Makes the snapshot of a host.
    #[must_use]
    pub fn new(host: Host, target: Runs, reservations: Vec<Reservation>) -> Self {
        Self {
            version: VERSION,
            variantd: env!("CARGO_PKG_VERSION").to_owned(),
            target,
            host,
            capacity: None,
            reservations,
        }
    }

    /// The same with CPUs and huge pages.
    #[must_use]
    pub fn with_capacity(self, capacity: Option<Capacity>) -> Self {
        Self { capacity, ..self }
    }

    /// Its text, which ends with a newline.
    #[must_use]
    pub fn text(&self) -> String {
        json::text(self) + "\n"
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A refusal that names the file and the fix.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let name = path.display();
        let bytes = bytes(path).map_err(|error| {
            let hint = "write one with 'variantctl snapshot FILE'";
            let reason = format!("cannot read snapshot '{name}': {error}");
            Refusal::new(Code::SnapshotUnreadable, reason, hint)
        })?;
        Self::parse(&bytes, &name.to_string())
    }

    /// Parses a text; `name` names it in a refusal.
    ///
    /// # Errors
    /// A refusal if the text is too large, of an unknown format version, or not a host.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BYTES {
            let reason = format!("snapshot '{name}' is larger than {} MiB", MAX_BYTES >> 20);
            let hint = "pass a snapshot that 'variantctl snapshot' wrote; snapshots are smaller";
            return Err(Refusal::new(Code::SnapshotTooLarge, reason, hint));
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(snapshot) if snapshot.version == VERSION => bounded(snapshot, name),
            Ok(snapshot) => Err(other_form(name, snapshot.version.into())),
            // `deny_unknown_fields` refuses a newer format before its version is compared.
            Err(error) => Err(misread(bytes, name, &error)),
        }
    }
}

impl Runs {
    /// This machine, with the versions that libvirt reported last.
    #[must_use]
    pub fn here(versions: Option<Versions>) -> Self {
        Self {
            versions,
            arch: std::env::consts::ARCH.parse().ok(),
            stack: None,
        }
    }

    /// The pair of libvirt and QEMU; by its versions where nothing else is known of it.
    #[must_use]
    pub fn pair(&self) -> Option<Stack> {
        self.stack.or(self.versions.map(Stack::assumed))
    }

    /// Sets the pair. The stack itself is only kept where it says more than its versions.
    pub fn set_pair(&mut self, stack: Stack) {
        self.versions = Some(stack.versions());
        self.stack = Some(stack).filter(|stack| *stack != Stack::assumed(stack.versions()));
    }

    /// The target of plans for this host.
    #[must_use]
    pub fn target(&self) -> Target {
        let newest = || Stack::assumed(Versions::NEWEST_TESTED);
        self.pair().unwrap_or_else(newest).into()
    }
}

/// Refuses CPUs that no host has.
fn bounded(snapshot: Snapshot, name: &str) -> Result<Snapshot, Refusal> {
    match snapshot.capacity.as_ref().is_none_or(Capacity::is_bounded) {
        true => Ok(snapshot),
        false => {
            let reason = format!(
                "snapshot '{name}' names more than {MAX_CPUS} CPUs, or huge pages of size 0"
            );
            let hint = "pass a snapshot that 'variantctl snapshot' wrote";
            Err(Refusal::new(Code::SnapshotUnreadable, reason, hint))
        }
    }
}

/// Reads at most one byte more than the limit, so that the caller detects a larger file.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let most = MAX_BYTES as u64;
    let mut bytes = Vec::with_capacity(capacity(file.metadata()?.len(), most));
    file.take(most + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Names an unknown format version even if nothing else of the text can be read.
fn misread(bytes: &[u8], name: &str, error: &serde_json::Error) -> Refusal {
    match serde_json::from_slice::<Form>(bytes) {
        Ok(form) if form.version != u64::from(VERSION) => other_form(name, form.version),
        _ => {
            let reason = format!("'{name}' is not a host snapshot: {error}");
            let hint = "write one with 'variantctl snapshot FILE'";
            Refusal::new(Code::SnapshotUnreadable, reason, hint)
        }
    }
}

fn other_form(name: &str, found: u64) -> Refusal {
    let reason = format!(
        "snapshot '{name}' has format version {found}; this variantd reads \
        version {VERSION}"
    );
    let hint = match found > VERSION.into() {
        true => "use a newer variantctl, or write the snapshot with this version",
        false => "write it again with 'variantctl snapshot FILE' of this version",
    };
    Refusal::new(Code::SnapshotVersion, reason, hint)
}

#[cfg(test)]
mod tests;
