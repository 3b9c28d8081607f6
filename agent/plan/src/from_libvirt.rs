//! Facts that only libvirt has: networks with a pool of host devices, and the default architecture and machine.
//!
//! The agent reads them when it connects, when a network changes and when it prepares a definition, and caches the networks,
//! because the hook must not call libvirt. libvirt chooses a device of a pool between the hook phases `prepare` and `start`
//! (src/qemu/qemu_process.c, qemuProcessPrepareDomain), so before a start only the pool is known.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};

use domain::{Domain, network};

/// libvirt's answers; empty if it was not asked.
#[derive(Clone, Debug, Default)]
pub struct FromLibvirt {
    /// Its networks.
    pub networks: Option<Arc<Networks>>,
    /// The architecture of a guest whose definition names none.
    pub arch: Option<String>,
    /// The machine type of a guest whose definition names none.
    pub machine: Option<String>,
}

/// Offline.
pub static NOTHING: FromLibvirt = FromLibvirt {
    networks: None,
    arch: None,
    machine: None,
};

/// The host devices of a network; empty if it has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool(Vec<PciAddress>);

/// Networks by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Networks(BTreeMap<String, Pool>);

/// The networks as libvirt listed them last.
#[derive(Debug, Default)]
pub struct KnownNetworks(RwLock<Option<Arc<Networks>>>);

impl Pool {
    /// From a network's definition; `None` when it cannot be read.
    #[must_use]
    pub fn parse(xml: &str) -> Option<Self> {
        network::host_devices(xml).map(Self)
    }

    /// The devices.
    #[must_use]
    pub fn devices(&self) -> &[PciAddress] {
        &self.0
    }
}

impl Networks {
    /// From names and definitions, with one definition in memory at a time. An unreadable definition counts as unknown.
    #[must_use]
    pub fn new<T: AsRef<str>>(definitions: impl IntoIterator<Item = (String, T)>) -> Self {
        let definitions = definitions.into_iter();
        let known = definitions.filter_map(|(name, xml)| Some((name, Pool::parse(xml.as_ref())?)));
        Self(known.collect())
    }

    /// The pool of a network; `None` where it is not known.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.0.get(name)
    }

    /// The devices of the pools from which a domain's interfaces are assigned one.
    pub fn devices(&self, domain: &Domain) -> impl Iterator<Item = PciAddress> {
        let pools = domain.networks.keys().filter_map(|name| self.pool(name));
        pools.flat_map(|pool| pool.devices().iter().copied())
    }

    /// The networks whose pool has this device.
    pub fn with(&self, device: PciAddress) -> impl Iterator<Item = &str> {
        let pools = self.0.iter();
        let pools = pools.filter(move |(_, pool)| pool.devices().contains(&device));
        pools.map(|(name, _)| name.as_str())
    }
}

impl FromLibvirt {
    fn pool(&self, name: &str) -> Option<&Pool> {
        self.networks.as_ref()?.pool(name)
    }

    /// How many host devices a guest gets from pools.
    #[must_use]
    pub fn assigned(&self, domain: &Domain) -> usize {
        let interfaces = domain.networks.iter();
        let pooled = interfaces.filter(|(name, _)| {
            let pool = self.pool(name);
            pool.is_some_and(|pool| !pool.devices().is_empty())
        });
        pooled.map(|(_, count)| count).sum()
    }

    /// A sentence for the interfaces of each network, with the devices of its pool. A network with an unknown pool is named only if
    /// the guest `has_devices`, because most networks have no pool.
    pub fn interfaces<'a>(
        &'a self,
        domain: &'a Domain,
        has_devices: bool,
    ) -> impl Iterator<Item = (String, &'a [PciAddress])> {
        let printed = move |name: &'a String| match self.pool(name) {
            None => has_devices.then(|| (self.unknown(name), &[][..])),
            Some(pool) => Some((assigned(name, pool)?, pool.devices())),
        };
        domain.networks.keys().filter_map(printed)
    }

    fn unknown(&self, name: &str) -> String {
        let why = match self.networks {
            None => {
                "whether it assigns a host device is unknown until libvirt is asked ('variantctl plan NAME', and \
                 'atomics' and 'topology' with --domain NAME, do)"
            }
            Some(_) => "libvirt has no such network, or its definition cannot be read",
        };
        format!("the interface of network '{name}' is not checked: {why}")
    }
}

impl KnownNetworks {
    /// Replaces the networks.
    pub fn learn(&self, networks: Networks) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(networks));
    }

    /// The networks of the last answer.
    #[must_use]
    pub fn now(&self) -> Option<Arc<Networks>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// Most devices of a pool that a sentence names.
const NAMED: usize = 16;

/// The sentence for the interface of a network; `None` for a network without host devices.
fn assigned(name: &str, Pool(devices): &Pool) -> Option<String> {
    let named: Vec<String> = devices
        .iter()
        .take(NAMED)
        .map(ToString::to_string)
        .collect();
    let more = match devices.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!named.is_empty()).then(|| {
        format!(
            "the interface of network '{name}' is assigned one of {}{more} when the guest starts, and is not checked before",
            named.join(", ")
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const POOL: &str = "<network><name>p</name><forward mode='hostdev' managed='yes'><pf dev='eth0'/>\
                        <address type='pci' domain='0x0000' bus='0x81' slot='0x00' function='0x2'/></forward></network>";
    const NAT: &str = "<network><name>default</name><forward mode='nat'/></network>";

    fn guest(network: &str) -> Domain {
        let text = format!(
            "<domain type='kvm'><name>g</name><devices><interface type='network'><source network='{network}'/></interface></devices></domain>"
        );
        Domain::parse(&text).expect("a domain")
    }

    fn asked() -> FromLibvirt {
        let networks = [("p", POOL), ("default", NAT), ("broken", "<network")];
        let networks = networks.map(|(name, xml)| (name.to_owned(), xml));
        FromLibvirt {
            networks: Some(Arc::new(Networks::new(networks))),
            ..FromLibvirt::default()
        }
    }

    /// The note on the interface of this network.
    fn printed(libvirt: &FromLibvirt, network: &str, has_devices: bool) -> Option<String> {
        let domain = guest(network);
        let mut printed = libvirt.interfaces(&domain, has_devices);
        printed.next().map(|(sentence, _)| sentence)
    }

    #[test]
    fn a_pool_of_host_devices_is_named_and_another_network_is_not() {
        let named = printed(&asked(), "p", false).expect("a note");
        assert!(named.contains("one of 0000:81:00.2"), "{named}");
        assert_eq!(printed(&asked(), "default", true), None);
    }

    #[test]
    fn of_a_large_pool_some_devices_are_named() {
        let addresses: String = (0..64)
            .map(|number| {
                format!(
                    "<address bus='9' slot='{}' function='{}'/>",
                    number >> 3,
                    number & 7
                )
            })
            .collect();
        let xml = format!("<network><forward mode='hostdev'>{addresses}</forward></network>");
        let libvirt = FromLibvirt {
            networks: Some(Arc::new(Networks::new([("p".to_owned(), xml)]))),
            ..FromLibvirt::default()
        };
        let named = printed(&libvirt, "p", false).expect("a note");
        assert!(named.contains("0000:09:01.7 and 48 more when"), "{named}");
    }

    #[test]
    fn an_unknown_network_is_named_with_the_reason_where_the_guest_has_a_device() {
        for (libvirt, network, why) in [
            (&NOTHING, "p", "unknown until libvirt is asked"),
            (&asked(), "gone", "libvirt has no such network"),
            (&asked(), "broken", "cannot be read"),
        ] {
            assert_eq!(printed(libvirt, network, false), None);
            let named = printed(libvirt, network, true).expect("a note");
            assert!(named.contains(why), "{named}");
        }
    }

    #[test]
    fn a_device_is_found_by_its_pool_and_a_pool_by_its_device() {
        let networks = asked().networks.expect("asked");
        let device: PciAddress = "0000:81:00.2".parse().expect("address");
        assert_eq!(networks.devices(&guest("p")).collect::<Vec<_>>(), [device]);
        assert_eq!(networks.devices(&guest("default")).count(), 0);
        assert_eq!(networks.with(device).collect::<Vec<_>>(), ["p"]);
    }
}
