//! libvirt's RELAX NG schemas of domain XML: which elements and attributes its parser knows.
//!
//! An attribute counts only at its own place: `nodeset` occurs at four places of which one is that of host devices.
//! A schema does not tell whether libvirt translates an element into QEMU arguments.

use std::collections::BTreeSet;

use roxmltree::{Document, Node};

/// Maximum size of a schema; that of libvirt 12.8 has 248 KiB.
pub const MAX_BYTES: usize = 4 << 20;

/// The folder of the schemas, in Debian's, Ubuntu's and Fedora's packages.
pub const DIRECTORY: &str = "usr/share/libvirt/schemas";

/// The schema of domains.
pub const DOMAIN: &str = "domaincommon.rng";
/// The schema of what domains and networks share.
pub const BASIC: &str = "basictypes.rng";

const NAMESPACE: &str = "http://relaxng.org/ns/structure/1.0";

/// The answers of both schemas; `None` where a schema does not have the place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grammar {
    /// `<acpi nodeset>`.
    pub nodeset: Option<bool>,
    /// `<driver iommufd>` of a host device.
    pub hostdev_iommufd: Option<bool>,
    /// `<iommufd>` of a domain.
    pub domain_iommufd: Option<bool>,
    /// `<memory model='egm'>` with `<pciDev>` in its target.
    pub egm: Option<bool>,
    /// The attributes of `<iommu><driver>`.
    pub iommu_driver: Option<BTreeSet<String>>,
    /// The values of `<iommu model>`.
    pub iommu_models: Option<BTreeSet<String>>,
}

impl Grammar {
    /// Parses the two schemas.
    #[must_use]
    pub fn parse(domain: &str, basic: &str) -> Self {
        let mut grammar = Self::default();
        if let Some(document) = document(basic) {
            let schema = Schema(document.root_element());
            grammar.hostdev_iommufd =
                schema.has("hostdevDriver", &["driver"], Item::Attribute, "iommufd");
        }
        let Some(document) = document(domain) else {
            return grammar;
        };
        let schema = Schema(document.root_element());
        if schema.define("domain").next().is_none() {
            return grammar;
        }
        grammar.nodeset = schema.has("acpi", &["acpi"], Item::Attribute, "nodeset");
        grammar.domain_iommufd = Some(schema.define("iommufd").any(|define| {
            items(define, Item::Element).any(|(path, name)| path.is_empty() && name == "iommufd")
        }));
        grammar.egm = schema.egm();
        grammar.iommu_driver = schema.names("iommu", &["iommu", "driver"], Item::Attribute);
        grammar.iommu_models = schema.models("iommu", "iommu");
        grammar
    }

    /// True if `<iommu><driver>` has this attribute.
    #[must_use]
    pub fn has_iommu(&self, attribute: &str) -> Option<bool> {
        let driver = self.iommu_driver.as_ref()?;
        Some(driver.contains(attribute))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Attribute,
    Element,
}

impl Item {
    fn tag(self) -> &'static str {
        match self {
            Self::Attribute => "attribute",
            Self::Element => "element",
        }
    }
}

/// The root of a schema.
struct Schema<'a, 'input>(Node<'a, 'input>);

impl<'a, 'input: 'a> Schema<'a, 'input> {
    fn define(
        &self,
        name: &'static str,
    ) -> impl Iterator<Item = Node<'a, 'input>> + use<'a, 'input> {
        self.0
            .children()
            .filter(move |node| is(*node, "define") && node.attribute("name") == Some(name))
    }

    /// Names of the items of a define below a path of elements; `None` if the define has no such path.
    fn names(&self, define: &'static str, path: &[&str], item: Item) -> Option<BTreeSet<String>> {
        let (last, above) = path.split_last()?;
        let mut defines = self.define(define).peekable();
        defines.peek()?;
        let (mut found, mut names) = (false, BTreeSet::new());
        for define in defines {
            found |= items(define, Item::Element).any(|(at, name)| at == above && name == *last);
            let here = items(define, item).filter(|(at, _)| at == path);
            names.extend(here.map(|(_, name)| name.to_owned()));
        }
        found.then_some(names)
    }

    fn has(&self, define: &'static str, path: &[&str], item: Item, name: &str) -> Option<bool> {
        let names = self.names(define, path, item)?;
        Some(names.contains(name))
    }

    /// The values of the attribute `model` of a define's element.
    fn models(&self, define: &'static str, element: &str) -> Option<BTreeSet<String>> {
        self.names(define, &[element], Item::Attribute)?
            .contains("model")
            .then_some(())?;
        let attributes = self.define(define).flat_map(|define| {
            let all = define.descendants();
            all.filter(|node| is(*node, "attribute") && node.attribute("name") == Some("model"))
        });
        let values = attributes.filter(|node| path(*node) == [element]);
        let values = values.flat_map(|node| node.descendants().filter(|node| is(*node, "value")));
        Some(
            values
                .filter_map(|node| node.text())
                .map(str::to_owned)
                .collect(),
        )
    }

    fn egm(&self) -> Option<bool> {
        let models = self.models("memorydev", "memory")?;
        let target = self.has("memorydev-target", &["target"], Item::Element, "pciDev")?;
        Some(models.contains("egm") && target)
    }
}

/// The items of a define that can occur, each with the path of elements above it.
fn items<'a, 'input: 'a>(
    define: Node<'a, 'input>,
    item: Item,
) -> impl Iterator<Item = (Vec<&'a str>, &'a str)> {
    define
        .descendants()
        .filter(move |node| is(*node, item.tag()) && can_occur(*node))
        .filter_map(|node| Some((path(node), node.attribute("name")?)))
}

/// False with `<notAllowed/>`, which some build may use to take an item away.
fn can_occur(node: Node<'_, '_>) -> bool {
    !node.children().any(|child| is(child, "notAllowed"))
}

/// The names of the elements above a node, outermost first.
fn path<'a>(node: Node<'a, '_>) -> Vec<&'a str> {
    let above = node.ancestors().skip(1);
    let elements = above.filter(|node| is(*node, "element"));
    let mut path: Vec<&str> = elements.filter_map(|node| node.attribute("name")).collect();
    path.reverse();
    path
}

fn is(node: Node<'_, '_>, name: &str) -> bool {
    node.has_tag_name((NAMESPACE, name))
}

/// Only a complete schema; a truncated one is not well-formed.
fn document(text: &str) -> Option<Document<'_>> {
    let document = Document::parse(text)
        .ok()
        .filter(|_| text.len() <= MAX_BYTES)?;
    is(document.root_element(), "grammar").then_some(document)
}

#[cfg(test)]
#[path = "grammar_test.rs"]
mod test;
