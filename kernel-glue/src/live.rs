//! The running kernel as [`Kernel`]: sysfs, `/proc` and modprobe below a root.
//!
//! Each write is one write(2) to a file that is not a link. Nothing is retried: a write that blocks cannot be
//! cancelled, so the caller runs this in a child process and sets a deadline.
//!
//! A device does not exist any more if its name is not in `/sys/bus/pci/devices` (ENOENT), or if an open attribute of
//! it returns ENODEV (fs/kernfs/file.c, kernfs_get_active). Any other error, such as EMFILE, says nothing about the
//! device.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::address::PciAddress;
use crate::alias;
use crate::atomics::Widths;
use crate::driver::DriverName;
use crate::failure::Failure;
use crate::firmware;
use crate::group::Group;
use crate::holder::{self, Holders, optional};
use crate::id::PciId;
use crate::kernel::{Attribute, Kernel};
use crate::numa::NumaNode;
use crate::occupancy::{self, Occupancy};
use crate::reader::{OSRELEASE, override_text};
use crate::region::{NVGRACE, RegionError, Regions};
use crate::sysfs::{DEVICES, MAX_ALIAS, Root};
use crate::vfio;

/// The directory of the registered PCI drivers.
const DRIVERS: &str = "sys/bus/pci/drivers";

/// Whether a module list names one of `modules` for a device with this modalias.
type Lists = fn(&str, &str, &[String]) -> bool;

/// The lists of loadable modules and of built-in modules, below `/lib/modules/RELEASE`.
const LISTS: [(&str, Lists); 2] = [
    ("modules.alias", alias::lists),
    ("modules.builtin.modinfo", alias::lists_built_in),
];

/// The kernel below a root: `/`, or in tests a directory of the same layout.
#[derive(Debug)]
pub struct Live {
    root: Root,
    modprobe: PathBuf,
}

impl Live {
    /// Opens the kernel whose sysfs and `/proc` are below `root`.
    ///
    /// # Errors
    /// `root` is not a directory or cannot be opened.
    pub fn new(root: PathBuf) -> Result<Self, Failure> {
        // A recorded host must not load modules into the running kernel.
        let modprobe = match root == Path::new("/") {
            true => PathBuf::from("modprobe"),
            false => root.join("usr/sbin/modprobe"),
        };
        Ok(Self {
            root: Root::new(root)?,
            modprobe,
        })
    }

    /// Runs `program` instead of `modprobe`, for a host that has it at another path.
    #[must_use]
    pub fn with_modprobe(self, program: PathBuf) -> Self {
        Self {
            modprobe: program,
            ..self
        }
    }

    /// The AtomicOps of a device that VFIO reports to QEMU. Opens the device, which resets it, like
    /// [`Kernel::regions`].
    ///
    /// # Errors
    /// As [`Kernel::regions`].
    pub fn atomics(&self, device: PciAddress) -> Result<Widths, RegionError> {
        vfio::atomics(self, &self.root, device)
    }

    /// The device's vendor and device id; `None` if it cannot be read.
    #[must_use]
    pub fn id(&self, device: PciAddress) -> Option<PciId> {
        let half = |name: &str| {
            let text = self.root.text(&format!("{DEVICES}/{device}/{name}")).ok()?;
            u16::from_str_radix(text.strip_prefix("0x")?, 16).ok()
        };
        Some(PciId {
            vendor: half("vendor")?,
            device: half("device")?,
        })
    }

    /// The device's directory; ENODEV if the device does not exist any more.
    fn device_path(&self, device: PciAddress) -> Result<String, Errno> {
        let dir = format!("{DEVICES}/{device}");
        if self.exists(&dir)? {
            return Ok(dir);
        }
        // If sysfs is not mounted, the state of every device is unknown.
        match self.exists(DEVICES)? {
            true => Err(Errno::ENODEV),
            false => Err(Errno::ENOENT),
        }
    }

    /// Interprets an absent file of the device: the device was removed, or it never had the file.
    fn absent<T>(&self, device: PciAddress, without: Result<T, Errno>) -> Result<T, Errno> {
        self.device_path(device).and(without)
    }

    fn exists(&self, path: &str) -> Result<bool, Errno> {
        self.root.exists(path).map_err(|failure| errno(&failure))
    }

    fn driver_of_module(&self, module: &str) -> Result<Option<DriverName>, Errno> {
        let names = match self.root.list(&format!("sys/module/{module}/drivers")) {
            Ok(names) => names,
            Err(failure) if failure.is_absent() => return Ok(None),
            Err(failure) => return Err(errno(&failure)),
        };
        let mut drivers = names.iter().filter_map(|name| name.strip_prefix("pci:"));
        Ok(drivers.next().and_then(|name| name.parse().ok()))
    }

    /// Link texts of descriptors in `/proc` that refer to the device.
    fn nodes(&self, device: PciAddress) -> Result<Vec<String>, Errno> {
        let dir = self.device_path(device)?;
        let group = Group::read(&self.root, device).map_err(|failure| errno(&failure))?;
        let group = group.map(Group::node);
        let devices = match self.root.list(&format!("{dir}/vfio-dev")) {
            Ok(names) => names,
            Err(failure) if failure.is_absent() => Vec::new(),
            Err(failure) => return Err(errno(&failure)),
        };
        let devices = devices
            .into_iter()
            .map(|name| format!("/dev/vfio/devices/{name}"));
        Ok(group.into_iter().chain(devices).collect())
    }

    /// True if a process has one of `nodes`, or the device itself, open; also false if the process has ended.
    fn holds(&self, process: u32, device: PciAddress, nodes: &[String]) -> Result<bool, Errno> {
        let links = match self.root.links(&format!("proc/{process}/fd")) {
            Ok(links) => links,
            Err(error) if gone(&error) => return Ok(false),
            Err(error) => return Err(raw(&error)),
        };
        for link in links {
            let (name, text) = match link {
                Ok(link) => link,
                Err(error) if gone(&error) => return Ok(false),
                Err(error) => return Err(raw(&error)),
            };
            // libvirt removes a node from the guest's /dev while the guest may still hold it.
            let Some(text) = text else { continue };
            let node = text.strip_suffix(" (deleted)").unwrap_or(&text);
            if nodes.iter().any(|one| one == node) {
                return Ok(true);
            }
            let opened = holder::vfio_device(&self.root, process, &name, &text)?;
            if opened == Some(device) {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Kernel for Live {
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        let path = attribute.path();
        let path = path.strip_prefix("/").unwrap_or(&path).to_string_lossy();
        // A path that ends in a link, such as `driver`, is never an attribute.
        let flags = OFlag::O_WRONLY | OFlag::O_NOFOLLOW;
        let file = self.root.open(&path, flags).map_err(|error| raw(&error))?;
        // sysfs drops an empty write before the attribute sees it, so a newline clears.
        let text = if value.is_empty() { "\n" } else { value };
        // Not `write_all`: kernfs hands each write(2) to the attribute as a whole value, so a second one would be another command.
        match File::from(file).write(text.as_bytes()) {
            Ok(count) if count == text.len() => Ok(()),
            Ok(_) => Err(Errno::EIO),
            Err(error) => Err(raw(&error)),
        }
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || b"_-".contains(&b);
        if module.is_empty() || !module.bytes().all(allowed) {
            return Err(Errno::EINVAL);
        }
        // A driver that is built in has no module that modprobe could find.
        if self.registered(module)?.is_some() {
            return Ok(());
        }
        let output = Command::new(&self.modprobe)
            // `--` because a name may begin with a hyphen.
            .args(["--", module])
            // modprobe obeys MODPROBE_OPTIONS of its environment, and `verdict` reads its English message.
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LC_ALL", "C")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .output()
            .map_err(|error| raw(&error))?;
        verdict(output.status.success(), &output.stderr)
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        match self.root.link_name(&format!("{DEVICES}/{device}/driver")) {
            // A driver whose name we do not accept must not look like no driver.
            Ok(name) => name.parse().map(Some).map_err(|_| Errno::EILSEQ),
            Err(failure) if failure.is_absent() => self.absent(device, Ok(None)),
            Err(failure) => Err(errno(&failure)),
        }
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        match self
            .root
            .text(&format!("{DEVICES}/{device}/driver_override"))
        {
            Ok(text) => Ok(override_text(&text)),
            Err(failure) if failure.is_absent() => self.absent(device, Err(Errno::ENOENT)),
            Err(failure) => Err(errno(&failure)),
        }
    }

    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno> {
        let module = name.replace('-', "_");
        for name in [name, &module] {
            let Ok(driver) = name.parse::<DriverName>() else {
                return Ok(None);
            };
            if self.exists(&format!("{DRIVERS}/{driver}"))? {
                return Ok(Some(driver));
            }
        }
        self.driver_of_module(&module)
    }

    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        let dir = self.device_path(device)?;
        let modalias = self.root.text(&format!("{dir}/modalias"));
        let modalias = modalias.map_err(|failure| errno(&failure))?;
        let mut modules = vec![driver.as_str().replace('-', "_")];
        // A registered driver can be in a module of another name, and the lists have names of modules.
        let link = optional(self.root.link_name(&format!("{DRIVERS}/{driver}/module")));
        modules.extend(link.map_err(|failure| errno(&failure))?);
        let release = self
            .root
            .text(OSRELEASE)
            .map_err(|failure| errno(&failure))?;
        for (file, list) in LISTS {
            let text = self
                .root
                .bytes(&format!("lib/modules/{release}/{file}"), MAX_ALIAS);
            let text = optional(text).map_err(|failure| errno(&failure))?;
            let text = text.unwrap_or_default();
            if list(&String::from_utf8_lossy(&text), &modalias, &modules) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno> {
        let nodes = self.nodes(device)?;
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        let mut users = Vec::new();
        let mut hidden = None;
        for name in self.root.entries("proc").map_err(|error| raw(&error))? {
            let name = name.map_err(|error| raw(&error))?;
            let Ok(process) = name.parse() else { continue };
            match self.holds(process, device, &nodes) {
                Ok(true) => users.push(process),
                Ok(false) => {}
                Err(errno) => hidden = Some(errno),
            }
        }
        users.sort_unstable();
        match hidden {
            // A user that was found is enough for a refusal; only "no user" must be certain.
            Some(errno) if users.is_empty() => Err(errno),
            _ => Ok(users),
        }
    }

    /// Blocks as long as the device's reset does, possibly forever.
    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        vfio::regions(self, &self.root, device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        Occupancy::read_root(&self.root, device).map_err(|failure| errno(&failure))
    }

    fn memory_users(&self, node: NumaNode) -> Result<Holders, Errno> {
        Holders::of_memory(&self.root, node).map_err(|failure| errno(&failure))
    }

    fn names_memory(&self, driver: &DriverName) -> bool {
        driver.as_str() != NVGRACE || firmware::names_memory(&self.root) != Some(false)
    }

    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        if let Some(group) = Group::read(&self.root, device).map_err(|failure| errno(&failure))? {
            return Ok(group.no_iommu);
        }
        let switch = self
            .root
            .text("sys/module/vfio/parameters/enable_unsafe_noiommu_mode");
        match switch {
            // A bool parameter reads as Y or N (kernel/params.c, param_get_bool).
            Ok(text) => Ok(text == "Y"),
            Err(failure) if failure.is_absent() => Ok(false),
            Err(failure) => Err(errno(&failure)),
        }
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        occupancy::unbind_lock(&self.root, device).map_err(|failure| errno(&failure))
    }
}

/// Interprets modprobe's result; it has one exit status for all failures.
fn verdict(success: bool, complaint: &[u8]) -> Result<(), Errno> {
    match success {
        true => Ok(()),
        false if String::from_utf8_lossy(complaint).contains("not found") => Err(Errno::ENOENT),
        false => Err(Errno::EIO),
    }
}

fn gone(error: &io::Error) -> bool {
    matches!(raw(error), Errno::ENOENT | Errno::ESRCH)
}

fn raw(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}

fn errno(failure: &Failure) -> Errno {
    failure.errno().unwrap_or(Errno::EIO)
}

#[cfg(test)]
mod tests;
