//! Notes of the elements and attributes of a definition that the target's libvirt does not know: vendors' names, and those of a
//! newer version. Pure.
//!
//! libvirt drops an attribute or element that it does not know without a message, and refuses a model that it does not know.
//! Checked with libvirt 11.3, 12.0 and 12.8. The vendors' names are those of NVIDIA's builds (11.9.0+nvidia) and of KubeVirt.

use crate::plan::Note;
use crate::stack::{Feature, Package, Spelling, Stack};
use crate::target::Version;
use domain::code::Code;
use domain::{Domain, Extension, Part};

/// Seen with libvirt 11.3.
const MACHINE_WIDE: &str = "makes it an SMMUv3 of the whole machine without an error";
const SSIDSIZE: &str = "; upstream has 'ssidsize' (libvirt 12.7)";
const SMMUV3: &str = "; upstream has 'smmuv3'";

/// A note for each part of a definition that this libvirt does not know.
#[must_use]
pub(crate) fn notes(domain: &Domain, stack: &Stack) -> Vec<Note> {
    let unknown = domain.extensions.iter().copied();
    let unknown = unknown.filter(|one| !knows(stack, *one));
    unknown.map(|one| note(one, stack.libvirt)).collect()
}

/// True if the stack's libvirt knows it.
fn knows(stack: &Stack, extension: Extension) -> bool {
    let ssid = |name| stack.spelling(Feature::SmmuSsid) == Some(name);
    match extension {
        Extension::Pasid => ssid(Spelling::Pasid),
        Extension::VendorSsidSize => ssid(Spelling::SsidSizeVendor),
        Extension::SsidSize => ssid(Spelling::SsidSize),
        other => feature(other).is_some_and(|feature| stack.has(feature)),
    }
}

/// The question whose answer tells whether libvirt knows it; `None` where only old builds of vendors did.
fn feature(extension: Extension) -> Option<Feature> {
    match extension {
        Extension::Pasid
        | Extension::VendorSsidSize
        | Extension::ParentIdx
        | Extension::NestedSmmuv3
        | Extension::Smmuv3Dev => None,
        Extension::Egm | Extension::PciDev => Some(Feature::Egm),
        Extension::VpasidCapOffset => Some(Feature::VpasidCapOffset),
        Extension::PciBus => Some(Feature::SmmuPerBus),
        Extension::Accel | Extension::Ats | Extension::Ril | Extension::Oas => {
            Some(Feature::SmmuAccel)
        }
        Extension::SsidSize => Some(Feature::SmmuSsid),
        Extension::Cmdqv => Some(Feature::SmmuCmdqv),
        Extension::DriverIommufd => Some(Feature::HostdevIommufd),
        Extension::Iommufd => Some(Feature::DomainIommufd),
    }
}

/// The first upstream libvirt that knows it; `None` where only a vendor's build does.
fn since(extension: Extension) -> Option<Version> {
    feature(extension)?.since()
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

fn note(extension: Extension, libvirt: Package) -> Note {
    let (path, part) = extension.place();
    let (what, then) = match part {
        Part::Attribute("pciBus") => (format!("{path}/@pciBus"), MACHINE_WIDE),
        Part::Attribute(name) => (format!("{path}/@{name}"), "drops it without an error"),
        Part::Element => (path.to_owned(), "drops it without an error"),
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
    use crate::target::Versions;

    const TEXT: &str = "<domain><name>g</name><memory>1</memory><iommufd enabled='yes'/><devices>\
        <hostdev><driver iommufd='yes'/><vpasidCapOffset>0xff8</vpasidCapOffset></hostdev>\
        <iommu model='smmuv3'><driver pciBus='2' accel='on' pasid='on' ssidSize='20' oas='48'/></iommu>\
        <iommu model='smmuv3'><driver pciBus='4' accel='on' pasid='on' ssidsize='20' oas='48'/></iommu>\
        <memory model='egm' access='shared'><target><pciDev>ua-0</pciDev></target></memory>\
        <disk><driver pasid='x'/></disk></devices></domain>";

    fn stack(libvirt: Version) -> Stack {
        Stack::assumed(Versions {
            libvirt,
            ..Versions::NEWEST_TESTED
        })
    }

    fn named(libvirt: Version) -> Vec<String> {
        let text = |note: Note| {
            assert_eq!(note.code, Code::XmlForeign);
            let rest = note.text.split_once("does not know ").expect("a path").1;
            rest.split_once(',').expect("a comma").0.to_owned()
        };
        notes(definition(TEXT).domain(), &stack(libvirt))
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
    fn notes_depend_on_the_stack_and_not_on_its_version() {
        let vendor = Stack::named("nvidia-10.1").expect("a stack");
        let notes = notes(definition(TEXT).domain(), &vendor);
        let texts: Vec<String> = notes.into_iter().map(|note| note.text).collect();
        let has = |what: &str| texts.iter().any(|text| text.contains(what));
        for known in [
            "@pasid",
            "egm",
            "pciDev",
            "@accel",
            "@oas",
            "hostdev/driver",
        ] {
            assert!(!has(known), "{known}: {texts:?}");
        }
        for unknown in ["@ssidSize", "@ssidsize", "/domain/iommufd"] {
            assert!(has(unknown), "{unknown}: {texts:?}");
        }
    }

    #[test]
    fn a_note_warns_that_an_old_libvirt_makes_an_smmu_of_the_whole_machine() {
        let old = stack(Version::new(11, 3, 0));
        let notes = notes(definition(TEXT).domain(), &old);
        let bus = notes.iter().find(|note| note.text.contains("@pciBus"));
        let text = &bus.expect("a note").text;
        assert!(text.contains("SMMUv3 of the whole machine"), "{text}");
    }

    #[test]
    fn notes_ignore_known_attributes_and_other_elements() {
        let plain = "<domain><name>g</name><memory>1</memory><devices><iommu model='intel'><driver eim='on'/></iommu>\
            <disk><driver pasid='x'/></disk></devices></domain>";
        assert!(notes(definition(plain).domain(), &stack(Version::new(11, 3, 0))).is_empty());
    }
}
