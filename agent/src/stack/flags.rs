//! libvirt's cache of a QEMU's capabilities: what libvirt learned when it last probed this emulator.
//!
//! `/var/cache/libvirt/qemu/capabilities/<sha256 of the emulator's path>.xml` (libvirt, qemu_capabilities.c). libvirt does
//! not use an entry of another emulator or of another build of itself, and neither do we. A flag that this libvirt
//! does not know is never in it. Of QMP's answers it has flags and the package, but no types of properties: only the emulator
//! itself tells these.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use roxmltree::Document;
use sha2::{Digest, Sha256};

use planner::target::Version;
use settings::file;

/// Maximum size; that of QEMU 11.1 for x86_64 has 142 KiB.
const MAX_BYTES: u64 = 4 << 20;
/// Maximum number of flags, and length of a name.
const MAX_FLAGS: usize = 4096;
const MAX_NAME: usize = 128;

const DIRECTORY: &str = "var/cache/libvirt/qemu/capabilities";

/// An entry of the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The emulator's path.
    pub emulator: String,
    /// Its `st_ctime`.
    pub emulator_ctime: i64,
    /// The latest `st_ctime` of libvirt's daemon and its modules.
    pub libvirt_ctime: i64,
    /// libvirt's version.
    pub libvirt: Version,
    /// QEMU's version.
    pub qemu: Version,
    /// QEMU's package, as its distribution names it.
    pub package: Option<String>,
    /// The flags.
    pub flags: BTreeSet<String>,
}

/// The installed programs, for which an entry must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The emulator's path.
    pub emulator: String,
    /// Its `st_ctime`.
    pub emulator_ctime: i64,
    /// The `st_ctime` of libvirt's driver for QEMU; `None` if it was not found.
    pub driver_ctime: Option<i64>,
    /// The running libvirt's version.
    pub libvirt: Version,
}

impl Entry {
    /// Reads the entry for the installed programs below `root`; `None` if there is none that is valid for them.
    ///
    /// # Errors
    /// The file cannot be read, or is not one of root's.
    pub fn read(root: &Path, installed: &Installed) -> io::Result<Option<Self>> {
        let owner = std::fs::metadata(root)?.uid();
        let path = path(root, &installed.emulator);
        let text = match file::read_trusted(MAX_BYTES, &path, |kind| trusted(kind, owner)) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        Ok(Self::parse(&text).filter(|entry| entry.fits(installed)))
    }

    /// Parses an entry; `None` if a part is missing or invalid.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let document = Document::parse(text)
            .ok()
            .filter(|_| text.len() as u64 <= MAX_BYTES)?;
        let root = document.root_element();
        let text = |name: &str| {
            let node = root.children().find(|node| node.has_tag_name(name))?;
            node.text().filter(|text| text.len() <= MAX_NAME)
        };
        let version = |name| Some(Version::from_number(text(name)?.parse().ok()?));
        let flags = root.children().filter(|node| node.has_tag_name("flag"));
        let flags = flags.filter_map(|node| node.attribute("name"));
        let flags: BTreeSet<String> = flags
            .filter(|name| name.len() <= MAX_NAME)
            .take(MAX_FLAGS)
            .map(str::to_owned)
            .collect();
        (root.has_tag_name("qemuCaps") && !flags.is_empty()).then_some(())?;
        let emulator = root.children().find(|node| node.has_tag_name("emulator"))?;
        Some(Self {
            emulator: emulator.text()?.to_owned(),
            emulator_ctime: text("qemuctime")?.parse().ok()?,
            libvirt_ctime: text("selfctime")?.parse().ok()?,
            libvirt: version("selfvers")?,
            qemu: version("version")?,
            package: text("package").map(str::to_owned),
            flags,
        })
    }

    /// True if it was written by this libvirt about this emulator.
    #[must_use]
    pub fn fits(&self, installed: &Installed) -> bool {
        let is_new = |driver| self.libvirt_ctime >= driver;
        self.emulator == installed.emulator
            && self.emulator_ctime == installed.emulator_ctime
            && self.libvirt == installed.libvirt
            // libvirt compares with the latest ctime of its daemon and modules; one that is newer than the entry was installed after it.
            && installed.driver_ctime.is_none_or(is_new)
    }
}

/// The file for an emulator.
fn path(root: &Path, emulator: &str) -> PathBuf {
    let digest = Sha256::digest(emulator.as_bytes());
    let name: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    root.join(DIRECTORY).join(name + ".xml")
}

/// Only a file of the owner of the root directory (root), which no other user can write.
fn trusted(kind: &Metadata, owner: u32) -> io::Result<()> {
    let why = if kind.uid() != owner {
        "its owner is not root"
    } else if kind.mode() & 0o022 != 0 {
        "other users can write it"
    } else {
        return Ok(());
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, why))
}

#[cfg(test)]
#[path = "flags_test.rs"]
mod test;
