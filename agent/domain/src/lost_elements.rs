//! What libvirt dropped: elements and attributes that were defined and are not read back. Pure.
//!
//! libvirt ignores what it does not know, without a word. Values are not compared, since libvirt
//! prints some in another unit; that they are right is checked against the plan.

use std::collections::BTreeMap;

use roxmltree::{Document, Node};

/// Paths of what `read` has less of than `wanted`, such as `/domain/devices/hostdev/acpi`, in path
/// order; of a dropped element only the element itself, not what is in it.
#[must_use]
pub fn lost_elements(wanted: &str, read: &str) -> Vec<String> {
    let (wanted, read) = (count(wanted), count(read));
    let fewer = |path: &String, count: &usize| read.get(path).is_none_or(|have| have < count);
    let mut paths: Vec<String> = Vec::new();
    for (path, count) in &wanted {
        let inside = |outer: &String| path.starts_with(&format!("{outer}/"));
        if fewer(path, count) && !paths.iter().any(inside) {
            paths.push(path.clone());
        }
    }
    paths
}

/// How often each element and attribute path occurs.
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
    fn what_is_kept_is_not_named() {
        let wanted = "<domain><memory unit='GiB'>1</memory></domain>";
        let read = "<domain><uuid/><memory unit='KiB'>1048576</memory></domain>";
        assert!(lost_elements(wanted, read).is_empty());
    }

    #[test]
    fn one_of_two_dropped_elements_is_named_once_without_its_content() {
        let wanted =
            "<domain><d><acpi nodeset='1'><x/></acpi></d><d><acpi nodeset='2'/></d></domain>";
        let read = "<domain><d><acpi nodeset='1'><x/></acpi></d><d/></domain>";
        assert_eq!(lost_elements(wanted, read), ["/domain/d/acpi"]);
    }

    #[test]
    fn a_dropped_attribute_is_named() {
        let wanted = "<domain><iommu><driver pciBus='1' accel='on'/></iommu></domain>";
        let read = "<domain><iommu><driver pciBus='1'/></iommu></domain>";
        assert_eq!(lost_elements(wanted, read), ["/domain/iommu/driver/@accel"]);
    }
}
