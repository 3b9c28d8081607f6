//! One domain as libvirt formats it.

use kernel_glue::address::PciAddress;
use serde::{Deserialize, Serialize};
use virt::connect::Connect;
use virt::domain::Domain;
use virt::error::Error;
use virt_sys as sys;

use super::Capabilities;
use domain::Domain as Definition;
use planner::from_libvirt::Networks;

/// A definition.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Defined {
    /// Its name.
    pub name: String,
    /// Its XML without secrets.
    pub xml: String,
    /// It runs.
    pub active: bool,
    /// The host devices of the running guest: including those that were attached to it, or chosen from a pool.
    pub has: Vec<PciAddress>,
    /// The capabilities of such a guest.
    pub capabilities: Capabilities,
}

/// A domain before it is known whether it is relevant: QEMU's capabilities are not queried yet, because libvirt may
/// start QEMU for them.
pub(super) struct Read {
    name: String,
    text: String,
    /// `None` for a text that cannot be parsed.
    definition: Option<Definition>,
    active: bool,
    has: Vec<PciAddress>,
}

impl Read {
    /// With the definition for the next start.
    pub(super) fn next_start(domain: &Domain) -> Result<Self, Error> {
        let active = domain.is_active()?;
        let live = active.then(|| domain.xml_desc(0)).transpose()?;
        // The live XML also has devices that were attached to the guest, and the one that a network's pool gave it.
        let live = live.and_then(|text| Definition::parse(&text).ok());
        let text = domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE)?;
        Ok(Self {
            name: domain.name()?,
            definition: Definition::parse(&text).ok(),
            text,
            active,
            has: live.map_or_else(Vec::new, |live| live.sources().collect()),
        })
    }

    /// The same; with the live XML if the definition does not have this device.
    pub(super) fn with(domain: &Domain, device: Option<PciAddress>) -> Result<Self, Error> {
        let read = Self::next_start(domain)?;
        let lacks = |device| {
            let definition = read.definition.as_ref();
            definition.is_some_and(|definition| !definition.uses(device))
        };
        if !device.is_some_and(lacks) {
            return Ok(read);
        }
        let text = domain.xml_desc(0)?;
        Ok(Self {
            definition: Definition::parse(&text).ok(),
            text,
            ..read
        })
    }

    /// True if an interface belongs to a network.
    pub(super) fn has_networks(&self) -> bool {
        let definition = self.definition.as_ref();
        definition.is_some_and(|definition| !definition.networks.is_empty())
    }

    /// True if it has a mark, one of the devices, or one from a pool.
    pub(super) fn concerns(&self, devices: &[PciAddress], pools: Option<&Networks>) -> bool {
        let Some(definition) = &self.definition else {
            return false;
        };
        let pooled = pools.into_iter().flat_map(|all| all.devices(definition));
        let all = definition.sources().chain(self.has.iter().copied());
        definition.mark.is_some() || all.chain(pooled).any(|device| devices.contains(&device))
    }

    /// Adds the capabilities of such a guest.
    pub(super) fn defined(self, connect: &Connect) -> Defined {
        let definition = self.definition.as_ref();
        let named = |of: fn(&Definition) -> Option<&String>| definition.and_then(of);
        let capabilities = connect.domain_capabilities(
            None,
            named(|one| one.arch.as_ref()).map(String::as_str),
            named(|one| one.machine.as_ref()).map(String::as_str),
            named(|one| one.platform.accelerator.as_ref()).map(String::as_str),
            0,
        );
        // An error is not reported: the plan then says which facts it assumes.
        let capabilities = capabilities.ok().as_deref().map(Capabilities::parse);
        Defined {
            name: self.name,
            xml: self.text,
            active: self.active,
            has: self.has,
            capabilities: capabilities.unwrap_or_default(),
        }
    }
}
