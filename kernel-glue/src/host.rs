//! A whole host as read at one time: live from `/`, or recorded below a directory.

use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::address::PciAddress;
use crate::device::Device;
use crate::egm::EgmRegion;
use crate::numa::Numa;
use crate::srat::Srat;
use crate::sysfs::DEVICES;

/// A host as planning sees it. Two reads of an unchanged host are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Host {
    /// PCI functions by address; a list in JSON.
    #[serde(serialize_with = "list", deserialize_with = "by_address")]
    pub devices: BTreeMap<PciAddress, Device>,
    /// NUMA nodes.
    pub numa: Numa,
    /// The firmware's SRAT, if readable (root only) and present.
    pub srat: Option<Srat>,
    /// `modules.alias` lines with prefix `vfio_pci:`, in file order.
    pub variants: Vec<crate::alias::Variant>,
    /// Kernel release (`uname -r`), or that of a recorded host.
    pub kernel_release: Option<String>,
    /// Bits of a physical address, as x86 kernels print them; arm64 kernels print none.
    pub address_bits: Option<u32>,
    /// The iommufd device exists: `/dev/iommu` can be opened.
    pub iommufd: bool,
    /// The kernel can nest a guest's SMMUv3 in the host's (CONFIG_ARM_SMMU_V3_IOMMUFD); `None` if its configuration is
    /// neither in `/boot` nor in `/proc/config.gz`.
    pub nests_smmu: Option<bool>,
    /// The kernel has the command queues of Tegra241 (CONFIG_TEGRA241_CMDQV); `None` as above, for kernels without that option,
    /// and in snapshots of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command_queues: Option<bool>,
    /// EGM regions, by number. Snapshots of earlier releases have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub egm: Vec<EgmRegion>,
    /// Facts that could not be read, in path order: reported to the user and never guessed.
    pub gaps: Vec<Gap>,
}

/// One path that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gap {
    /// The path below the root.
    pub path: String,
    /// The reason, as a short text.
    pub reason: String,
}

/// Files of a device's directory that decide whether and how it may be assigned.
const DECISIVE: [&str; 8] = [
    "",
    "/vendor",
    "/device",
    "/class",
    "/driver",
    "/iommu_group",
    "/physfn",
    "/numa_node",
];

impl Host {
    /// Why it is unknown whether the device exists or may be assigned.
    #[must_use]
    pub fn doubt(&self, device: PciAddress) -> Option<&Gap> {
        let absent = crate::failure::describe(nix::errno::Errno::ENOENT);
        let paths = DECISIVE.map(|name| format!("/{DEVICES}/{device}{name}"));
        let mut gaps = self.gaps.iter();
        gaps.find(|gap| paths.contains(&gap.path) && gap.reason != absent)
    }

    /// The EGM region that a GPU shares; `None` also while the GPU is not bound to its driver.
    #[must_use]
    pub fn egm_region(&self, gpu: PciAddress) -> Option<&EgmRegion> {
        self.egm.iter().find(|region| region.gpus.contains(&gpu))
    }

    /// The functions of an IOMMU group, by address.
    pub fn group(&self, group: u32) -> impl Iterator<Item = &Device> {
        self.devices
            .values()
            .filter(move |device| device.iommu_group == Some(group))
    }
}

fn list<S: Serializer>(devices: &BTreeMap<PciAddress, Device>, to: S) -> Result<S::Ok, S::Error> {
    to.collect_seq(devices.values())
}

fn by_address<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<PciAddress, Device>, D::Error> {
    let mut devices = BTreeMap::new();
    for device in Vec::<Device>::deserialize(from)? {
        let address = device.address;
        if devices.insert(address, device).is_some() {
            return Err(D::Error::custom(format!(
                "device '{address}' is listed twice"
            )));
        }
    }
    Ok(devices)
}
