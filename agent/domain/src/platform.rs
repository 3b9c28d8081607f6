//! The guest's platform: accelerator, firmware tables, CPU address width, memory limit, IOMMUs.

use crate::edit::Element;

/// The platform part of a definition.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// `<domain type>`, such as `kvm` or `qemu`.
    pub accelerator: Option<String>,
    /// `<devices><emulator>`.
    pub emulator: Option<String>,
    /// `<features><acpi/>` is present.
    pub acpi: bool,
    /// `<os>` has a `firmware` attribute or a `<loader>`.
    pub firmware: bool,
    /// `<os><acpi>`, if present.
    pub os_acpi: Option<Element>,
    /// `<os>`.
    pub os: Option<Element>,
    /// `<os><acpi><table>` in document order.
    pub acpi_tables: Vec<AcpiTable>,
    /// `<cpu mode>`.
    pub cpu_mode: Option<String>,
    /// `<cpu><maxphysaddr>`.
    pub address_width: Option<AddressWidth>,
    /// `<maxphysaddr>`, if present.
    pub address_width_element: Option<Element>,
    /// `<memtune><hard_limit>` in KiB.
    pub hard_limit_kib: Option<u64>,
    /// `<memoryBacking><locked>` is present.
    pub locked: bool,
    /// `<memoryBacking><hugepages>` is present.
    pub hugepages: bool,
    /// `<iommufd>`.
    pub iommufd: Option<Iommufd>,
    /// `<devices><iommu>` in document order.
    pub iommus: Vec<Iommu>,
    /// `<devices><memory model='egm'>` in document order.
    pub egm: Vec<EgmMemory>,
}

/// `<memory model='egm'>`: the share of one GPU in the EGM region that is the memory of a cell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EgmMemory {
    /// `<source><path>`, such as `/dev/egm4`.
    pub path: String,
    /// `<target><size>` in KiB.
    pub kib: u64,
    /// `<target><node>`: the cell.
    pub cell: Option<u32>,
    /// `<target><pciDev>`: the alias of the GPU's hostdev.
    pub alias: String,
    /// The element.
    pub element: Element,
}

/// `<maxphysaddr>`: bits of a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressWidth {
    /// `mode='passthrough'`: the host's width, up to the limit.
    Host {
        /// `limit`.
        limit: Option<u32>,
    },
    /// `mode='emulate'`.
    Bits(u32),
    /// `mode='emulate'` without bits: the default of QEMU's processor model.
    Default,
}

/// `<os><acpi><table>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AcpiTable {
    /// Path of the file.
    pub path: String,
    /// The element.
    pub element: Element,
}

/// `<iommufd>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iommufd {
    /// `enabled='yes'`.
    pub enabled: bool,
    /// The element.
    pub element: Element,
}

/// `<iommu>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Iommu {
    /// `model`, such as `smmuv3` or `intel`; `smmuv3` also where an early build of NVIDIA's libvirt had `smmuv3Dev` or
    /// `nestedSmmuv3`.
    pub model: String,
    /// `<driver pciBus>`: index of its PCI controller; `None` for the whole machine.
    pub bus: Option<u32>,
    /// `<driver accel='on'>`.
    pub accelerated: bool,
    /// The element.
    pub element: Element,
}

impl Platform {
    /// True if QEMU runs the guest. A definition without a type, which libvirt refuses, counts as QEMU's.
    #[must_use]
    pub fn is_qemu(&self) -> bool {
        let kind = self.accelerator.as_deref();
        kind.is_none_or(|kind| matches!(kind, "kvm" | "qemu" | "hvf"))
    }

    /// True if QEMU emulates the guest (TCG, without KVM).
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.accelerator.as_deref() == Some("qemu")
    }
}
