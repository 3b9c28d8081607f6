//! The questions that planning asks about the installed libvirt and QEMU, and which kind of value answers each.

use serde::{Deserialize, Serialize};

use super::answer::{Spelling, Value, ValueType};

/// Which half of a stack answers a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Half {
    Libvirt,
    Qemu,
}

/// A question about libvirt or QEMU. The names are stable: they stand in files of stacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// libvirt: `<acpi nodeset>` on a hostdev.
    AcpiNodeset,
    /// libvirt: a NUMA cell without memory has no memory backend.
    EmptyCell,
    /// libvirt: `<os><acpi><table type='raw'>`.
    AcpiTableRaw,
    /// libvirt: `<hostdev><driver model>`, and its own choice of a variant driver.
    DriverModel,
    /// libvirt: `<hostdev><driver iommufd>`.
    HostdevIommufd,
    /// libvirt: `<iommufd>` for all host devices of a domain.
    DomainIommufd,
    /// libvirt: `<iommu model='smmuv3'><driver pciBus>`. A libvirt without it may make an SMMUv3 of the whole machine.
    SmmuPerBus,
    /// libvirt: `accel` and the other attributes of an accelerated SMMUv3.
    SmmuAccel,
    /// libvirt: the JSON type in which it writes `ats`.
    SmmuAtsType,
    /// libvirt: the JSON type in which it writes `ril`.
    SmmuRilType,
    /// libvirt: the JSON type in which it writes `oas`.
    SmmuOasType,
    /// libvirt: the attribute for the size of the substream id.
    SmmuSsid,
    /// libvirt: the QEMU property that it writes for the attribute `cmdqv`.
    SmmuCmdqv,
    /// libvirt: `<pcihole64>` on `virt`.
    VirtWindow,
    /// libvirt: `<memory model='egm'>`.
    Egm,
    /// libvirt: `<ras>`.
    Ras,
    /// libvirt: `<vpasidCapOffset>` on a hostdev.
    VpasidCapOffset,
    /// libvirt: the limit of locked memory grows with the number of devices.
    LimitByDevice,
    /// libvirt: the limit of locked memory counts each NVMe disk.
    LimitByDisk,
    /// QEMU: `acpi-generic-initiator`.
    GenericInitiator,
    /// QEMU: initiators are in the SRAT in the order of their nodes.
    InitiatorOrder,
    /// QEMU: the user can create `arm-smmuv3` devices.
    QemuSmmuPerBus,
    /// QEMU: `arm-smmuv3` has `accel`.
    QemuSmmuAccel,
    /// QEMU: the type of the property `ats`.
    QemuSmmuAtsType,
    /// QEMU: the type of the property `ril`.
    QemuSmmuRilType,
    /// QEMU: the type of the property `oas`.
    QemuSmmuOasType,
    /// QEMU: the property for the size of the substream id.
    QemuSmmuSsid,
    /// QEMU: the property for command queues.
    QemuSmmuCmdqv,
    /// QEMU: `highmem-mmio-size` on `virt`.
    QemuVirtWindow,
    /// QEMU: `acpi-egm-memory`.
    QemuEgm,
    /// QEMU: the `iommufd` object.
    QemuIommufd,
    /// QEMU: BARs are shared as dma-buf, so that devices on iommufd reach each other.
    QemuDmabuf,
    /// QEMU: root ports show 32 and 64 GT/s.
    FastLink,
    /// QEMU: `hmat` on `virt`.
    Hmat,
    /// QEMU: `ras` on `virt`.
    QemuRas,
}

/// How many questions there are.
pub(super) const COUNT: usize = Feature::ALL.len();

impl Feature {
    /// Each question once, in the order of the enum.
    pub const ALL: [Self; 35] = [
        Self::AcpiNodeset,
        Self::EmptyCell,
        Self::AcpiTableRaw,
        Self::DriverModel,
        Self::HostdevIommufd,
        Self::DomainIommufd,
        Self::SmmuPerBus,
        Self::SmmuAccel,
        Self::SmmuAtsType,
        Self::SmmuRilType,
        Self::SmmuOasType,
        Self::SmmuSsid,
        Self::SmmuCmdqv,
        Self::VirtWindow,
        Self::Egm,
        Self::Ras,
        Self::VpasidCapOffset,
        Self::LimitByDevice,
        Self::LimitByDisk,
        Self::GenericInitiator,
        Self::InitiatorOrder,
        Self::QemuSmmuPerBus,
        Self::QemuSmmuAccel,
        Self::QemuSmmuAtsType,
        Self::QemuSmmuRilType,
        Self::QemuSmmuOasType,
        Self::QemuSmmuSsid,
        Self::QemuSmmuCmdqv,
        Self::QemuVirtWindow,
        Self::QemuEgm,
        Self::QemuIommufd,
        Self::QemuDmabuf,
        Self::FastLink,
        Self::Hmat,
        Self::QemuRas,
    ];

    /// The half that answers.
    #[must_use]
    pub fn half(self) -> Half {
        // The enum lists libvirt's questions before QEMU's.
        if self < Self::GenericInitiator {
            Half::Libvirt
        } else {
            Half::Qemu
        }
    }

    /// The name in files of stacks.
    #[must_use]
    pub fn name(self) -> String {
        let text = serde_json::to_value(self).unwrap_or_default();
        text.as_str().unwrap_or_default().to_owned()
    }

    /// True if the value can answer this question. "No" answers each.
    #[must_use]
    pub fn takes(self, value: Value) -> bool {
        match value {
            Value::Has(false) => true,
            Value::Has(true) => self.is_plain(),
            Value::Type(ValueType::Text) => self.is_type() && self.half() == Half::Libvirt,
            Value::Type(ValueType::Auto) => self.is_type() && self.half() == Half::Qemu,
            Value::Type(ValueType::Bool) => self.is_type() && !self.is_oas(),
            Value::Type(ValueType::Integer) => self.is_oas(),
            Value::Named(Spelling::SsidSizeVendor) => self == Self::SmmuSsid,
            Value::Named(Spelling::Pasid | Spelling::SsidSize) => {
                matches!(self, Self::SmmuSsid | Self::QemuSmmuSsid)
            }
            Value::Named(Spelling::Cmdqv | Spelling::Tegra241Cmdqv) => {
                matches!(self, Self::SmmuCmdqv | Self::QemuSmmuCmdqv)
            }
        }
    }

    fn is_oas(self) -> bool {
        matches!(self, Self::SmmuOasType | Self::QemuSmmuOasType)
    }

    fn is_type(self) -> bool {
        let flags = [
            Self::SmmuAtsType,
            Self::SmmuRilType,
            Self::QemuSmmuAtsType,
            Self::QemuSmmuRilType,
        ];
        self.is_oas() || flags.contains(&self)
    }

    fn is_plain(self) -> bool {
        let named = [
            Self::SmmuSsid,
            Self::SmmuCmdqv,
            Self::QemuSmmuSsid,
            Self::QemuSmmuCmdqv,
        ];
        !self.is_type() && !named.contains(&self)
    }
}
