//! What is assumed of a version of libvirt or QEMU when nothing else is known: the releases in which features came upstream.
//!
//! A vendor's build with backports has a feature earlier. Then another source, or a named stack, answers.

use super::answer::{Answer, How, Spelling, Value, ValueType};
use super::feature::{Feature, Half};
use crate::version::{Version, Versions};

/// First libvirt whose accelerated SMMUv3 has attributes (libvirt 12.7.0).
const SMMU: Version = Version::new(12, 7, 0);
/// First QEMU whose accelerated SMMUv3 takes its attributes from the host's (`auto`, QEMU 11.1).
const SMMU_AUTO: Version = Version::new(11, 1, 0);

impl Feature {
    /// The first upstream version that has the feature; `None` if only vendors' builds have it.
    #[must_use]
    pub fn since(self) -> Option<Version> {
        let version = match self {
            // libvirt 11.8.0 release notes. An older one makes a memory backend of size 0 from a cell without memory.
            Self::AcpiNodeset | Self::EmptyCell => Version::new(11, 8, 0),
            Self::AcpiTableRaw => Version::new(11, 2, 0),
            Self::DriverModel => Version::new(10, 0, 0),
            Self::HostdevIommufd => Version::new(12, 1, 0),
            Self::DomainIommufd => Version::new(12, 2, 0),
            Self::SmmuPerBus => Version::new(11, 10, 0),
            Self::SmmuAccel
            | Self::SmmuAtsType
            | Self::SmmuRilType
            | Self::SmmuOasType
            | Self::SmmuSsid
            | Self::SmmuCmdqv => SMMU,
            // 12.0.0 (Ubuntu 26.04) has the flag `machine.virt.highmem-mmio-size` in its driver, NVIDIA's 11.9.0 accepts the
            // element, and 11.3.0 refuses it. By its place among libvirt's flags it came with 11.4; versions between the two
            // were not tested, and get the window as a QEMU argument.
            Self::VirtWindow => Version::new(11, 9, 0),
            // Seen in 11.3.0, not in 10.0.0; versions between them were not tested.
            Self::Ras => Version::new(11, 3, 0),
            Self::LimitByDevice => Version::new(8, 7, 0),
            Self::LimitByDisk => Version::new(9, 2, 0),
            // 7.2 refuses the links.
            Self::GenericInitiator | Self::QemuIommufd | Self::FastLink => Version::new(9, 0, 0),
            Self::QemuSmmuPerBus => Version::new(10, 1, 0),
            Self::QemuSmmuAccel => Version::new(11, 0, 0),
            Self::QemuSmmuAtsType
            | Self::QemuSmmuRilType
            | Self::QemuSmmuOasType
            | Self::QemuSmmuSsid
            | Self::QemuSmmuCmdqv
            | Self::QemuDmabuf => SMMU_AUTO,
            Self::QemuVirtWindow => Version::new(10, 0, 0),
            Self::Hmat => Version::new(5, 0, 0),
            Self::QemuRas => Version::new(5, 1, 0),
            Self::Egm | Self::VpasidCapOffset | Self::InitiatorOrder | Self::QemuEgm => {
                return None;
            }
        };
        Some(version)
    }

    /// The first upstream version that has the feature, in words.
    #[must_use]
    pub fn first(self) -> String {
        let version = self.since().map(|version| version.to_string());
        version.unwrap_or_else(|| "a vendor's build".to_owned())
    }

    /// The answer by version; `None` if the version does not tell.
    pub(super) fn assumed(self, versions: Versions) -> Option<Answer> {
        let have = match self.half() {
            Half::Libvirt => versions.libvirt,
            Half::Qemu => versions.qemu,
        };
        let is_new = self.since().is_some_and(|since| have >= since);
        let value = match (is_new, self.newest()) {
            (true, value) => value,
            // QEMU 11.0 accelerates an SMMUv3, and its types and names were not examined.
            (false, Value::Type(_) | Value::Named(_)) if self.half() == Half::Qemu => {
                let accelerates = Self::QemuSmmuAccel.since();
                return (accelerates > Some(have)).then_some(no());
            }
            (false, _) => Value::Has(false),
        };
        Some(Answer {
            value,
            how: How::Assumed,
        })
    }

    /// The answer of the newest upstream version.
    fn newest(self) -> Value {
        match self {
            Self::SmmuAtsType | Self::SmmuRilType | Self::SmmuOasType => {
                Value::Type(ValueType::Text)
            }
            Self::QemuSmmuAtsType | Self::QemuSmmuRilType | Self::QemuSmmuOasType => {
                Value::Type(ValueType::Auto)
            }
            Self::SmmuSsid | Self::QemuSmmuSsid => Value::Named(Spelling::SsidSize),
            Self::SmmuCmdqv | Self::QemuSmmuCmdqv => Value::Named(Spelling::Cmdqv),
            _ => Value::Has(true),
        }
    }
}

fn no() -> Answer {
    Answer {
        value: Value::Has(false),
        how: How::Assumed,
    }
}
