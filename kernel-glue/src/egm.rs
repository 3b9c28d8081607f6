//! EGM (Extended GPU Memory) regions: host memory that firmware keeps from Linux and that becomes the memory of one guest.
//!
//! A vendor's kernel shows a region as `/sys/class/egm/egmN` and `/dev/egmN` while at least one of its GPUs is bound to
//! `nvgrace_gpu_vfio_pci`. N is the firmware's proximity domain and not a node of Linux. The device is never opened here: the
//! first open zeroes the whole region.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::address::PciAddress;

/// Maximum number of regions that are read; a board has one for each socket.
pub(crate) const MAX_REGIONS: usize = 64;

/// Maximum N: the device's minor number (include/linux/kdev_t.h, MINORBITS).
const MAX_NUMBER: u32 = (1 << 20) - 1;

/// One region.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgmRegion {
    /// N of `/dev/egmN`.
    pub number: u32,
    /// `egm_size`, in bytes; `None` if the kernel does not show it.
    pub bytes: Option<u64>,
    /// The GPUs that share it. A GPU that is not bound to its driver is missing.
    pub gpus: BTreeSet<PciAddress>,
}

impl EgmRegion {
    /// Path of its device.
    #[must_use]
    pub fn path(&self) -> String {
        format!("/dev/egm{}", self.number)
    }
}

/// N of a name `egmN`.
pub(crate) fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("egm")?;
    let number: u32 = digits.parse().ok().filter(|number| *number <= MAX_NUMBER)?;
    // Only the kernel's own spelling: `egm01` and `egm+1` are not names of a region.
    (number.to_string() == digits).then_some(number)
}

/// `egm_size`: hexadecimal bytes, with or without `0x`.
pub(crate) fn size(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    let bytes = u64::from_str_radix(digits, 16).ok().filter(|_| is_hex)?;
    (bytes > 0).then_some(bytes)
}

/// `gpu_devices`: one address a line.
pub(crate) fn gpus(text: &str) -> Option<BTreeSet<PciAddress>> {
    text.split_whitespace()
        .map(|line| line.parse().ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_canonical_names_are_regions() {
        for (name, wanted) in [
            ("egm4", Some(4)),
            ("egm0", Some(0)),
            ("egm1048575", Some(1_048_575)),
            ("egm1048576", None),
            ("egm04", None),
            ("egm+4", None),
            ("egm", None),
            ("egm-1", None),
            ("4", None),
        ] {
            assert_eq!(number(name), wanted, "{name}");
        }
    }

    #[test]
    fn a_size_is_hexadecimal_and_not_zero() {
        for (text, wanted) in [
            ("0x6fc0000000", Some(457_728 << 20)),
            ("6fc0000000", Some(457_728 << 20)),
            ("0x0", None),
            ("", None),
            ("0x", None),
            ("+10", None),
            ("0x1ffffffffffffffff", None),
            ("457728M", None),
        ] {
            assert_eq!(size(text), wanted, "{text}");
        }
    }

    #[test]
    fn one_line_that_is_not_an_address_makes_the_list_unknown() {
        let two = gpus("0008:01:00.0\n0009:01:00.0").expect("a list");
        assert_eq!(two.len(), 2);
        assert_eq!(gpus(""), Some(BTreeSet::new()));
        assert_eq!(gpus("0008:01:00.0\n../../etc"), None);
    }
}
