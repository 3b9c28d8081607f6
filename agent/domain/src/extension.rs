//! Elements, attributes and values that not every libvirt knows: which of them a definition has.

use roxmltree::Node;

use crate::value::is;

/// An attribute, element or value that not every libvirt knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    missing_docs,
    reason = "each name is that of the attribute, value or element"
)]
pub enum Extension {
    Pasid,
    VendorSsidSize,
    ParentIdx,
    NestedSmmuv3,
    Smmuv3Dev,
    Egm,
    PciDev,
    VpasidCapOffset,
    PciBus,
    Accel,
    Ats,
    Ril,
    SsidSize,
    Oas,
    Cmdqv,
    DriverIommufd,
    Iommufd,
}

/// The part of an element that not every libvirt knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The element itself.
    Element,
    /// An attribute.
    Attribute(&'static str),
    /// An attribute's value, for which libvirt refuses the definition.
    Value(&'static str, &'static str),
}

const DRIVER: &str = "/domain/devices/iommu/driver";
const IOMMU: &str = "/domain/devices/iommu";

impl Extension {
    /// In the order of the notes: vendors' first.
    const ALL: [Self; 17] = [
        Self::Pasid,
        Self::VendorSsidSize,
        Self::ParentIdx,
        Self::NestedSmmuv3,
        Self::Smmuv3Dev,
        Self::Egm,
        Self::PciDev,
        Self::VpasidCapOffset,
        Self::PciBus,
        Self::Accel,
        Self::Ats,
        Self::Ril,
        Self::SsidSize,
        Self::Oas,
        Self::Cmdqv,
        Self::DriverIommufd,
        Self::Iommufd,
    ];

    /// The element's path from the root, and the part of it.
    #[must_use]
    pub fn place(self) -> (&'static str, Part) {
        match self {
            Self::Pasid => (DRIVER, Part::Attribute("pasid")),
            Self::VendorSsidSize => (DRIVER, Part::Attribute("ssidSize")),
            Self::ParentIdx => (DRIVER, Part::Attribute("parentIdx")),
            Self::NestedSmmuv3 => (IOMMU, Part::Value("model", "nestedSmmuv3")),
            Self::Smmuv3Dev => (IOMMU, Part::Value("model", "smmuv3Dev")),
            Self::Egm => ("/domain/devices/memory", Part::Value("model", "egm")),
            Self::PciDev => ("/domain/devices/memory/target/pciDev", Part::Element),
            Self::VpasidCapOffset => ("/domain/devices/hostdev/vpasidCapOffset", Part::Element),
            Self::PciBus => (DRIVER, Part::Attribute("pciBus")),
            Self::Accel => (DRIVER, Part::Attribute("accel")),
            Self::Ats => (DRIVER, Part::Attribute("ats")),
            Self::Ril => (DRIVER, Part::Attribute("ril")),
            Self::SsidSize => (DRIVER, Part::Attribute("ssidsize")),
            Self::Oas => (DRIVER, Part::Attribute("oas")),
            Self::Cmdqv => (DRIVER, Part::Attribute("cmdqv")),
            Self::DriverIommufd => ("/domain/devices/hostdev/driver", Part::Attribute("iommufd")),
            Self::Iommufd => ("/domain/iommufd", Part::Element),
        }
    }

    fn is_in(self, root: Node<'_, '_>) -> bool {
        let (path, part) = self.place();
        let names: Vec<&str> = path.split('/').skip(2).collect();
        any_at(root, &names, &|node| match part {
            Part::Element => true,
            Part::Attribute(name) => node.attribute(name).is_some(),
            Part::Value(name, value) => node.attribute(name) == Some(value),
        })
    }
}

/// The extensions that a definition has.
pub(crate) fn extensions(root: Node<'_, '_>) -> Vec<Extension> {
    let all = Extension::ALL.into_iter();
    all.filter(|extension| extension.is_in(root)).collect()
}

/// True when an element at this path below `node` meets the condition.
fn any_at(node: Node<'_, '_>, path: &[&str], meets: &dyn Fn(Node<'_, '_>) -> bool) -> bool {
    match path.split_first() {
        None => meets(node),
        Some((name, rest)) => {
            let mut below = node.children().filter(|child| is(*child, name));
            below.any(|child| any_at(child, rest, meets))
        }
    }
}
