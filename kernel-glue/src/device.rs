//! One PCI function as sysfs shows it.

use serde::{Deserialize, Serialize};

use crate::address::PciAddress;
use crate::config::Config;
use crate::driver::DriverName;
use crate::id::PciId;
use crate::numa::NumaNode;
use crate::region::Regions;

/// One PCI function: everything that planning reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its address.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: PciId,
    /// Class code, 24 bits: base class, sub-class, programming interface.
    pub class: u32,
    /// The driver it is bound to; `None` when unbound.
    pub driver: Option<DriverName>,
    /// `driver_override` text; `None` when unset (sysfs prints `(null)`).
    pub driver_override: Option<String>,
    /// `numa_node`; `None` if the firmware gave none (sysfs prints -1).
    pub numa_node: Option<NumaNode>,
    /// Number of its IOMMU group; `None` without an IOMMU.
    pub iommu_group: Option<u32>,
    /// Name of its IOMMU (target of the `iommu` link, e.g. `smmu3.0x0000000011000000`).
    pub iommu: Option<String>,
    /// `modalias` text.
    pub modalias: String,
    /// `resource` lines 0 to 5: the BARs. Emulated BARs of a VFIO variant driver are not in this file.
    pub bars: [Bar; 6],
    /// The BARs that its VFIO driver reports, after a query ([`crate::kernel::Kernel::regions`]); reading a host never
    /// queries them.
    pub regions: Option<Regions>,
    /// `reset_method` keywords in order of use; empty if the file is absent.
    pub reset_methods: Vec<String>,
    /// The physical function of a virtual function (`physfn`).
    pub physical_function: Option<PciAddress>,
    /// Bridges from the root down to its parent, from the sysfs path; empty on the root bus.
    pub ancestors: Vec<PciAddress>,
    /// Config space, as far as it was readable.
    pub config: Config,
}

/// One base address register of `resource`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bar {
    /// Size in bytes; 0 when unset.
    pub size: u64,
    /// Kernel resource flags (include/linux/ioport.h).
    pub flags: u64,
}

impl Bar {
    /// IORESOURCE_MEM.
    const MEMORY: u64 = 0x200;
    /// IORESOURCE_PREFETCH.
    const PREFETCH: u64 = 0x2000;
    /// IORESOURCE_MEM_64.
    const MEM_64: u64 = 0x10_0000;

    /// True for a set 64-bit prefetchable memory BAR, the kind that needs the 64-bit window.
    #[must_use]
    pub fn is_64bit_prefetchable(self) -> bool {
        let wanted = Self::MEMORY | Self::PREFETCH | Self::MEM_64;
        self.size > 0 && self.flags & wanted == wanted
    }
}

impl Device {
    /// Bytes of its 64-bit prefetchable BARs as its VFIO driver reports them; `None` before a query.
    #[must_use]
    pub fn shown_bytes(&self) -> Option<u64> {
        let regions = self.regions?;
        let counting = regions
            .iter()
            .filter(|region| region.is_64bit_prefetchable());
        Some(
            counting
                .map(|region| region.size)
                .fold(0, u64::saturating_add),
        )
    }

    /// Class codes 0x0604xx: PCI-to-PCI bridges, which root and switch ports are.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 8 == 0x0604
    }
}
