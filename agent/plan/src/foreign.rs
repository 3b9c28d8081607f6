//! Notes of the elements and attributes of a definition that the target's libvirt does not know: vendors' names, and those of a
//! newer version. Pure.
//!
//! libvirt drops an attribute or element that it does not know without a message, and refuses a model that it does not know.
//! Checked with libvirt 11.3, 12.0 and 12.8. The vendors' names are those of NVIDIA's builds (11.9.0+nvidia) and of KubeVirt.

use crate::plan::Note;
use crate::target::Version;
use domain::code::Code;
use domain::{Domain, Extension, Part};

const SSIDSIZE: &str = "; upstream has 'ssidsize' (libvirt 12.7)";
const SMMUV3: &str = "; upstream has 'smmuv3'";

/// A note for each part of a definition that this libvirt does not know.
#[must_use]
pub(crate) fn notes(domain: &Domain, libvirt: Version) -> Vec<Note> {
    let unknown = domain.extensions.iter().copied();
    let unknown = unknown.filter(|one| since(*one).is_none_or(|since| libvirt < since));
    unknown.map(|one| note(one, libvirt)).collect()
}

/// The first upstream libvirt that knows it; `None` where only a vendor's build does.
fn since(extension: Extension) -> Option<Version> {
    match extension {
        Extension::Pasid
        | Extension::VendorSsidSize
        | Extension::ParentIdx
        | Extension::NestedSmmuv3
        | Extension::Smmuv3Dev
        | Extension::Egm
        | Extension::PciDev
        | Extension::VpasidCapOffset => None,
        Extension::PciBus => Some(Version::new(11, 10, 0)),
        Extension::Accel
        | Extension::Ats
        | Extension::Ril
        | Extension::SsidSize
        | Extension::Oas
        | Extension::Cmdqv => Some(Version::SMMU_ACCEL),
        Extension::DriverIommufd => Some(Version::new(12, 1, 0)),
        Extension::Iommufd => Some(Version::IOMMUFD),
    }
}

/// What upstream has instead of a vendor's name.
fn instead(extension: Extension) -> &'static str {
    match extension {
        Extension::Pasid | Extension::VendorSsidSize => SSIDSIZE,
        Extension::ParentIdx => "; upstream has 'pciBus' (libvirt 11.10)",
        Extension::NestedSmmuv3 | Extension::Smmuv3Dev => SMMUV3,
        _ => "",
    }
}

fn note(extension: Extension, libvirt: Version) -> Note {
    let (path, part) = extension.place();
    let (what, then) = match part {
        Part::Attribute(name) => (format!("{path}/@{name}"), "drops it without a word"),
        Part::Element => (path.to_owned(), "drops it without a word"),
        Part::Value(name, value) => (
            format!("{path}[@{name}='{value}']"),
            "refuses the definition for it",
        ),
    };
    let known = match since(extension) {
        Some(since) => format!("libvirt {since} and newer know it"),
        None => "a vendor's build may know it".to_owned(),
    };
    let instead = instead(extension);
    Note {
        code: Code::XmlForeign,
        device: None,
        text: format!("libvirt {libvirt} does not know {what}, and {then}: {known}{instead}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::definition;

    const TEXT: &str = "<domain><name>g</name><memory>1</memory><iommufd enabled='yes'/><devices>\
        <hostdev><driver iommufd='yes'/><vpasidCapOffset>0xff8</vpasidCapOffset></hostdev>\
        <iommu model='smmuv3'><driver pciBus='2' accel='on' pasid='on' ssidSize='20' oas='48'/></iommu>\
        <iommu model='smmuv3'><driver pciBus='4' accel='on' pasid='on' ssidsize='20' oas='48'/></iommu>\
        <memory model='egm' access='shared'><target><pciDev>ua-0</pciDev></target></memory>\
        <disk><driver pasid='x'/></disk></devices></domain>";

    fn named(libvirt: Version) -> Vec<String> {
        let text = |note: Note| {
            assert_eq!(note.code, Code::XmlForeign);
            let rest = note.text.split_once("does not know ").expect("a path").1;
            rest.split_once(',').expect("a comma").0.to_owned()
        };
        notes(definition(TEXT).domain(), libvirt)
            .into_iter()
            .map(text)
            .collect()
    }

    #[test]
    fn notes_name_each_vendor_extension_once_for_every_upstream_libvirt() {
        let vendors = [
            "/domain/devices/iommu/driver/@pasid",
            "/domain/devices/iommu/driver/@ssidSize",
            "/domain/devices/memory[@model='egm']",
            "/domain/devices/memory/target/pciDev",
            "/domain/devices/hostdev/vpasidCapOffset",
        ];
        assert_eq!(named(Version::new(12, 8, 0)), vendors);
        let old = named(Version::new(11, 3, 0));
        assert_eq!(old[..5], vendors);
        for newer in [
            "driver/@pciBus",
            "driver/@accel",
            "@ssidsize",
            "/@oas",
            "/@iommufd",
            "/domain/iommufd",
        ] {
            assert!(
                old.iter().any(|path| path.ends_with(newer)),
                "{newer}: {old:?}"
            );
        }
    }

    #[test]
    fn notes_ignore_known_attributes_and_other_elements() {
        let plain = "<domain><name>g</name><memory>1</memory><devices><iommu model='intel'><driver eim='on'/></iommu>\
            <disk><driver pasid='x'/></disk></devices></domain>";
        assert!(notes(definition(plain).domain(), Version::new(11, 3, 0)).is_empty());
    }
}
