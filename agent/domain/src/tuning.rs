//! Elements that tune processors and memory of a guest, besides the pins themselves.

use roxmltree::Node;

use crate::edit::Element;
use crate::number;
use crate::read::Reader;
use crate::refusal::Refusal;
use crate::value::{below, child, children, decimal, page_size, property, text_number};

/// `<iothreads>`, `<cpu><topology>` and the parents of pins, bindings and page sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// `<iothreads>`: how many.
    pub iothreads: u32,
    /// `<cpu><topology>`: sockets, dies, clusters, cores, threads; 1 where the attribute is missing.
    pub topology: Option<[u32; 5]>,
    /// `<cputune>`, if present.
    pub cputune: Option<Element>,
    /// `<numatune>`, if present.
    pub numatune: Option<Element>,
    /// `<memoryBacking>`, if present.
    pub memory_backing: Option<Element>,
    /// `<memoryBacking><hugepages><page>`: the sizes in KiB.
    pub page_kib: Vec<u64>,
    /// `<vcpu placement='auto'>`: numad places the guest.
    pub is_automatic: bool,
}

impl Reader<'_> {
    pub(crate) fn tuning(&self, root: Node<'_, '_>) -> Result<Tuning, Refusal> {
        let element = |name| child(root, name).map(|node| self.element(node));
        let iothreads = child(root, "iothreads");
        let iothreads = iothreads.map(|node| text_number(node, number::wrapping));
        let pages = below(root, "memoryBacking", "hugepages");
        let pages = pages.flat_map(|node| children(node, "page"));
        let topology = child(root, "cpu").and_then(|cpu| child(cpu, "topology"));
        let vcpu = child(root, "vcpu").and_then(|node| property(node, "placement"));
        Ok(Tuning {
            iothreads: iothreads.transpose()?.unwrap_or_default(),
            topology: topology.map(processors).transpose()?,
            cputune: element("cputune"),
            numatune: element("numatune"),
            memory_backing: element("memoryBacking"),
            page_kib: pages.map(page_size).collect::<Result<_, _>>()?,
            is_automatic: vcpu == Some("auto"),
        })
    }
}

/// The values of `<topology>`; libvirt writes all of them.
pub(crate) fn processors(topology: Node<'_, '_>) -> Result<[u32; 5], Refusal> {
    let one = |name| Ok(decimal(topology, name)?.unwrap_or(1));
    Ok([
        one("sockets")?,
        one("dies")?,
        one("clusters")?,
        one("cores")?,
        one("threads")?,
    ])
}
