//! The reasons against unbinding a device: holders, virtual functions, onlined memory.
//!
//! All are read at once before a device is changed. Follows Documentation/ABI/testing/sysfs-bus-pci and NVIDIA's open
//! kernel modules (kernel-open/nvidia/nv-procfs.c).

use std::path::Path;

use nix::errno::Errno;

use crate::address::PciAddress;
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
        Ok(Self {
            holders: Holders::read(root, device)?,
            virtual_functions: functions.unwrap_or_default(),
            onlined: onlined(root, device)?,
            unbind_lock: unbind_lock(root, device)?,
        })
    }
}

/// `/proc/driver/nvidia/gpus/<device>/unbindLock`; only builds for vGPU hosts have it.
pub(crate) fn unbind_lock(root: &Root, device: PciAddress) -> Result<Option<bool>, Failure> {
    let text = optional(root.text(&format!("proc/driver/nvidia/gpus/{device}/unbindLock")))?;
    Ok(text.map(|text| text.trim() == "1"))
}

/// `/proc/iomem` does not say which GPU the memory belongs to: it counts only if no other GPU is bound to the driver.
fn onlined(root: &Root, device: PciAddress) -> Result<Option<Onlined>, Failure> {
    let driver = optional(root.link_name(&format!("{DEVICES}/{device}/driver")))?;
    if driver.as_deref() != Some(NVIDIA) {
        return Ok(None);
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
    let (node, online) = status.map_or((None, false), |text| numa_status(&text));
    let certain = online || (ranges > 0 && is_alone(root, NVIDIA)?);
    Ok(certain.then_some(Onlined { node, ranges }))
}

/// The node, and whether the host uses its memory, or is adding or removing it.
fn numa_status(text: &str) -> (Option<NumaNode>, bool) {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let node = field("Node:").and_then(|node| node.trim().parse::<u32>().ok());
    let node = node.and_then(|node| node.try_into().ok());
    let status = field("Status:").map_or("", str::trim);
    let away = matches!(status, "" | "disabled" | "offline" | "online_failed");
    (node, !away)
}

#[cfg(test)]
mod tests;
