//! Parses a network's definition: the host devices of its pool.

use std::collections::BTreeSet;

use kernel_glue::address::PciAddress;
use roxmltree::{Document, Node};

use super::read::MAX_BYTES;
use super::value::{children, pci_address, property};
use crate::shape;

/// Maximum number of host devices of one network: a PCI function has at most 65,535 virtual functions, and no current
/// device more than 1,024.
pub const MAX_DEVICES: usize = 4096;

/// Returns the host devices of a network, each once and in order; empty for a network without a pool; `None` if the
/// definition is larger than a domain's may be, has more than [`MAX_DEVICES`], or cannot be parsed. Skips an invalid
/// address.
#[must_use]
pub fn host_devices(xml: &str) -> Option<Vec<PciAddress>> {
    if xml.len() > MAX_BYTES || shape::excess(xml).is_some() {
        return None;
    }
    let document = Document::parse(xml).ok()?;
    let is_pool = |forward: &Node<'_, '_>| property(*forward, "mode") == Some("hostdev");
    let pools = children(document.root_element(), "forward").filter(is_pool);
    let addresses = pools.flat_map(|pool| children(pool, "address"));
    let devices: BTreeSet<PciAddress> = addresses
        .filter_map(|node| pci_address(node).ok())
        .collect();
    (devices.len() <= MAX_DEVICES).then(|| devices.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_addresses_are_parsed_like_those_of_a_domain() {
        let network = |addresses: &str| {
            format!(
                "<network><name>p</name><forward mode='hostdev'>{addresses}</forward></network>"
            )
        };
        let read = |addresses: &str| host_devices(&network(addresses)).expect("a network");
        let both = "<address type='pci' domain='0x0000' bus='0x81' slot='0x00' function='0x2'/>\
                    <address type='pci' domain='0' bus='129' slot='0' function='02'/>";
        let found = read(both).into_iter().map(|device| device.to_string());
        assert_eq!(found.collect::<Vec<_>>(), ["0000:81:00.2"], "one device");
        assert_eq!(read("<address bus='0x100'/><address bus='x'/>"), []);
    }

    #[test]
    fn network_parser_refuses_a_large_or_malformed_definition() {
        let padding = " ".repeat(MAX_BYTES);
        assert_eq!(host_devices("<network/>"), Some(Vec::new()));
        assert_eq!(host_devices(&format!("<network>{padding}</network>")), None);
        assert_eq!(host_devices("<network"), None);
    }

    /// A parser's work grows with the square of the attributes of one element; this input took minutes.
    #[test]
    fn network_parser_refuses_a_definition_above_the_shape_limits() {
        let attributes: String = (0..90_000).map(|number| format!(" a{number}=''")).collect();
        assert_eq!(host_devices(&format!("<network{attributes}/>")), None);
        assert_eq!(host_devices("<!DOCTYPE network><network/>"), None);
    }

    #[test]
    fn network_parser_refuses_more_devices_than_the_limit() {
        let address = |number: usize| {
            let (bus, slot, function) = (number >> 8, (number >> 3) & 0x1f, number & 7);
            format!("<address bus='{bus}' slot='{slot}' function='{function}'/>")
        };
        let of = |count: usize| {
            let addresses: String = (0..count).map(address).collect();
            let xml = format!("<network><forward mode='hostdev'>{addresses}</forward></network>");
            host_devices(&xml).map(|devices| devices.len())
        };
        assert_eq!(of(MAX_DEVICES), Some(MAX_DEVICES));
        assert_eq!(of(MAX_DEVICES + 1), None);
    }
}
