//! Reads a whole host, or one device, below a root directory.
//!
//! Fails only if there are no PCI devices at all, or if the process runs out of descriptors or memory, which says
//! nothing about the host. Everything else that is missing, unreadable or malformed becomes a [`Gap`]. Each file is
//! read once. `record` stores exactly what is read here.

mod capacity;
mod device;
mod egm;
mod node;
mod parallel;

pub(crate) use device::override_text;

use std::collections::BTreeMap;
use std::path::Path;

use crate::address::PciAddress;
use crate::alias;
use crate::cache::{Cache, Configuration};
use crate::device::Device;
use crate::directory_cache::DirectoryCache;
use crate::failure::Failure;
use crate::host::{Gap, Host};
use crate::kconfig;
use crate::srat::Srat;
use crate::sysfs::{self, DEVICES, MAX_ALIAS, MAX_SRAT, MAX_TEXT, Root, Tree};

/// Only in a recorded host: the paths that could not be recorded, `path: reason` in each line.
pub(crate) const RECORDED_GAPS: &str = "recorded-gaps";

/// Start of the `/proc/cpuinfo` line with the address widths (arch/x86/kernel/cpu/proc.c).
pub(crate) const ADDRESS_SIZES: &str = "address sizes";

/// The line of a kernel's configuration for nesting a guest's SMMUv3 in the host's.
pub(crate) const NESTED_SMMU: &str = "CONFIG_ARM_SMMU_V3_IOMMUFD=y";
/// The option of a kernel's configuration for the command queues of Tegra241 (Grace).
pub(crate) const COMMAND_QUEUES: &str = "CONFIG_TEGRA241_CMDQV";

const CPUINFO: &str = "proc/cpuinfo";
/// Bytes of one CPU's block; all blocks are the same, and the kernel takes long to print hundreds.
const CPUINFO_HEAD: usize = 4096;
/// The misc device of drivers/iommu/iommufd/main.c.
const IOMMUFD: &str = "sys/class/misc/iommu/dev";
pub(crate) const OSRELEASE: &str = "proc/sys/kernel/osrelease";
const SRAT: &str = "sys/firmware/acpi/tables/SRAT";
/// Maximum size of the list of recorded gaps: about 200 bytes for each of 4,096 functions.
const MAX_GAPS: usize = 1 << 20;

impl Host {
    /// Reads the host below `root`: `/`, or the directory of a recorded host.
    ///
    /// # Errors
    /// `root` cannot be opened or has no `sys/bus/pci/devices`.
    pub fn read(root: &Path) -> Result<Self, Failure> {
        Self::read_again(root, &Cache::default())
    }

    /// Like [`Self::read`] for repeated reads: files that only a package changes are read again only after a change.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_again(root: &Path, cache: &Cache) -> Result<Self, Failure> {
        let opened = Root::new(root.to_owned())?;
        Self::read_tree(&DirectoryCache::new(&opened), root, cache)
    }

    pub(crate) fn read_tree(tree: &dyn Tree, root: &Path, cache: &Cache) -> Result<Self, Failure> {
        let names = tree
            .list(DEVICES)
            .map_err(|failure| no_devices(failure, root))?;
        let mut reader = Reader::new(tree);
        let devices = reader.devices(&names);
        let egm = reader.egm(devices.keys());
        let numa = reader.numa();
        let srat = reader.srat();
        let kernel_release = reader.kernel_release();
        let address_bits = reader.address_bits();
        let iommufd = reader.optional_text(IOMMUFD).is_some();
        let variants = kernel_release.as_deref().map(|r| reader.variants(r, cache));
        let configuration = reader.configuration(kernel_release.as_deref(), cache);
        Ok(Self {
            devices,
            numa,
            srat,
            variants: variants.unwrap_or_default(),
            nests_smmu: configuration.map(|one| one.nests_smmu),
            command_queues: configuration.and_then(|one| one.command_queues),
            kernel_release,
            address_bits,
            iommufd,
            egm,
            gaps: reader.into_gaps()?,
        })
    }
}

impl Device {
    /// Reads one device below `root` without the rest of the host; also returns the gaps.
    ///
    /// # Errors
    /// `root` cannot be opened, the device does not exist, or it has no vendor and device id.
    pub fn read(root: &Path, address: PciAddress) -> Result<(Self, Vec<Gap>), Failure> {
        let tree = Root::new(root.to_owned())?;
        let dir = device::directory(address);
        tree.link(&dir)?;
        let mut reader = Reader::new(&tree);
        let device = reader.device(address);
        // The reader also reads files outside of the device's directory, and this caller asked about the device.
        let own = |gap: &Gap| gap.path[1..].starts_with(&dir);
        let gaps: Vec<Gap> = reader.into_gaps()?.into_iter().filter(own).collect();
        device.map(|device| (device, gaps)).ok_or_else(|| {
            let why =
                std::io::Error::new(std::io::ErrorKind::InvalidData, "no vendor and device id");
            Failure::io("read", &root.join(dir), why)
        })
    }
}

/// A read in progress: the tree, and the gaps so far.
struct Reader<'a> {
    tree: &'a dyn Tree,
    gaps: BTreeMap<String, String>,
    /// Out of resources: everything read since is unreliable.
    exhausted: Option<Failure>,
}

impl<'a> Reader<'a> {
    /// A reader without the gaps of a recording, which are those of [`Host`].
    fn without_recorded_gaps(tree: &'a dyn Tree) -> Self {
        Self {
            tree,
            gaps: BTreeMap::new(),
            exhausted: None,
        }
    }

    fn new(tree: &'a dyn Tree) -> Self {
        let mut reader = Self::without_recorded_gaps(tree);
        match sysfs::text(tree, RECORDED_GAPS, MAX_GAPS) {
            Ok(recorded) => {
                let lines = recorded.lines().filter_map(|line| line.split_once(": "));
                let gaps = lines.map(|(path, reason)| (path.to_owned(), reason.to_owned()));
                reader.gaps = gaps.collect();
            }
            Err(failure) if failure.is_absent() => {}
            Err(failure) => drop(reader.unread(RECORDED_GAPS, failure)),
        }
        reader
    }

    /// Records that `path` could not be read, and returns the reason to print.
    fn unread(&mut self, path: &str, failure: Failure) -> String {
        let reason = self.gap(path, failure.reason());
        if failure.is_exhaustion() {
            self.exhausted.get_or_insert(failure);
        }
        reason
    }

    /// Records that `path` is unknown, and returns the reason to print. The reason in a recording wins: "permission
    /// denied" then, although the file does not exist in the recording.
    fn gap(&mut self, path: &str, reason: impl Into<String>) -> String {
        let reason = reason.into();
        self.gaps
            .entry(format!("/{path}"))
            .or_insert(reason)
            .clone()
    }

    fn into_gaps(self) -> Result<Vec<Gap>, Failure> {
        let gap = |(path, reason)| Gap { path, reason };
        match self.exhausted {
            Some(failure) => Err(failure),
            None => Ok(self.gaps.into_iter().map(gap).collect()),
        }
    }

    /// Reads a text file that must exist.
    fn text(&mut self, path: &str) -> Option<String> {
        let text = sysfs::text(self.tree, path, MAX_TEXT);
        text.map_err(|failure| self.unread(path, failure)).ok()
    }

    /// The same, of a file that is the only one of its directory to be read.
    fn text_alone(&mut self, path: &str) -> Option<String> {
        let text = sysfs::text_alone(self.tree, path, MAX_TEXT);
        text.map_err(|failure| self.unread(path, failure)).ok()
    }

    /// Accepts a file that not every kernel or device has.
    fn optional<T>(&mut self, path: &str, read: Result<T, Failure>) -> Option<T> {
        match read {
            Err(failure) if failure.is_absent() => None,
            Err(failure) => {
                self.unread(path, failure);
                None
            }
            Ok(value) => Some(value),
        }
    }

    /// Reads a text file that not every kernel or device has.
    fn optional_text(&mut self, path: &str) -> Option<String> {
        let text = sysfs::text(self.tree, path, MAX_TEXT);
        self.optional(path, text)
    }

    /// Reads the last component of a link that not every device has.
    fn optional_link(&mut self, path: &str) -> Option<String> {
        let link = self.tree.link(path);
        let target = self.optional(path, link)?;
        let name = sysfs::last_component(&target).map(str::to_owned);
        self.known(path, name, &target)
    }

    /// Records a gap if the text of `path` could not be parsed.
    fn known<T>(&mut self, path: &str, parsed: Option<T>, text: &str) -> Option<T> {
        if parsed.is_none() {
            self.gap(path, malformed(text));
        }
        parsed
    }

    fn srat(&mut self) -> Option<Srat> {
        let read = self.tree.bytes(SRAT, MAX_SRAT);
        let bytes = self.optional(SRAT, read)?;
        Srat::parse(&bytes)
            .map_err(|error| self.gap(SRAT, error.to_string()))
            .ok()
    }

    fn kernel_release(&mut self) -> Option<String> {
        let text = self.text(OSRELEASE)?;
        // It becomes a part of the paths below /boot and /lib/modules.
        let plain = !text.is_empty() && !text.starts_with('.') && !text.contains(['/', '\n']);
        self.known(OSRELEASE, plain.then(|| text.clone()), &text)
    }

    /// Parses a line such as `address sizes   : 46 bits physical, 57 bits virtual`.
    fn address_bits(&mut self) -> Option<u32> {
        let head = self.tree.head(CPUINFO, CPUINFO_HEAD);
        let head = self.optional(CPUINFO, head)?;
        let text = String::from_utf8_lossy(&head);
        let line = text.lines().find(|line| line.starts_with(ADDRESS_SIZES))?;
        let (_, sizes) = line.split_once(':')?;
        let bits = sizes.trim().split(' ').next()?.parse().ok()?;
        // A number outside cannot be a width, and would make the check of the MMIO window wrong.
        (32..=64).contains(&bits).then_some(bits)
    }

    /// Reads the kernel's configuration as distributions install it, or as the kernel shows it.
    fn configuration(&mut self, release: Option<&str>, cache: &Cache) -> Option<Configuration> {
        let tree = self.tree;
        let read = |path: &str| {
            cache.configuration.of(tree.stamp(path), || {
                let text = kconfig::text(tree, path)?;
                Ok(Configuration {
                    nests_smmu: text.lines().any(|line| line == NESTED_SMMU),
                    command_queues: text.lines().find_map(command_queues),
                })
            })
        };
        let (path, found) = kconfig::first(release, read);
        self.optional(&path, found)
    }

    fn variants(&mut self, release: &str, cache: &Cache) -> Vec<alias::Variant> {
        let path = format!("lib/modules/{release}/modules.alias");
        let printed = cache.variants.of(self.tree.stamp(&path), || {
            let text = sysfs::text(self.tree, &path, MAX_ALIAS)?;
            Ok(alias::parse(&text))
        });
        printed.unwrap_or_else(|failure| {
            self.unread(&path, failure);
            Vec::new()
        })
    }
}

/// Whether a line of a kernel's configuration sets the option for command queues; `None` for another line. Kernels without the
/// option, and recordings of earlier releases, have no such line.
fn command_queues(line: &str) -> Option<bool> {
    let (set, unset) = (line.strip_prefix(COMMAND_QUEUES), line.strip_prefix("# "));
    let unset = unset.and_then(|rest| rest.strip_prefix(COMMAND_QUEUES));
    match (set, unset) {
        (Some("=y"), _) => Some(true),
        (_, Some(" is not set")) => Some(false),
        _ => None,
    }
}

fn no_devices(failure: Failure, root: &Path) -> Failure {
    match failure.is_absent() {
        true => Failure::NoDevices {
            root: root.to_owned(),
        },
        false => failure,
    }
}

fn malformed(text: &str) -> String {
    let start: String = text
        .chars()
        .take(40)
        .flat_map(char::escape_default)
        .collect();
    format!("unexpected content '{start}'")
}

#[cfg(test)]
pub(crate) mod tests;
