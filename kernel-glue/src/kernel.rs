//! The only interface that changes the host: one narrow trait, live or modelled.

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;

use serde::{Deserialize, Serialize};

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::holder::Holders;
use crate::numa::NumaNode;
use crate::occupancy::Occupancy;
use crate::region::{RegionError, Regions};

/// A file that a change of the host writes. Absolute, below the kernel's root.
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
    /// `/sys/bus/pci/devices/<device>/power/control`. The kernel refuses an unknown keyword with EINVAL after it took
    /// the device lock: such a write waits for every bind and unbind in progress, and changes nothing.
    Barrier(PciAddress),
}

/// Changes of a host, and the reads that follow each change.
pub trait Kernel {
    /// Writes one step of a plan, in order, with one `write(2)`.
    ///
    /// # Errors
    /// The kernel's errno.
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno>;

    /// Loads a module before a bind, if its driver is not registered.
    ///
    /// # Errors
    /// ENOENT if no such module exists, otherwise the error of modprobe as EIO.
    fn load_module(&self, module: &str) -> Result<(), Errno>;

    /// Reads the device's current driver, after each step.
    ///
    /// # Errors
    /// The errno of reading the link. Only ENODEV means that the device does not exist any more.
    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno>;

    /// Reads the override text, before a plan is made and after it is applied.
    ///
    /// # Errors
    /// The errno of reading the file. Only ENODEV means that the device does not exist any more.
    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno>;

    /// Resolves a module name to the name of its PCI driver: the driver registered under `name`, the same with
    /// underscores, or through `/sys/module/<module>/drivers`; `None` if no driver is registered.
    ///
    /// # Errors
    /// The errno of the lookup; the driver is then unknown.
    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno>;

    /// Whether the kernel's module lists name `driver`, or its module, for `device`. Called before a device is bound to
    /// a driver that a user named. Loads nothing.
    ///
    /// # Errors
    /// The errno of reading the device or the module lists; ENODEV if the device does not exist any more.
    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        let _ = (device, driver);
        Ok(false)
    }

    /// Process ids that have a VFIO node of `device` or its group open.
    ///
    /// # Errors
    /// The errno of reading `/proc`; EACCES if some process cannot be inspected (that needs CAP_SYS_PTRACE) and none of
    /// the others has the device.
    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno>;

    /// The BARs that the device's VFIO driver reports. Called on request, never during a guest's start. Opens the
    /// device, which resets it, and closes it again; never opens a device that is already open.
    ///
    /// # Errors
    /// [`RegionError`]; most of them before anything was opened.
    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError>;

    /// The reasons against unbinding a device, read before anything is planned for it.
    ///
    /// # Errors
    /// The errno of reading `/proc`; ENOENT if the device does not exist any more.
    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno>;

    /// The processes that have memory of a NUMA node. Called for the message that the node's memory is not removed.
    ///
    /// # Errors
    /// The errno of reading `/proc`.
    fn memory_users(&self, node: NumaNode) -> Result<Holders, Errno> {
        let _ = node;
        Ok(Holders::default())
    }

    /// False if the firmware certainly names none of the GPU memory that `driver` offers, so that it would act like
    /// plain `vfio-pci`. Called before a device is bound; does not open it.
    fn names_memory(&self, driver: &DriverName) -> bool {
        let _ = driver;
        true
    }

    /// True if VFIO gives the device to a user though no IOMMU confines it: it has no IOMMU group and
    /// `enable_unsafe_noiommu_mode` is on, or its group is one that VFIO made in that mode. Called before a device is bound.
    ///
    /// # Errors
    /// The errno of reading the group or the parameter.
    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        let _ = device;
        Ok(false)
    }

    /// The state of NVIDIA's `unbindLock`; `None` if the device's driver has none. Called before an unbind and after a
    /// failure.
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
    /// Prints the path.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path().display().fmt(f)
    }
}

/// A value as a list of writes prints it: the written bytes, control characters escaped.
pub(crate) fn shown(value: &str) -> String {
    let written = if value.is_empty() { "\n" } else { value };
    written.escape_default().to_string()
}
