//! What only libvirt knows and a plan needs: networks with a pool of host devices, and its defaults for architecture and machine.
//!
//! The agent asks when it connects, when a network changes and when a definition is prepared, and keeps the networks: the hook must
//! not call libvirt. libvirt chooses a device of a pool between the hook's `prepare` and `start` (src/qemu/qemu_process.c,
//! qemuProcessPrepareDomain), so before a start the pool is all that is known.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use kernel_glue::address::PciAddress;

use crate::domain::{Domain, network};

/// What libvirt has answered; nothing where it was not asked.
#[derive(Clone, Debug, Default)]
pub struct FromLibvirt {
    /// Its networks.
    pub networks: Option<Arc<Networks>>,
    /// The architecture of a guest whose definition names none.
    pub arch: Option<String>,
    /// The machine type of such a guest.
    pub machine: Option<String>,
}

/// Offline.
pub static NOTHING: FromLibvirt = FromLibvirt {
    networks: None,
    arch: None,
    machine: None,
};

/// The host devices of a network; empty for one that has none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool(Vec<PciAddress>);

/// Networks by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks(BTreeMap<String, Pool>);

/// The networks that libvirt named last.
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
    /// From names and definitions; one that cannot be read is not known.
    #[must_use]
    pub fn new<'a>(definitions: impl IntoIterator<Item = (String, &'a str)>) -> Self {
        let known = definitions.into_iter();
        Self(
            known
                .filter_map(|(name, xml)| Some((name, Pool::parse(xml)?)))
                .collect(),
        )
    }

    /// The pool of a network; `None` where it is not known.
    #[must_use]
    pub fn pool(&self, name: &str) -> Option<&Pool> {
        self.0.get(name)
    }
}

impl FromLibvirt {
    fn pool(&self, name: &str) -> Option<&Pool> {
        self.networks.as_ref()?.pool(name)
    }

    /// How many host devices a guest is assigned by pools.
    #[must_use]
    pub fn assigned(&self, domain: &Domain) -> usize {
        let interfaces = domain.networks.iter();
        let pooled = interfaces.filter(|(name, _)| {
            let pool = self.pool(name);
            pool.is_some_and(|pool| !pool.devices().is_empty())
        });
        pooled.map(|(_, count)| count).sum()
    }

    /// What is to be said of the interfaces of each network, with the devices of its pool.
    pub fn interfaces<'a>(
        &'a self,
        domain: &'a Domain,
    ) -> impl Iterator<Item = (String, &'a [PciAddress])> {
        let said = |name: &'a String| {
            let pool = self.pool(name);
            Some((sentence(name, pool)?, pool.map_or(&[][..], Pool::devices)))
        };
        domain.networks.keys().filter_map(said)
    }
}

impl KnownNetworks {
    /// Takes what libvirt says now.
    pub fn learn(&self, networks: Networks) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(networks));
    }

    /// What it said last.
    #[must_use]
    pub fn now(&self) -> Option<Arc<Networks>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What an interface of a network may bring; `None` for one that brings no host device.
#[must_use]
pub fn sentence(name: &str, pool: Option<&Pool>) -> Option<String> {
    match pool {
        None => Some(format!(
            "the interface of network '{name}' is not judged: whether it assigns a host device is unknown until libvirt is asked \
             ('variantctl plan NAME' and 'atomics --domain NAME' do)"
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
        let said = |name: &str, xml| sentence(name, Pool::parse(xml).as_ref());
        let named = said("p", pool).expect("a note");
        assert!(named.contains("one of 0000:81:00.2"), "{named}");
        let nat = "<network><name>default</name><forward mode='nat'/></network>";
        assert_eq!(said("default", nat), None);
        let unasked = sentence("p", None).expect("a note");
        assert!(
            unasked.contains("unknown until libvirt is asked"),
            "{unasked}"
        );
        assert_eq!(Pool::parse("<network"), None);
    }
}
