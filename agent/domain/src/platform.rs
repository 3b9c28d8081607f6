//! The guest's platform: accelerator, firmware tables, CPU address width, memory limit, IOMMUs.

use crate::edit::Element;

/// What a definition says of the guest's platform.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Platform {
    /// `<domain type>`, such as `kvm` or `qemu`.
    pub accelerator: Option<String>,
    /// `<devices><emulator>`.
    pub emulator: Option<String>,
    /// `<features><acpi/>` is there.
    pub acpi: bool,
    /// `<os>` has a `firmware` attribute or a `<loader>`.
    pub firmware: bool,
    /// `<os><acpi>`, when there is one.
    pub os_acpi: Option<Element>,
    /// `<os>`.
    pub os: Option<Element>,
    /// `<os><acpi><table>` in document order.
    pub acpi_tables: Vec<AcpiTable>,
    /// `<cpu mode>`.
    pub cpu_mode: Option<String>,
    /// `<cpu><maxphysaddr>`.
    pub address_width: Option<AddressWidth>,
    /// `<maxphysaddr>`, when there is one.
    pub address_width_element: Option<Element>,
    /// `<memtune><hard_limit>` in KiB.
    pub hard_limit_kib: Option<u64>,
    /// `<memoryBacking><locked>` is there.
    pub locked: bool,
    /// `<memoryBacking><hugepages>` is there.
    pub hugepages: bool,
    /// `<iommufd>`.
    pub iommufd: Option<Iommufd>,
    /// `<devices><iommu>` in document order.
    pub iommus: Vec<Iommu>,
}

/// `<maxphysaddr>`: bits of a guest-physical address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressWidth {
    /// `mode='passthrough'`: the host's, up to the limit.
    Host {
        /// `limit`.
        limit: Option<u32>,
    },
    /// `mode='emulate'`.
    Bits(u32),
    /// `mode='emulate'` without bits: what QEMU's processor model has.
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
    /// `model`, such as `smmuv3` or `intel`.
    pub model: String,
    /// `<driver pciBus>`: index of the PCI controller it is for; `None` for the whole machine.
    pub bus: Option<u32>,
    /// `<driver accel='on'>`.
    pub accelerated: bool,
    /// The element.
    pub element: Element,
}

impl Platform {
    /// True when QEMU runs the guest. A definition that names no type, which libvirt refuses, counts as one of QEMU's.
    #[must_use]
    pub fn is_qemu(&self) -> bool {
        let kind = self.accelerator.as_deref();
        kind.is_none_or(|kind| matches!(kind, "kvm" | "qemu" | "hvf"))
    }

    /// True when the guest runs in QEMU's translator, without KVM.
    #[must_use]
    pub fn is_emulated(&self) -> bool {
        self.accelerator.as_deref() == Some("qemu")
    }
}
