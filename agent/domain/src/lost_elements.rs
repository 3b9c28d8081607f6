//! Elements and attributes that libvirt dropped: they were defined and are not read back. Pure.
//!
//! libvirt ignores elements that it does not know, without an error. Values are not compared, because libvirt prints
//! some in another unit; the plan checks them.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// Returns the paths that occur less often in `read` than in `wanted`, such as `/domain/devices/hostdev/acpi`, in path
/// order; for a dropped element only the element itself, without its content.
#[must_use]
pub fn lost_elements(wanted: &str, read: &str) -> Vec<String> {
    let (wanted, read) = (count(wanted), count(read));
    let fewer = |path: &String, count: &usize| read.get(path).is_none_or(|have| have < count);
    let mut paths: Vec<String> = Vec::new();
    for (path, count) in &wanted {
        let inside = |outer: &String| path.starts_with(&format!("{outer}/"));
        // Paths are sorted, so an element comes before its own content.
        if fewer(path, count) && !paths.iter().any(inside) {
            paths.push(path.clone());
        }
    }
    paths
}

/// Counts each element and attribute path.
fn count(xml: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    if let Ok(document) = Document::parse(xml) {
        walk(document.root_element(), "", &mut counts);
    }
    counts
}

fn walk(node: Node<'_, '_>, parent: &str, counts: &mut BTreeMap<String, usize>) {
    let path = format!("{parent}/{}", node.tag_name().name());
    for attribute in node.attributes() {
        *counts
            .entry(format!("{path}/@{}", attribute.name()))
            .or_default() += 1;
    }
    for child in node.children().filter(Node::is_element) {
        walk(child, &path, counts);
    }
    *counts.entry(path).or_default() += 1;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kept_elements_are_not_reported() {
        let wanted = "<domain><memory unit='GiB'>1</memory></domain>";
        let read = "<domain><uuid/><memory unit='KiB'>1048576</memory></domain>";
        assert!(lost_elements(wanted, read).is_empty());
    }

    #[test]
    fn dropped_element_is_reported_once_without_its_content() {
        let wanted =
            "<domain><d><acpi nodeset='1'><x/></acpi></d><d><acpi nodeset='2'/></d></domain>";
        let read = "<domain><d><acpi nodeset='1'><x/></acpi></d><d/></domain>";
        assert_eq!(lost_elements(wanted, read), ["/domain/d/acpi"]);
    }

    #[test]
    fn dropped_attribute_is_reported() {
        let wanted = "<domain><iommu><driver pciBus='1' accel='on'/></iommu></domain>";
        let read = "<domain><iommu><driver pciBus='1'/></iommu></domain>";
        assert_eq!(lost_elements(wanted, read), ["/domain/iommu/driver/@accel"]);
    }
}
