//! The BARs that VFIO reports to the user of a device, and why it cannot be queried.
//!
//! A VFIO variant driver may offer BARs that the device does not have: the GPU memory of a Grace GPU is BAR 2 and 4 of
//! `nvgrace_gpu_vfio_pci`, and never in sysfs.

use nix::errno::Errno;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::driver::DriverName;
use crate::failure::describe;

/// The PCI driver of Grace GPUs, which reads its memory from the firmware (drivers/vfio/pci/nvgrace-gpu).
pub(crate) const NVGRACE: &str = "nvgrace_gpu_vfio_pci";

/// Regions 0 to 5: the BARs, by number.
pub type Regions = [Region; 6];

/// One BAR as the device's user sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Region {
    /// Size in bytes; 0 if there is no such BAR. An emulated one is rounded up to a power of two.
    pub size: u64,
    /// A part of it can be mapped.
    pub mmap: bool,
    /// The type bits of its base address register (PCI local bus specification, 6.2.5.1).
    pub kind: u8,
}

/// VFIO did not report a device's regions.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
pub enum RegionError {
    /// The device is not bound to a VFIO driver. Nothing was opened.
    #[error("{}; only a VFIO driver reports regions", on(.0.as_ref()))]
    NotVfio(Option<DriverName>),
    /// Processes have the device or its group open. Nothing was opened.
    #[error("in use by {}", list(.0))]
    InUse(Vec<u32>),
    /// The kernel says that the device is in use, and no visible process has it open.
    #[error(
        "the kernel reports it in use, but no process has it open; if a GPU without memory \
            properties was opened, Linux 7.2 refuses all Grace GPUs until the next boot"
    )]
    Busy,
    /// Only root may inspect or open it.
    #[error("only root may open it")]
    NotPermitted,
    /// The firmware names no GPU memory, so opening a Grace GPU would make all of them unusable. Nothing was opened.
    #[error(
        "the firmware's ACPI tables name no GPU memory for '{}'; opening the device would make \
            Linux 7.2 refuse all Grace GPUs until the next boot",
        NVGRACE
    )]
    MemoryUnnamed,
    /// The driver offers no GPU memory, only the BARs of the device itself.
    #[error(
        "'{}' offers no GPU memory, because the firmware names none for this device; Linux 7.2 now \
            refuses all Grace GPUs until the next boot",
        NVGRACE
    )]
    MemoryMissing,
    /// VFIO without an IOMMU: opening it would let the device reach all of the host's memory.
    #[error("its group has no IOMMU (noiommu mode), so it was not opened")]
    NoIommu,
    /// Another device of its IOMMU group is bound to a driver of the host.
    #[error("another device of its IOMMU group is bound to a host driver")]
    NotViable,
    /// The query exceeded the caller's timeout; it may be stuck in the kernel.
    #[error("the kernel did not answer in time: an attempt to open it may be stuck")]
    Stuck,
    /// The kernel returned an error.
    #[error("cannot {action}: {}", describe(Errno::from_raw(*.errno)))]
    Kernel {
        /// The action, with its object.
        action: String,
        /// The reason.
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

    /// VFIO refused `action` with `errno`, which here does not concern the caller's permissions.
    pub(crate) fn refused(action: impl Into<String>, errno: Errno) -> Self {
        match errno {
            Errno::EBUSY => Self::Busy,
            _ => Self::Kernel {
                action: action.into(),
                errno: errno as i32,
            },
        }
    }

    /// The fix: lower case, no full stop.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::NotVfio(_) => "bind it to its VFIO driver first",
            Self::InUse(_) => "retry when it has ended",
            Self::Busy => {
                "see 'journalctl -k', stop the programs that use its IOMMU group, or \
                reboot"
            }
            Self::NotPermitted => "run this as root",
            Self::MemoryUnnamed | Self::MemoryMissing => {
                "check the firmware: the GPU's _DSD needs 'nvidia,gpu-mem-base-pa' and \
                    'nvidia,gpu-mem-size'"
            }
            Self::NoIommu => "enable the IOMMU in the firmware and on the kernel's command line",
            Self::NotViable => {
                "bind the other functions of the group to a VFIO driver, or unbind \
                them"
            }
            Self::Stuck => "see 'journalctl -k'; a stuck device needs a reboot",
            Self::Kernel { .. } => "see 'journalctl -k'",
        }
    }
}

fn on(driver: Option<&DriverName>) -> String {
    match driver {
        Some(driver) => format!("it is bound to '{driver}'"),
        None => "it has no driver".to_owned(),
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
    fn error_names_the_users_of_the_device() {
        let error = RegionError::InUse(vec![7, 4711]);
        assert_eq!(error.to_string(), "in use by pid 7, pid 4711");
    }

    #[test]
    fn missing_privilege_differs_from_a_kernel_refusal() {
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
