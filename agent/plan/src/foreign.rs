//! What the target's libvirt does not know of a definition: vendors' names, and what came with a newer version. Pure.
//!
//! libvirt drops an attribute or element that it does not know without a word, and refuses a model that it does not know.
//! Seen with libvirt 11.3, 12.0 and 12.8; vendors' names are of NVIDIA's builds (11.9.0+nvidia) and KubeVirt's.

use roxmltree::{Document, Node};

use crate::plan::Note;
use crate::target::Version;
use domain::Definition;
use domain::code::Code;

/// An attribute or element that not every libvirt knows.
struct Piece {
    /// The element.
    path: &'static str,
    kind: Kind,
    /// The first upstream libvirt that knows it; `None` for a vendor's alone.
    since: Option<Version>,
    /// What upstream has instead.
    instead: &'static str,
}

enum Kind {
    Attribute(&'static str),
    Element,
    /// An attribute's value, for which libvirt refuses the definition.
    Value(&'static str, &'static str),
}

const DRIVER: &str = "/domain/devices/iommu/driver";
const IOMMU: &str = "/domain/devices/iommu";
const SSIDSIZE: &str = "; upstream has 'ssidsize' (libvirt 12.7)";

const PIECES: [Piece; 17] = [
    vendors(DRIVER, Kind::Attribute("pasid"), SSIDSIZE),
    vendors(DRIVER, Kind::Attribute("ssidSize"), SSIDSIZE),
    vendors(
        DRIVER,
        Kind::Attribute("parentIdx"),
        "; upstream has 'pciBus' (libvirt 11.10)",
    ),
    vendors(
        IOMMU,
        Kind::Value("model", "nestedSmmuv3"),
        "; upstream has 'smmuv3'",
    ),
    vendors(
        IOMMU,
        Kind::Value("model", "smmuv3Dev"),
        "; upstream has 'smmuv3'",
    ),
    vendors("/domain/devices/memory", Kind::Value("model", "egm"), ""),
    vendors("/domain/devices/memory/target/pciDev", Kind::Element, ""),
    vendors("/domain/devices/hostdev/vpasidCapOffset", Kind::Element, ""),
    newer(DRIVER, Kind::Attribute("pciBus"), Version::new(11, 10, 0)),
    newer(DRIVER, Kind::Attribute("accel"), Version::SMMU_ACCEL),
    newer(DRIVER, Kind::Attribute("ats"), Version::SMMU_ACCEL),
    newer(DRIVER, Kind::Attribute("ril"), Version::SMMU_ACCEL),
    newer(DRIVER, Kind::Attribute("ssidsize"), Version::SMMU_ACCEL),
    newer(DRIVER, Kind::Attribute("oas"), Version::SMMU_ACCEL),
    newer(DRIVER, Kind::Attribute("cmdqv"), Version::SMMU_ACCEL),
    newer(
        "/domain/devices/hostdev/driver",
        Kind::Attribute("iommufd"),
        Version::new(12, 1, 0),
    ),
    newer("/domain/iommufd", Kind::Element, Version::IOMMUFD),
];

const fn vendors(path: &'static str, kind: Kind, instead: &'static str) -> Piece {
    Piece {
        path,
        kind,
        since: None,
        instead,
    }
}

const fn newer(path: &'static str, kind: Kind, since: Version) -> Piece {
    Piece {
        path,
        kind,
        since: Some(since),
        instead: "",
    }
}

/// A note for each piece of a definition that this libvirt does not know.
#[must_use]
pub(crate) fn notes(definition: &Definition, libvirt: Version) -> Vec<Note> {
    let text = definition.text();
    // Most definitions have none of the names, and are not parsed again.
    let unknown = PIECES.iter().filter(|piece| {
        piece.since.is_none_or(|since| libvirt < since) && text.contains(piece.word())
    });
    let unknown: Vec<&Piece> = unknown.collect();
    if unknown.is_empty() {
        return Vec::new();
    }
    let Ok(document) = Document::parse(text) else {
        return Vec::new();
    };
    let there = |piece: &&Piece| document.descendants().any(|node| piece.is(node));
    let there = unknown.into_iter().filter(there);
    there.map(|piece| piece.note(libvirt)).collect()
}

impl Piece {
    /// A word that the text has where it has the piece.
    fn word(&self) -> &'static str {
        match self.kind {
            Kind::Attribute(name) => name,
            Kind::Value(_, value) => value,
            Kind::Element => self.path.rsplit('/').next().unwrap_or_default(),
        }
    }

    fn is(&self, node: Node<'_, '_>) -> bool {
        let here = || is_at(node, self.path);
        match self.kind {
            Kind::Element => here(),
            Kind::Attribute(name) => node.attribute(name).is_some() && here(),
            Kind::Value(name, value) => node.attribute(name) == Some(value) && here(),
        }
    }

    fn note(&self, libvirt: Version) -> Note {
        let path = self.path;
        let (what, then) = match self.kind {
            Kind::Attribute(name) => (format!("{path}/@{name}"), "drops it without a word"),
            Kind::Element => (path.to_owned(), "drops it without a word"),
            Kind::Value(name, value) => (
                format!("{path}[@{name}='{value}']"),
                "refuses the definition for it",
            ),
        };
        let known = match self.since {
            Some(since) => format!("libvirt {since} and newer know it"),
            None => "a vendor's build may know it".to_owned(),
        };
        Note {
            code: Code::XmlForeign,
            device: None,
            text: format!(
                "libvirt {libvirt} does not know {what}, and {then}: {known}{}",
                self.instead
            ),
        }
    }
}

/// True for an element at this path from the root.
fn is_at(node: Node<'_, '_>, path: &str) -> bool {
    let mut at = node.is_element().then_some(node);
    for name in path.rsplit('/').filter(|name| !name.is_empty()) {
        match at {
            Some(element) if element.has_tag_name(name) => at = element.parent_element(),
            _ => return false,
        }
    }
    at.is_none()
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
        notes(&definition(TEXT), libvirt)
            .into_iter()
            .map(text)
            .collect()
    }

    #[test]
    fn vendors_names_are_named_once_for_every_libvirt_of_upstream() {
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
    fn what_every_libvirt_knows_and_other_elements_are_not_named() {
        let plain = "<domain><name>g</name><memory>1</memory><devices><iommu model='intel'><driver eim='on'/></iommu>\
            <disk><driver pasid='x'/></disk></devices></domain>";
        assert!(notes(&definition(plain), Version::new(11, 3, 0)).is_empty());
    }
}
