//! Devices reserved for guests: one file per device below `reserved.d`, applied at each boot.
//!
//! One file each instead of a list in variantd.conf: the agent writes them, and never edits a file that a person wrote;
//! one error affects one reservation; and a file is created or removed atomically. The file has the device's id beside
//! its address, so that another device at that address is refused.

mod apply;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use serde::Serialize;
use thiserror::Error;

use crate::assign::{AssignError, Assigner};
use planner::toml_text::{self, TomlError};
use settings::file;

pub use apply::{apply, claim};
pub use settings::reservation::Reservation;

/// The directory's name, beside variantd.conf.
pub const DIRECTORY: &str = "reserved.d";

/// The reply for a reservation that was made or ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reserved {
    /// The device.
    pub device: PciAddress,
    /// `reserved`, `unreserved` or `already-so`.
    pub outcome: &'static str,
}

/// A reservation could not be read, made or ended.
#[derive(Debug, Error)]
pub enum ReserveError {
    /// The file or the directory.
    #[error("cannot {action} reservation '{path}': {why}")]
    File {
        /// The action.
        action: &'static str,
        /// The path.
        path: String,
        /// Why.
        why: io::Error,
    },
    /// The file has an invalid value.
    #[error(transparent)]
    Meaning(#[from] TomlError),
    /// The address in the file is not the file's name.
    #[error("'{path}': it reserves '{device}', so the file must be '{device}.toml'")]
    Name {
        /// The file.
        path: String,
        /// The device in the file.
        device: PciAddress,
    },
    /// The device cannot be reserved.
    #[error(transparent)]
    Assign(#[from] AssignError),
}

/// The files below a directory.
#[derive(Clone, Debug)]
pub struct Reservations {
    directory: PathBuf,
    /// The reservations of a host without files.
    noted: Vec<Reservation>,
}

impl Reservations {
    /// Reservations below `directory`, which is created when needed.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            noted: Vec::new(),
        }
    }

    /// The reservations of a host snapshot; none can be made or ended.
    #[must_use]
    pub fn noted(noted: Vec<Reservation>) -> Self {
        Self {
            directory: PathBuf::from("/nonexistent"),
            noted,
        }
    }

    /// All reservations by file name; an invalid one as its error.
    #[must_use]
    pub fn all(&self) -> Vec<Result<Reservation, ReserveError>> {
        let paths = match self.paths() {
            Ok(paths) => paths,
            Err(why) if why.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(why) => return vec![Err(failed("list", &self.directory, why))],
        };
        let noted = self.noted.iter().cloned().map(Ok);
        noted.chain(paths.iter().map(|path| read(path))).collect()
    }

    /// Reserves a device that exists and has a known driver; binds nothing.
    ///
    /// # Errors
    /// A refusal if the device does not exist or has no driver; a failure if the file cannot be written.
    pub fn reserve(
        &self,
        assigner: &Assigner,
        device: PciAddress,
        driver: Option<DriverName>,
    ) -> Result<Reserved, ReserveError> {
        let id = assigner.reservable(device, driver.clone())?;
        let wanted = Reservation { device, id, driver };
        let path = self.path(device);
        // A damaged file is written again.
        let (outcome, written) = match read(&path).is_ok_and(|old| old == wanted) {
            true => ("already-so", Ok(())),
            false => ("reserved", file::replace(&path, &wanted.text(), 0o644)),
        };
        let settled = written.and_then(|()| file::settle(&path));
        settled.map_err(|why| failed("write", &path, why))?;
        Ok(Reserved::new(device, outcome))
    }

    /// Ends a reservation, including one of a missing device and one whose file is invalid.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn unreserve(&self, device: PciAddress) -> Result<Reserved, ReserveError> {
        let path = self.path(device);
        let outcome = match file::remove(&path) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                file::settle(&path).map(|()| "already-so")
            }
            removed => removed.map(|()| "unreserved"),
        };
        let outcome = outcome.map_err(|why| failed("remove", &path, why))?;
        Ok(Reserved::new(device, outcome))
    }

    fn paths(&self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.directory)?;
        let paths: io::Result<Vec<PathBuf>> = entries.map(|entry| Ok(entry?.path())).collect();
        let mut paths = paths?;
        paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
        paths.sort();
        Ok(paths)
    }

    fn path(&self, device: PciAddress) -> PathBuf {
        self.directory.join(format!("{device}.toml"))
    }
}

impl Reserved {
    fn new(device: PciAddress, outcome: &'static str) -> Self {
        Self { device, outcome }
    }
}

fn read(path: &Path) -> Result<Reservation, ReserveError> {
    let text = file::read(path).map_err(|why| failed("read", path, why))?;
    let found: Reservation = toml_text::read(&path.display().to_string(), &text)?;
    let name = path.file_stem().and_then(|name| name.to_str());
    if name == Some(&found.device.to_string()) {
        return Ok(found);
    }
    Err(ReserveError::Name {
        path: path.display().to_string(),
        device: found.device,
    })
}

fn failed(action: &'static str, path: &Path, why: io::Error) -> ReserveError {
    ReserveError::File {
        action,
        path: path.display().to_string(),
        why,
    }
}

#[cfg(test)]
mod tests;
