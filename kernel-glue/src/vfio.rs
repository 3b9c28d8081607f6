//! Queries VFIO for the regions or the AtomicOps of a device on a VFIO driver. **Opening resets the device.**
//!
//! ```text
//! on a VFIO driver? -> not open? -> firmware names GPU memory? -> open -> query -> close
//! ```
//!
//! The checks before the open read sysfs, `/proc` and ACPI tables. Both the open and the close can block, for a reset
//! or forever: run this in a child process with a deadline, once per device at a time. Follows
//! include/uapi/linux/vfio.h, Documentation/driver-api/vfio.rst and drivers/vfio.

mod capability;
mod ioctl;

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use vfio_bindings::bindings::vfio::{
    VFIO_DEVICE_FLAGS_PCI, VFIO_GROUP_FLAGS_VIABLE, VFIO_PCI_CONFIG_REGION_INDEX,
    VFIO_REGION_INFO_FLAG_MMAP,
};

use crate::address::PciAddress;
use crate::atomics::Widths;
use crate::device::Device;
use crate::driver::DriverName;
use crate::failure::Failure;
use crate::firmware::names_memory;
use crate::group::Group;
use crate::holder::optional;
use crate::kernel::Kernel;
use crate::region::{NVGRACE, Region, RegionError, Regions};
use crate::sysfs::{DEVICES, Root};

/// The region that is the memory of a Grace GPU.
const MEMORY: usize = 4;
/// The base address registers in configuration space, four bytes each.
const BASE_ADDRESS: u64 = 0x10;

/// Opens the device, queries its regions, and closes it.
pub(crate) fn regions(
    kernel: &dyn Kernel,
    root: &Root,
    device: PciAddress,
) -> Result<Regions, RegionError> {
    let (open, grace) = opened(kernel, root, device)?;
    let regions = open.regions()?;
    match grace && has_fallen_back(root, device, &regions)? {
        true => Err(RegionError::MemoryMissing),
        false => Ok(regions),
    }
}

/// Opens the device, queries which AtomicOps it completes and can send to its root port, and closes it. The kernel
/// enables sending in the device, or in its physical function; closing restores that.
pub(crate) fn atomics(
    kernel: &dyn Kernel,
    root: &Root,
    device: PciAddress,
) -> Result<Widths, RegionError> {
    let (open, _) = opened(kernel, root, device)?;
    let bytes = ioctl::device_capabilities(&open.device);
    let bytes = bytes.map_err(|errno| RegionError::refused("query its AtomicOps", errno))?;
    Ok(capability::atomics(&bytes))
}

/// The device, and whether it is a Grace GPU.
fn opened(
    kernel: &dyn Kernel,
    root: &Root,
    device: PciAddress,
) -> Result<(Open, bool), RegionError> {
    let read = |errno| RegionError::kernel(format!("read the driver of '{device}'"), errno);
    let driver = kernel.driver(device).map_err(read)?;
    // By `vfio-dev` and not by the driver's name: variant drivers can have any name.
    let node = node(root, device)?.ok_or(RegionError::NotVfio(driver.clone()))?;
    refuse_users(kernel, device)?;
    let grace = driver.as_ref().map(DriverName::as_str) == Some(NVGRACE);
    // Linux 7.2: one open without the memory properties makes each later open of any Grace GPU fail with EBUSY until the next boot.
    if grace && names_memory(root) != Some(true) {
        return Err(RegionError::MemoryUnnamed);
    }
    Ok((Open::new(root, device, &node)?, grace))
}

/// The device's number in VFIO, such as `vfio3`; only a device on a VFIO driver has one.
fn node(root: &Root, device: PciAddress) -> Result<Option<String>, RegionError> {
    let names = optional(root.list(&format!("{DEVICES}/{device}/vfio-dev")));
    let names = names.map_err(|failure| unread(device, &failure))?;
    Ok(names.and_then(|names| names.into_iter().next()))
}

fn unread(device: PciAddress, failure: &Failure) -> RegionError {
    let errno = failure.errno().unwrap_or(Errno::EIO);
    RegionError::kernel(format!("read the driver of '{device}'"), errno)
}

fn refuse_users(kernel: &dyn Kernel, device: PciAddress) -> Result<(), RegionError> {
    match kernel.vfio_users(device) {
        Ok(users) if users.is_empty() => Ok(()),
        Ok(users) => Err(RegionError::InUse(users)),
        Err(errno) => Err(RegionError::kernel(
            "read which processes have it open",
            errno,
        )),
    }
}

/// Without the properties the driver offers only the BARs of the device itself.
fn has_fallen_back(
    root: &Root,
    device: PciAddress,
    regions: &Regions,
) -> Result<bool, RegionError> {
    let own = Device::read(root.path(), device).map(|(device, _)| device.bars[MEMORY].size);
    let own = own.map_err(|failure| unread(device, &failure))?;
    // The emulated BAR has a size of its own; nvgrace-gpu falls back to the device's real BAR 4, or to none.
    Ok(own == regions[MEMORY].size)
}

/// An open device, and the descriptors that keep it open.
struct Open {
    device: File,
    _keep: [OwnedFd; 2],
}

impl Open {
    /// Through the character device and iommufd if the host has both, otherwise through the group.
    fn new(root: &Root, device: PciAddress, node: &str) -> Result<Self, RegionError> {
        let there = |path: &str| {
            let there = root.exists(path);
            there.map_err(|failure| unread(device, &failure))
        };
        // `dev` exists only with CONFIG_VFIO_DEVICE_CDEV; the directory exists without it, too.
        let listed = there(&format!("{DEVICES}/{device}/vfio-dev/{node}/dev"))?;
        match listed && there("dev/iommu")? {
            true => Self::by_node(root, node),
            false => Self::by_group(root, device),
        }
    }

    fn by_node(root: &Root, node: &str) -> Result<Self, RegionError> {
        let iommufd = open(root, "dev/iommu")?;
        let path = format!("dev/vfio/devices/{node}");
        let device = open(root, &path)?;
        ioctl::bind_iommufd(&device, &iommufd).map_err(|errno| match errno {
            // A character device can be bound only once at a time (drivers/vfio/vfio_main.c, vfio_df_open).
            Errno::EINVAL => RegionError::Busy,
            // Another device of the group is bound to a driver that uses DMA (drivers/iommu/iommufd/device.c).
            Errno::EPERM => RegionError::NotViable,
            _ => RegionError::refused(format!("bind '/{path}' to an iommufd"), errno),
        })?;
        let again = device.try_clone().map_err(|error| failed(&path, &error))?;
        Ok(Self {
            device: device.into(),
            _keep: [again, iommufd],
        })
    }

    fn by_group(root: &Root, device: PciAddress) -> Result<Self, RegionError> {
        let number = group(root, device)?;
        let container = open(root, "dev/vfio/vfio")?;
        let path = format!("dev/vfio/{number}");
        let group = open(root, &path)?;
        let refused = |what| {
            let action = format!("{what} '/{path}'");
            |errno| RegionError::refused(action, errno)
        };
        let flags = ioctl::group_flags(&group).map_err(refused("query the state of"))?;
        // Asked first, because attaching a group that is not viable fails with EPERM, as without permission.
        if flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(RegionError::NotViable);
        }
        ioctl::contain(&group, &container).map_err(refused("attach an IOMMU to"))?;
        let device = ioctl::device_of_group(&group, &device.to_string())
            .map_err(refused("open the device in"))?;
        Ok(Self {
            device: device.into(),
            _keep: [group, container],
        })
    }

    fn regions(&self) -> Result<Regions, RegionError> {
        let asked = |errno| RegionError::refused("query its regions", errno);
        let info = ioctl::device_info(&self.device).map_err(asked)?;
        if info.flags & VFIO_DEVICE_FLAGS_PCI == 0
            || info.num_regions <= VFIO_PCI_CONFIG_REGION_INDEX
        {
            return Err(asked(Errno::ENXIO));
        }
        let config =
            ioctl::region_info(&self.device, VFIO_PCI_CONFIG_REGION_INDEX).map_err(asked)?;
        let mut regions = Regions::default();
        for (index, region) in (0..).zip(&mut regions) {
            let info = ioctl::region_info(&self.device, index).map_err(asked)?;
            // The type is read from config space as VFIO emulates it: region info has no field for it.
            let register = config.offset + BASE_ADDRESS + 4 * u64::from(index);
            *region = Region {
                size: info.size,
                mmap: info.flags & VFIO_REGION_INFO_FLAG_MMAP != 0,
                kind: self.kind(register, info.size)?,
            };
        }
        Ok(regions)
    }

    /// The type bits; the register after a 64-bit one holds the upper half of its address, and no type.
    fn kind(&self, register: u64, size: u64) -> Result<u8, RegionError> {
        let mut bytes = [0; 4];
        if size > 0 {
            let read = self.device.read_exact_at(&mut bytes, register);
            read.map_err(|error| failed("its base address registers", &error))?;
        }
        Ok(bytes[0] & 0xf)
    }
}

fn group(root: &Root, device: PciAddress) -> Result<u32, RegionError> {
    match Group::read(root, device) {
        Ok(Some(group)) if !group.no_iommu => Ok(group.number),
        _ => Err(RegionError::NoIommu),
    }
}

fn open(root: &Root, path: &str) -> Result<OwnedFd, RegionError> {
    let flags = OFlag::O_RDWR | OFlag::O_NOFOLLOW;
    root.open(path, flags).map_err(|error| failed(path, &error))
}

fn failed(path: &str, error: &io::Error) -> RegionError {
    let errno = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    RegionError::kernel(format!("open '/{path}'"), errno)
}

#[cfg(test)]
mod tests;
