//! Interfaces of libvirt's networks: one with a pool of host devices assigns a device when the guest starts.

use kernel_glue::address::PciAddress;
use roxmltree::{Document, Node};

use super::definition::Definition;

/// Bytes of a network's definition that are read.
const MAX_BYTES: usize = 1 << 20;

/// The host devices of a network; empty for one that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pool(Vec<PciAddress>);

impl Pool {
    /// From a network's definition; `None` when it cannot be read.
    pub(super) fn parse(xml: &str) -> Option<Self> {
        let document = Document::parse(xml)
            .ok()
            .filter(|_| xml.len() <= MAX_BYTES)?;
        let forward = |node: &Node<'_, '_>| {
            node.has_tag_name("forward") && node.attribute("mode") == Some("hostdev")
        };
        let root = document.root_element();
        let pools = root.children().filter(forward);
        let addresses = pools
            .flat_map(|pool| pool.children())
            .filter(|node| node.has_tag_name("address"));
        Some(Self(addresses.filter_map(address).collect()))
    }
}

fn address(node: Node<'_, '_>) -> Option<PciAddress> {
    let number = |name| {
        let text = node.attribute(name)?;
        let digits = text.strip_prefix("0x").unwrap_or(text);
        u32::from_str_radix(digits, 16).ok()
    };
    let byte = |name| u8::try_from(number(name)?).ok();
    PciAddress::new(
        number("domain")?,
        byte("bus")?,
        byte("slot")?,
        byte("function")?,
    )
    .ok()
}

/// Says which interfaces may bring a device that is not judged.
pub(super) fn tell(definition: &Definition) {
    for line in definition.networks.iter().filter_map(line) {
        eprintln!("note: {line}");
    }
}

fn line((name, pool): &(String, Option<Pool>)) -> Option<String> {
    match pool {
        None => Some(format!(
            "the interface of network '{name}' is not judged: whether it assigns a host device is unknown until libvirt is asked \
             ('--domain NAME')"
        )),
        Some(Pool(devices)) if devices.is_empty() => None,
        Some(Pool(devices)) => {
            let devices: Vec<String> = devices.iter().map(ToString::to_string).collect();
            Some(format!(
                "the interface of network '{name}' is assigned one of {} when the guest starts, and is not judged before",
                devices.join(", ")
            ))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_of_host_devices_is_named_and_another_network_is_not() {
        let pool = "<network><name>p</name><forward mode='hostdev' managed='yes'><pf dev='eth0'/>\
                    <address type='pci' domain='0x0000' bus='0x81' slot='0x00' function='0x2'/></forward></network>";
        let said = line(&("p".to_owned(), Pool::parse(pool))).expect("a note");
        assert!(said.contains("one of 0000:81:00.2"), "{said}");
        let nat = "<network><name>default</name><forward mode='nat'/></network>";
        assert_eq!(line(&("default".to_owned(), Pool::parse(nat))), None);
        let unasked = line(&("p".to_owned(), None)).expect("a note");
        assert!(
            unasked.contains("unknown until libvirt is asked"),
            "{unasked}"
        );
        assert_eq!(Pool::parse("<network"), None);
    }
}
