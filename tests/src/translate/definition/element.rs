//! Steps through a definition's elements.

use roxmltree::{Document, Node};

/// Elements at this path below the root.
pub(super) fn elements<'a>(
    document: &'a Document<'_>,
    path: &[&str],
) -> impl Iterator<Item = Node<'a, 'a>> {
    let mut found = vec![document.root_element()];
    for name in path {
        let below = found.iter().flat_map(Node::children);
        found = below.filter(|node| node.has_tag_name(*name)).collect();
    }
    found.into_iter()
}

pub(super) fn child<'a, 'i>(node: Node<'a, 'i>, name: &str) -> Option<Node<'a, 'i>> {
    node.children().find(|child| child.has_tag_name(name))
}

pub(super) fn integer(text: &str) -> Option<u64> {
    text.strip_prefix("0x").map_or_else(
        || text.parse().ok(),
        |digits| u64::from_str_radix(digits, 16).ok(),
    )
}
