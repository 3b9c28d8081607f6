//! The IOMMU group of a device, and VFIO's node of it.

use crate::address::PciAddress;
use crate::failure::Failure;
use crate::sysfs::{DEVICES, Root};

/// The name of a group that VFIO makes for a device without an IOMMU (drivers/vfio/group.c, `vfio_noiommu_group_alloc`).
const NO_IOMMU: &str = "vfio-noiommu";

/// An IOMMU group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) number: u32,
    /// VFIO made it while `enable_unsafe_noiommu_mode` was on; no IOMMU confines its device.
    pub(crate) no_iommu: bool,
}

impl Group {
    /// The group of `device`; `None` if it has none.
    pub(crate) fn read(root: &Root, device: PciAddress) -> Result<Option<Self>, Failure> {
        let link = format!("{DEVICES}/{device}/iommu_group");
        let number = match root.link_name(&link) {
            Err(failure) if failure.is_absent() => return Ok(None),
            name => name?,
        };
        let number = number.parse().map_err(|_| {
            root.malformed(&link, "the link does not end with the number of a group")
        })?;
        // Only a group to which a driver gave a name has this file (drivers/iommu/iommu.c, iommu_group_set_name).
        let no_iommu = match root.text(&format!("{link}/name")) {
            Err(failure) if failure.is_absent() => false,
            name => name? == NO_IOMMU,
        };
        Ok(Some(Self { number, no_iommu }))
    }

    /// Its node below `/dev`.
    pub(crate) fn node(self) -> String {
        let kind = if self.no_iommu { "noiommu-" } else { "" };
        format!("/dev/vfio/{kind}{}", self.number)
    }
}
