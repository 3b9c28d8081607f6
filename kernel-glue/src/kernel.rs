//! The only way to change the host: one narrow trait, live or modelled.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use serde::{Deserialize, Serialize};

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::occupancy::Occupancy;
use crate::region::{RegionError, Regions};

/// A file that a change of the host writes to. Absolute, below the kernel's root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// `/sys/bus/pci/devices/<device>/driver_override`; an empty text clears it.
    Override(PciAddress),
    /// `/sys/bus/pci/drivers/<driver>/unbind`.
    Unbind(DriverName),
    /// `/sys/bus/pci/drivers/<driver>/bind`.
    Bind(DriverName),
    /// `/sys/bus/pci/drivers_probe`.
    Probe,
    /// `/proc/driver/nvidia/gpus/<device>/unbindLock`; takes effect when the file is closed.
    UnbindLock(PciAddress),
    /// `/sys/bus/pci/devices/<device>/power/control`. What is no word of its own is refused with EINVAL, behind
    /// the device's lock: whoever writes it waits for every bind and unbind under way, and changes nothing.
    Barrier(PciAddress),
}

/// What changes a host, and what is read back at once after a change.
pub trait Kernel {
    /// Called for each step of a plan, in order. One `write(2)`.
    ///
    /// # Errors
    /// The kernel's errno.
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno>;

    /// Called before a bind when the driver is not registered.
    ///
    /// # Errors
    /// ENOENT when no such module, otherwise what modprobe reported as EIO.
    fn load_module(&self, module: &str) -> Result<(), Errno>;

    /// Called after each step: the driver the device is on now.
    ///
    /// # Errors
    /// The errno of reading the link. ENODEV, and no other errno, means that the device is gone.
    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno>;

    /// Called before a plan is made and after it is applied: the override text.
    ///
    /// # Errors
    /// The errno of reading the file. ENODEV, and no other errno, means that the device is gone.
    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno>;

    /// Called to resolve a module to its PCI driver's real name: the driver registered under
    /// `name` as it is, with underscores, or through `/sys/module/<module>/drivers`; `None` when no driver is
    /// registered under it.
    ///
    /// # Errors
    /// The errno of looking the driver up: then nothing is known of it.
    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno>;

    /// Called before a device is bound to a driver that somebody named: whether the kernel's modules say that `driver`,
    /// by its own name or its module's, is for `device`. Loads nothing.
    ///
    /// # Errors
    /// The errno of reading the device or the kernel's list of modules; ENODEV when the device is gone.
    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        let _ = (device, driver);
        Ok(false)
    }

    /// Processes that have a VFIO node of `device` or its group open, as process ids.
    ///
    /// # Errors
    /// The errno of reading `/proc`; EACCES when some process cannot be looked into (that takes
    /// CAP_SYS_PTRACE) and none of the others has the device.
    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno>;

    /// Called when somebody asked, never on the way of a guest's start: the BARs that the device's VFIO
    /// driver shows. Opens the device, which resets it, and closes it again; never one that is open already.
    ///
    /// # Errors
    /// [`RegionError`]; all but a few of them before anything was opened.
    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError>;

    /// Called before anything is planned for a device: what stands against taking it.
    ///
    /// # Errors
    /// The errno of reading `/proc`; ENOENT when the device is gone.
    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno>;

    /// Called before a device is bound, without opening it: false when the firmware certainly names none of the GPU
    /// memory that `driver` is there to show, so that it would act as plain `vfio-pci`.
    fn names_memory(&self, driver: &DriverName) -> bool {
        let _ = driver;
        true
    }

    /// Called before a device is bound: true when VFIO would take one that no IOMMU confines
    /// (`enable_unsafe_noiommu_mode`).
    ///
    /// # Errors
    /// The errno of reading the parameter.
    fn no_iommu(&self) -> Result<bool, Errno> {
        Ok(false)
    }

    /// Called before a device is unbound and after a failure: the state of NVIDIA's `unbindLock`;
    /// `None` where the device's driver has none.
    ///
    /// # Errors
    /// The errno of reading it.
    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno>;
}

impl Attribute {
    /// The path of the file, absolute.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let bus = PathBuf::from("/sys/bus/pci");
        match self {
            Self::Override(device) => bus
                .join("devices")
                .join(device.to_string())
                .join("driver_override"),
            Self::Unbind(driver) => bus.join("drivers").join(driver.as_str()).join("unbind"),
            Self::Bind(driver) => bus.join("drivers").join(driver.as_str()).join("bind"),
            Self::Probe => bus.join("drivers_probe"),
            Self::Barrier(device) => bus
                .join("devices")
                .join(device.to_string())
                .join("power/control"),
            Self::UnbindLock(device) => PathBuf::from("/proc/driver/nvidia/gpus")
                .join(device.to_string())
                .join("unbindLock"),
        }
    }
}

impl fmt::Display for Attribute {
    /// The path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// A value as a list of writes shows it: what really is written, control characters escaped.
pub(crate) fn shown(value: &str) -> String {
    let written = if value.is_empty() { "\n" } else { value };
    written.escape_default().to_string()
}
