//! VFIO's ioctls as functions with checked types.
//!
//! Numbers and structures are those of include/uapi/linux/vfio.h; the structures come from the crate `vfio-bindings`,
//! which has no request numbers.

#![expect(unsafe_code, reason = "ioctl(2)")]

use std::ffi::{CString, c_char, c_int};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::request_code_none;
use vfio_bindings::bindings::vfio::{
    VFIO_BASE, VFIO_TYPE, VFIO_TYPE1v2_IOMMU, vfio_device_bind_iommufd, vfio_device_info,
    vfio_group_status, vfio_region_info,
};

const fn number(offset: u32) -> nix::sys::ioctl::ioctl_num_type {
    request_code_none!(VFIO_TYPE, VFIO_BASE + offset)
}

const SET_IOMMU: u32 = 2;
const GROUP_GET_STATUS: u32 = 3;
const GROUP_SET_CONTAINER: u32 = 4;
const GROUP_GET_DEVICE_FD: u32 = 6;
const DEVICE_GET_INFO: u32 = 7;
const DEVICE_GET_REGION_INFO: u32 = 8;
const DEVICE_BIND_IOMMUFD: u32 = 18;

nix::ioctl_write_int_bad!(set_iommu, number(SET_IOMMU));
nix::ioctl_read_bad!(
    group_get_status,
    number(GROUP_GET_STATUS),
    vfio_group_status
);
nix::ioctl_write_ptr_bad!(group_set_container, number(GROUP_SET_CONTAINER), c_int);
nix::ioctl_write_ptr_bad!(group_get_device_fd, number(GROUP_GET_DEVICE_FD), c_char);
nix::ioctl_read_bad!(device_get_info, number(DEVICE_GET_INFO), vfio_device_info);
nix::ioctl_read_bad!(
    device_get_region_info,
    number(DEVICE_GET_REGION_INFO),
    vfio_region_info
);
nix::ioctl_read_bad!(
    device_bind_iommufd,
    number(DEVICE_BIND_IOMMUFD),
    vfio_device_bind_iommufd
);

/// Maximum size of a reply about a device; it has about a hundred bytes.
const MAX_INFO: u32 = 1 << 16;

/// The flags of a group.
pub(super) fn group_flags(group: impl AsFd) -> Result<u32, Errno> {
    let mut status = vfio_group_status {
        argsz: size_of::<vfio_group_status>() as u32,
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `argsz` bytes of a structure that lives until the call returns.
    unsafe { group_get_status(group.as_fd().as_raw_fd(), &raw mut status) }?;
    Ok(status.flags)
}

/// Puts a group into a container, with a type 1 IOMMU: only then a device can be opened.
pub(super) fn contain(group: impl AsFd, container: impl AsFd) -> Result<(), Errno> {
    let container = container.as_fd().as_raw_fd();
    // SAFETY: the kernel reads one int, which lives until the call returns.
    unsafe { group_set_container(group.as_fd().as_raw_fd(), &raw const container) }?;
    // SAFETY: the argument is a number.
    unsafe { set_iommu(container, VFIO_TYPE1v2_IOMMU as c_int) }?;
    Ok(())
}

/// Opens the device of this name in a group that is in a container. Resets the device.
pub(super) fn device_of_group(group: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the kernel reads a string up to its NUL, which lives until the call returns.
    let device = unsafe { group_get_device_fd(group.as_fd().as_raw_fd(), name.as_ptr()) }?;
    // SAFETY: the kernel has just made this descriptor for us, and nothing else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(device) })
}

/// Binds a device's character device to an iommufd: only then the device is open. Resets the device.
pub(super) fn bind_iommufd(device: impl AsFd, iommufd: impl AsFd) -> Result<(), Errno> {
    let mut bind = vfio_device_bind_iommufd {
        // Up to the token, which only newer kernels know and this program does not use.
        argsz: std::mem::offset_of!(vfio_device_bind_iommufd, token_uuid_ptr) as u32,
        iommufd: iommufd.as_fd().as_raw_fd(),
        ..Default::default()
    };
    // SAFETY: the kernel reads and writes at most `argsz` bytes of a structure that lives until the call returns.
    unsafe { device_bind_iommufd(device.as_fd().as_raw_fd(), &raw mut bind) }?;
    Ok(())
}

/// The flags of a device and the number of its regions.
pub(super) fn device_info(device: impl AsFd) -> Result<vfio_device_info, Errno> {
    let mut info = vfio_device_info {
        argsz: size_of::<vfio_device_info>() as u32,
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `argsz` bytes of a structure that lives until the call returns.
    unsafe { device_get_info(device.as_fd().as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

/// The whole reply about a device; the kernel adds the capabilities only if `argsz` leaves space for them.
pub(super) fn device_capabilities(device: impl AsFd) -> Result<Vec<u8>, Errno> {
    // If the structure is too small, the kernel returns no error: it sets `argsz` to the size that it needs.
    let wanted = device_info(&device)?.argsz.min(MAX_INFO);
    let mut answer = room(wanted);
    // SAFETY: the kernel writes at most `argsz` bytes, which the words hold, and they live until the call returns.
    unsafe { device_get_info(device.as_fd().as_raw_fd(), answer.as_mut_ptr().cast()) }?;
    Ok(answer.into_iter().flat_map(u64::to_ne_bytes).collect())
}

/// A buffer for a reply of so many bytes, with that number in `argsz`, the first field of the structure: elements of 8
/// bytes, so that the structure is aligned.
fn room(wanted: u32) -> Vec<u64> {
    let mut words = vec![
        0;
        (wanted as usize)
            .max(size_of::<vfio_device_info>())
            .div_ceil(8)
    ];
    let mut first = [0; 8];
    first[..4].copy_from_slice(&wanted.to_ne_bytes());
    words[0] = u64::from_ne_bytes(first);
    words
}

/// Size, flags and offset of a region, without its capabilities.
pub(super) fn region_info(device: impl AsFd, index: u32) -> Result<vfio_region_info, Errno> {
    let mut info = vfio_region_info {
        argsz: size_of::<vfio_region_info>() as u32,
        index,
        ..Default::default()
    };
    // SAFETY: the kernel writes at most `argsz` bytes of a structure that lives until the call returns.
    unsafe { device_get_region_info(device.as_fd().as_raw_fd(), &raw mut info) }?;
    Ok(info)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vfio_bindings::bindings::vfio;

    /// Does what the kernel does: reads `argsz` and writes as many bytes.
    #[test]
    fn reply_buffer_is_as_large_as_its_argsz() {
        assert_eq!(std::mem::offset_of!(vfio_device_info, argsz), 0);
        for wanted in [0, 20, 24, 33, 100, MAX_INFO] {
            let mut words = room(wanted);
            let info = words.as_mut_ptr().cast::<vfio_device_info>();
            // SAFETY: the structure fits into the words, is aligned as they are, and consists of integers.
            let argsz = unsafe { (*info).argsz };
            assert_eq!(argsz, wanted);
            // SAFETY: so many bytes are in the words.
            unsafe { info.cast::<u8>().write_bytes(0xff, argsz as usize) };
            let written = words.iter().flat_map(|word| word.to_ne_bytes());
            assert_eq!(
                written.filter(|byte| *byte == 0xff).count(),
                wanted as usize
            );
        }
    }

    /// The value of `#define NAME _IO(VFIO_TYPE, VFIO_BASE + value)` or `#define NAME value`.
    fn defined(header: &str, name: &str) -> Option<u32> {
        let words = |line: &str| {
            line.split_whitespace()
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        let lines = header.lines().map(words);
        let mut found =
            lines.filter(|words| words.len() > 2 && words[0] == "#define" && words[1] == name);
        let value = found.next()?[2..].join(" ");
        let value = value.split("/*").next()?.trim();
        let value = value
            .strip_prefix("_IO(VFIO_TYPE, VFIO_BASE + ")
            .unwrap_or(value);
        value.trim_end_matches(')').parse().ok()
    }

    #[test]
    fn header_definition_is_found_in_both_forms() {
        let header = "#define A\t_IO(VFIO_TYPE, VFIO_BASE + 18)\n#define B 3\n#define C\n";
        assert_eq!(defined(header, "A"), Some(18));
        assert_eq!(defined(header, "B"), Some(3));
        assert_eq!(defined(header, "C"), None);
    }

    #[test]
    fn the_numbers_are_those_of_the_kernels_header() {
        let Ok(header) = std::fs::read_to_string("/usr/include/linux/vfio.h") else {
            eprintln!("no /usr/include/linux/vfio.h (linux-libc-dev): nothing to compare with");
            return;
        };
        for (name, ours) in [
            ("VFIO_BASE", vfio::VFIO_BASE),
            ("VFIO_TYPE1v2_IOMMU", VFIO_TYPE1v2_IOMMU),
            ("VFIO_SET_IOMMU", SET_IOMMU),
            ("VFIO_GROUP_GET_STATUS", GROUP_GET_STATUS),
            ("VFIO_GROUP_SET_CONTAINER", GROUP_SET_CONTAINER),
            ("VFIO_GROUP_GET_DEVICE_FD", GROUP_GET_DEVICE_FD),
            ("VFIO_DEVICE_GET_INFO", DEVICE_GET_INFO),
            ("VFIO_DEVICE_GET_REGION_INFO", DEVICE_GET_REGION_INFO),
        ] {
            assert_eq!(defined(&header, name), Some(ours), "{name}");
        }
        // Headers before Linux 6.6 do not have it.
        if let Some(theirs) = defined(&header, "VFIO_DEVICE_BIND_IOMMUFD") {
            assert_eq!(theirs, DEVICE_BIND_IOMMUFD);
        }
    }

    #[test]
    fn a_request_is_type_and_number_without_size() {
        assert_eq!(number(DEVICE_GET_REGION_INFO), 0x3b6c);
        assert_eq!(number(DEVICE_BIND_IOMMUFD), 0x3b76);
    }

    #[test]
    fn ioctl_refuses_a_file_that_is_not_vfio() {
        let file = std::fs::File::open("/dev/null").expect("file");
        assert_eq!(group_flags(&file), Err(Errno::ENOTTY));
        assert_eq!(contain(&file, &file), Err(Errno::ENOTTY));
        assert!(device_of_group(&file, "0000:01:00.0").is_err());
        assert_eq!(bind_iommufd(&file, &file), Err(Errno::ENOTTY));
        assert!(device_info(&file).is_err());
        assert!(device_capabilities(&file).is_err());
        assert!(region_info(&file, 0).is_err());
    }

    #[test]
    fn a_name_with_a_nul_reaches_no_kernel() {
        let file = std::fs::File::open("/dev/null").expect("file");
        assert_eq!(device_of_group(&file, "a\0b").err(), Some(Errno::EINVAL));
    }
}
