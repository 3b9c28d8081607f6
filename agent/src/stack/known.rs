//! The stack that was found last, stored for when libvirt cannot be reached: at boot it starts guests, and calls the hook,
//! before it accepts a connection.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use tracing::warn;

use planner::stack::Stack;
use planner::target::{Version, Versions};
use settings::file;

use super::emulator::Build;

/// File name in the state directory.
pub const FILE: &str = "stack.json";

/// libvirt's driver for QEMU, on Fedora, and on Debian for both architectures.
const DRIVERS: [&str; 3] = [
    "usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
    "usr/lib/aarch64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
];

/// What a stack was found for; it is asked again when one of these changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The emulator's path.
    pub emulator: PathBuf,
    /// Its build.
    pub build: Build,
    /// The running libvirt.
    pub libvirt: Version,
    /// The `st_ctime` of its driver for QEMU; `None` if it was not found.
    pub driver_ctime: Option<i64>,
    /// `/dev/iommu` exists.
    pub iommufd: bool,
}

/// A stack, and what it was found for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The installed programs.
    pub key: Key,
    /// What they can express.
    pub stack: Stack,
    /// Sources that gave no answer, with the reason.
    pub notes: Vec<String>,
}

/// The stack of this host.
#[derive(Debug, Default)]
pub struct KnownStack {
    root: PathBuf,
    path: PathBuf,
    found: RwLock<Option<Found>>,
}

impl Key {
    /// The present key; `None` if the emulator does not exist.
    #[must_use]
    pub fn now(root: &Path, emulator: &Path, libvirt: Version) -> Option<Self> {
        let ctime = |path: &str| Some(std::fs::metadata(root.join(path)).ok()?.ctime());
        Some(Self {
            emulator: emulator.to_owned(),
            build: Build::of(&below(root, emulator)).ok()?,
            libvirt,
            driver_ctime: DRIVERS.into_iter().find_map(ctime),
            iommufd: root.join("dev/iommu").exists(),
        })
    }

    fn is_current(&self, root: &Path, libvirt: Version) -> bool {
        Self::now(root, &self.emulator, libvirt).as_ref() == Some(self)
    }
}

/// An absolute path below the root directory.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl KnownStack {
    /// Loads the content of `path`; empty if there is no such file, or it has another form.
    #[must_use]
    pub fn load(root: PathBuf, path: PathBuf) -> Self {
        let text = file::read(&path).unwrap_or_default();
        let found = RwLock::new(serde_json::from_str(&text).ok());
        Self { root, path, found }
    }

    /// The root directory of the installed programs.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was found for the installed programs; `None` if one of them changed since.
    #[must_use]
    pub fn current(&self, libvirt: Version) -> Option<Found> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let found = found.clone()?;
        found.key.is_current(&self.root, libvirt).then_some(found)
    }

    /// The stack; by versions until the installed programs were asked.
    #[must_use]
    pub fn stack(&self, versions: Versions) -> Stack {
        let found = self.current(versions.libvirt);
        found.map_or_else(|| Stack::assumed(versions), |found| found.stack)
    }

    /// Stores what was found.
    pub fn learn(&self, found: Found) {
        let text = planner::json::text(&found) + "\n";
        if let Err(error) = file::replace(&self.path, &text, 0o644) {
            warn!("cannot write '{}': {error}", self.path.display());
        }
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}
