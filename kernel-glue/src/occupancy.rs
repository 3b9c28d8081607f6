//! The reasons against unbinding a device: holders, virtual functions, onlined memory.
//!
//! All are read at once before a device is changed. Follows Documentation/ABI/testing/sysfs-bus-pci and NVIDIA's open
//! kernel modules (kernel-open/nvidia/nv-procfs.c).

use std::path::Path;

use nix::errno::Errno;

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::failure::Failure;
use crate::holder::{Holders, NVIDIA, is_alone, optional};
use crate::numa::NumaNode;
use crate::sysfs::{DEVICES, Root};

/// NVIDIA's name in `/proc/iomem` of GPU memory that it added to the host's kernel.
const ONLINED: &str = "System RAM (NVIDIA)";
/// Maximum size of `/proc/iomem`: 4,096 functions with a dozen lines each have about 3 MiB.
const MAX_IOMEM: usize = 8 << 20;

/// The reasons against unbinding one device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// The processes that hold it.
    pub holders: Holders,
    /// `sriov_numvfs`: virtual functions that exist at present.
    pub virtual_functions: u32,
    /// GPU memory that the host's kernel uses as system memory.
    pub onlined: Option<Onlined>,
    /// The driver can add the GPU's memory to the host, and has not done so (`numa_status` is `offline`).
    pub is_offline: bool,
    /// The state of NVIDIA's `unbindLock`; `None` if the driver has none.
    pub unbind_lock: Option<bool>,
}

/// GPU memory that the host uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Onlined {
    /// Its NUMA node, if the driver reports it.
    pub node: Option<NumaNode>,
    /// Its ranges in `/proc/iomem`, of all GPUs.
    pub ranges: usize,
    /// The driver is adding or removing it at present (`online_in_progress`, `offline_in_progress`).
    pub is_changing: bool,
}

/// True for the driver that adds the memory of coherent GPUs to the host as a NUMA node.
#[must_use]
pub fn can_add_memory(driver: &DriverName) -> bool {
    driver.as_str() == NVIDIA
}

impl Occupancy {
    /// Reads the reasons against unbinding `device`, below `root`.
    ///
    /// # Errors
    /// The device does not exist, or `/proc` cannot be read.
    pub fn read(root: &Path, device: PciAddress) -> Result<Self, Failure> {
        Self::read_root(&Root::new(root.to_owned())?, device)
    }

    /// Like [`Self::read`], below a root that is open already.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_root(root: &Root, device: PciAddress) -> Result<Self, Failure> {
        let functions = optional(root.text(&format!("{DEVICES}/{device}/sriov_numvfs")))?;
        let functions = functions.and_then(|text| text.parse().ok());
        let (onlined, is_offline) = memory(root, device)?;
        Ok(Self {
            holders: Holders::read(root, device)?,
            virtual_functions: functions.unwrap_or_default(),
            onlined,
            is_offline,
            unbind_lock: unbind_lock(root, device)?,
        })
    }
}

/// `/proc/driver/nvidia/gpus/<device>/unbindLock`; only builds for vGPU hosts have it.
pub(crate) fn unbind_lock(root: &Root, device: PciAddress) -> Result<Option<bool>, Failure> {
    let text = optional(root.text(&format!("proc/driver/nvidia/gpus/{device}/unbindLock")))?;
    Ok(text.map(|text| text.trim() == "1"))
}

/// The memory that the host uses, and whether the driver can still add it.
///
/// `/proc/iomem` does not say which GPU the memory belongs to: it counts only if no other GPU is bound to the driver.
fn memory(root: &Root, device: PciAddress) -> Result<(Option<Onlined>, bool), Failure> {
    let driver = optional(root.link_name(&format!("{DEVICES}/{device}/driver")))?;
    if driver.as_deref() != Some(NVIDIA) {
        return Ok((None, false));
    }
    let iomem = match root.bytes("proc/iomem", MAX_IOMEM) {
        // Only root may read this file, and only root decides: for other users all holders are hidden, and that is
        // reported.
        Err(failure) if failure.errno() == Some(Errno::EACCES) => Vec::new(),
        iomem => optional(iomem)?.unwrap_or_default(),
    };
    let iomem = String::from_utf8_lossy(&iomem);
    let ranges = iomem.lines().filter(|line| line.contains(ONLINED)).count();
    let status = optional(root.text(&format!("proc/driver/nvidia/gpus/{device}/numa_status")))?;
    let (node, status) = numa_status(status.as_deref().unwrap_or_default());
    let away = matches!(status, "" | "disabled" | "offline" | "online_failed");
    // Drivers without `numa_status` also add memory, so ranges count even if the status says nothing.
    let certain = !away || (ranges > 0 && is_alone(root, NVIDIA)?);
    let onlined = certain.then_some(Onlined {
        node,
        ranges,
        is_changing: status.ends_with("_in_progress"),
    });
    Ok((onlined, status == "offline"))
}

/// The node, and the state of its memory; an empty text without a state. A driver that keeps the memory to itself
/// (`NVreg_CoherentGPUMemoryMode=driver`) has no such file, or says `disabled`.
fn numa_status(text: &str) -> (Option<NumaNode>, &str) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let node = field("Node:").and_then(|node| node.trim().parse::<u32>().ok());
    let node = node.and_then(|node| node.try_into().ok());
    (node, field("Status:").map_or("", str::trim))
}

#[cfg(test)]
mod tests;
