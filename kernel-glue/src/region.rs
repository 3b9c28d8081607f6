//! The BARs that VFIO shows the user of a device, and why it cannot be asked for them.
//!
//! A VFIO variant driver may show BARs that the device does not have: the GPU memory of a Grace GPU is
//! BAR 2 and 4 of `nvgrace_gpu_vfio_pci`, and never in sysfs.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::driver::DriverName;
use crate::failure::describe;

/// The PCI driver of Grace GPUs, which takes the memory to show from the firmware (drivers/vfio/pci/nvgrace-gpu).
pub(crate) const NVGRACE: &str = "nvgrace_gpu_vfio_pci";

/// Regions 0 to 5: the BARs, by number.
pub type Regions = [Region; 6];

/// One BAR as the device's user sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Size in bytes; 0 when there is no such BAR. An emulated one is rounded up to a power of two.
    pub size: u64,
    /// Some part of it can be mapped.
    pub mmap: bool,
    /// The type bits of its base address register (PCI local bus specification, 6.2.5.1).
    pub kind: u8,
}

/// VFIO did not tell a device's regions.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum RegionError {
    /// The device is on no VFIO driver. Nothing was opened.
    #[error("{}: only a VFIO driver tells", on(.0.as_ref()))]
    NotVfio(Option<DriverName>),
    /// Processes have the device or its group open. Nothing was opened.
    #[error("it is in use by {}", list(.0))]
    InUse(Vec<u32>),
    /// The kernel says that the device is in use, and no process can be seen that has it open.
    #[error(
        "the kernel says that it is in use, but no process has it open; after a GPU without its memory \
         properties was opened, Linux 7.2 says so of every Grace GPU until the next boot"
    )]
    Busy,
    /// Only root may look or open.
    #[error("only root may open it")]
    NotPermitted,
    /// The firmware names no GPU memory, so that opening a Grace GPU would make all of them unusable.
    /// Nothing was opened.
    #[error(
        "the firmware's ACPI tables name no GPU memory: '{}' would show none, and opening the device \
         makes Linux 7.2 refuse every Grace GPU until the next boot",
        NVGRACE
    )]
    MemoryUnnamed,
    /// The driver shows no GPU memory: it has fallen back to what the device itself has.
    #[error(
        "'{}' shows no GPU memory, since the firmware names none for this device; Linux 7.2 now refuses \
         every Grace GPU until the next boot",
        NVGRACE
    )]
    MemoryMissing,
    /// VFIO without an IOMMU: what opens it gives the device all of the host's memory.
    #[error("its group has no IOMMU (noiommu mode), and is not opened")]
    NoIommu,
    /// Another device of its IOMMU group is on a driver of the host.
    #[error("another device of its IOMMU group is on a driver of the host")]
    NotViable,
    /// It took longer than the caller waits; the attempt may be stuck in the kernel.
    #[error("the kernel has not answered in time: an attempt to open it may be stuck")]
    Stuck,
    /// The kernel refused.
    #[error("cannot {action}: {}", describe(Errno::from_raw(*.errno)))]
    Kernel {
        /// What was tried, with its object.
        action: String,
        /// Why.
        errno: i32,
    },
}

impl Region {
    /// Type bits of a 64-bit prefetchable memory BAR.
    pub const MEMORY_64_PREFETCH: u8 = 0xc;

    /// True for the kind of BAR that needs the 64-bit window.
    #[must_use]
    pub fn is_64bit_prefetchable(self) -> bool {
        self.size > 0 && self.kind == Self::MEMORY_64_PREFETCH
    }
}

impl RegionError {
    /// A file could not be read or opened.
    pub(crate) fn kernel(action: impl Into<String>, errno: Errno) -> Self {
        match errno {
            Errno::EACCES | Errno::EPERM => Self::NotPermitted,
            _ => Self::refused(action, errno),
        }
    }

    /// VFIO refused `action` with `errno`, which no longer says anything about the caller's rights.
    pub(crate) fn refused(action: impl Into<String>, errno: Errno) -> Self {
        match errno {
            Errno::EBUSY => Self::Busy,
            _ => Self::Kernel {
                action: action.into(),
                errno: errno as i32,
            },
        }
    }

    /// The way out: lower case, no full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotVfio(_) => "bind it to its VFIO driver first",
            Self::InUse(_) => "try again when that has ended",
            Self::Busy => "see 'journalctl -k', end what uses its IOMMU group, or reboot",
            Self::NotPermitted => "run this as root",
            Self::MemoryUnnamed | Self::MemoryMissing => {
                "see the firmware's settings: the GPU's _DSD needs 'nvidia,gpu-mem-base-pa' and \
                 'nvidia,gpu-mem-size'"
            }
            Self::NoIommu => "enable the IOMMU in the firmware and on the kernel's command line",
            Self::NotViable => "bind the others of the group to a VFIO driver, or to none",
            Self::Stuck => "see 'journalctl -k'; a stuck device needs a reboot",
            Self::Kernel { .. } => "see 'journalctl -k'",
        }
    }
}

fn on(driver: Option<&DriverName>) -> String {
    match driver {
        Some(driver) => format!("it is on '{driver}'"),
        None => "it is on no driver".to_owned(),
    }
}

fn list(processes: &[u32]) -> String {
    let ids: Vec<String> = processes.iter().map(|id| format!("pid {id}")).collect();
    ids.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_64_bit_prefetchable_memory_needs_the_window() {
        let needs = |size, kind| {
            let mmap = true;
            Region { size, mmap, kind }.is_64bit_prefetchable()
        };
        assert!(needs(1 << 30, 0xc));
        for (size, kind) in [(0, 0xc), (4096, 0x0), (4096, 0x4), (4096, 0x8), (32, 0x1)] {
            assert!(!needs(size, kind), "{size} {kind:#x}");
        }
    }

    #[test]
    fn who_uses_the_device_is_named() {
        let error = RegionError::InUse(vec![7, 4711]);
        assert_eq!(error.to_string(), "it is in use by pid 7, pid 4711");
    }

    #[test]
    fn what_only_root_may_do_differs_from_what_the_kernel_refuses() {
        let error = |errno| RegionError::kernel("open '/dev/vfio/7'", errno);
        assert_eq!(error(Errno::EPERM), RegionError::NotPermitted);
        assert_eq!(error(Errno::EBUSY), RegionError::Busy);
        let text = error(Errno::ENOTTY).to_string();
        assert!(
            text.starts_with("cannot open '/dev/vfio/7': not a typewriter"),
            "{text}"
        );
    }
}
