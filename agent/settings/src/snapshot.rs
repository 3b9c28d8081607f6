//! A host's snapshot: all that planning reads of a host, as one JSON text for whoever plans elsewhere.
//!
//! A recorded host is files as the kernel shows them, to find faults of reading; a snapshot is what was read of
//! them. Both plan alike. The form has a number: what is not known is refused, never guessed over.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use domain::code::Code;
use domain::refusal::Refusal;
use kernel_glue::host::Host;
use planner::json;
use planner::target::{Arch, Versions};
use serde::{Deserialize, Serialize};

use crate::reservation::Reservation;

/// The form that is written and read.
pub const VERSION: u32 = 1;
/// Its name in the run directory, where the agent publishes it.
pub const FILE: &str = "host.json";
/// Bytes a snapshot may have: twice what 4,096 functions and 1,024 nodes take.
pub const MAX_BYTES: usize = 16 << 20;

/// All that planning reads of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// [`VERSION`].
    pub version: u32,
    /// The version of variantd that wrote it.
    pub variantd: String,
    /// What runs guests there.
    pub target: Runs,
    /// The host, with what VFIO showed of its devices.
    pub host: Host,
    /// What is reserved for guests.
    pub reservations: Vec<Reservation>,
}

/// What runs guests on a host; `None` where it was not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Runs {
    /// libvirt and QEMU.
    pub versions: Option<Versions>,
    /// The processor's architecture.
    pub arch: Option<Arch>,
}

/// The number of a form, whatever else it has.
#[derive(Deserialize)]
struct Form {
    version: u64,
}

impl Snapshot {
    /// What is known of a host.
    #[must_use]
    pub fn new(host: Host, target: Runs, reservations: Vec<Reservation>) -> Self {
        Self {
            version: VERSION,
            variantd: env!("CARGO_PKG_VERSION").to_owned(),
            target,
            host,
            reservations,
        }
    }

    /// Its text, which ends with a line end.
    #[must_use]
    pub fn text(&self) -> String {
        json::text(self) + "\n"
    }

    /// Reads a file.
    ///
    /// # Errors
    /// A refusal that names the file and the way out.
    pub fn read(path: &Path) -> Result<Self, Refusal> {
        let name = path.display();
        let bytes = bytes(path).map_err(|error| {
            let hint = "write one with 'variantctl snapshot FILE'";
            let reason = format!("cannot read snapshot '{name}': {error}");
            Refusal::new(Code::SnapshotUnreadable, reason, hint)
        })?;
        Self::parse(&bytes, &name.to_string())
    }

    /// Reads a text; `name` is what it is called in a refusal.
    ///
    /// # Errors
    /// A refusal when it is too large, of another form, or no host.
    pub fn parse(bytes: &[u8], name: &str) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BYTES {
            let reason = format!("snapshot '{name}' is larger than {} MiB", MAX_BYTES >> 20);
            let hint = "see that it is one: no host's is that large";
            return Err(Refusal::new(Code::SnapshotTooLarge, reason, hint));
        }
        match serde_json::from_slice::<Self>(bytes) {
            Ok(snapshot) if snapshot.version == VERSION => Ok(snapshot),
            Ok(snapshot) => Err(other_form(name, snapshot.version.into())),
            Err(error) => Err(misread(bytes, name, &error)),
        }
    }
}

impl Runs {
    /// This machine, with the versions that libvirt said last.
    #[must_use]
    pub fn here(versions: Option<Versions>) -> Self {
        Self {
            versions,
            arch: std::env::consts::ARCH.parse().ok(),
        }
    }
}

/// At most one byte more than a snapshot may have.
fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    file.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Another form is to be named even where nothing else of it can be read.
fn misread(bytes: &[u8], name: &str, error: &serde_json::Error) -> Refusal {
    match serde_json::from_slice::<Form>(bytes) {
        Ok(form) if form.version != u64::from(VERSION) => other_form(name, form.version),
        _ => {
            let reason = format!("'{name}' is no snapshot of a host: {error}");
            let hint = "write one with 'variantctl snapshot FILE'";
            Refusal::new(Code::SnapshotUnreadable, reason, hint)
        }
    }
}

fn other_form(name: &str, found: u64) -> Refusal {
    let reason = format!("snapshot '{name}' has form {found}, and this variantd reads {VERSION}");
    let hint = match found > VERSION.into() {
        true => "read it with a newer variantctl, or write it with one of this version",
        false => "write it anew with 'variantctl snapshot FILE' of this version",
    };
    Refusal::new(Code::SnapshotVersion, reason, hint)
}

#[cfg(test)]
mod tests;
