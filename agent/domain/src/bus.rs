//! PCI buses for which libvirt adds the controller when it defines the domain.
//!
//! Follows qemuDomainPCIAddressSetCreate and virDomainPCIAddressSetGrow (libvirt, src/qemu/qemu_domain_address.c and
//! src/conf/domain_addr.c): each index without a controller, up to the highest that a controller or an address of a device names,
//! gets a `pcie-root-port` where the machine has a `pcie-root`, and a `pci-bridge` where it has a `pci-root`. A root port goes
//! onto the root bus. A conventional device on such a bus of a PCI Express machine would get a bridge; of those nothing is read.

use std::collections::BTreeSet;

use super::Domain;

/// Model of the controller that libvirt adds on a PCI Express machine.
pub const ROOT_PORT: &str = "pcie-root-port";

impl Domain {
    /// The model of a PCI bus: its controller's, or that of the one which libvirt adds; `None` where that is not known.
    #[must_use]
    pub fn bus_model(&self, index: u32) -> Option<&str> {
        match (self.controller(index), index) {
            (Some(controller), _) => Some(&controller.model),
            (None, 0) => self.root_model(),
            (None, _) => match self.root_model()? {
                "pcie-root" => Some(ROOT_PORT),
                _ => Some("pci-bridge"),
            },
        }
    }

    /// The index of the bus that a bus hangs from; `None` for a root bus, and where libvirt has not decided it yet.
    #[must_use]
    pub fn bus_above(&self, index: u32) -> Option<u32> {
        let address = self.controller(index).map(|controller| controller.address);
        match address {
            Some(Some(address)) => Some(address.at.bus().into()),
            // A port without an address goes onto the root bus, as one that libvirt adds.
            _ => (index > 0 && self.bus_model(index) == Some(ROOT_PORT)).then_some(0),
        }
    }

    /// The indexes for which libvirt adds a controller. The root bus is not one of them.
    pub fn added_buses(&self) -> impl Iterator<Item = u32> {
        let written: BTreeSet<u32> = self.controllers.iter().map(|one| one.index).collect();
        let controllers = written.iter().copied().max();
        let addresses = self.addresses().filter(|address| address.at.domain() == 0);
        let highest = addresses.map(|address| u32::from(address.at.bus())).max();
        let highest = controllers.max(highest).unwrap_or(0).min(255);
        (1..=highest).filter(move |index| !written.contains(index))
    }

    /// The root bus of the machine: as written, or as libvirt adds it (qemuDomainDefAddDefaultDevices).
    #[must_use]
    pub fn root_model(&self) -> Option<&'static str> {
        let has = |model: &str| self.controllers.iter().any(|one| one.model == model);
        match self.family() {
            "q35" | "virt" => Some("pcie-root"),
            "pc" => Some("pci-root"),
            _ if has("pcie-root") => Some("pcie-root"),
            _ if has("pci-root") => Some("pci-root"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(machine: &str, devices: &str) -> Domain {
        let text = format!(
            "<domain><name>g</name><memory>1</memory><os><type arch='x86_64' machine='{machine}'>hvm</type></os>\
             <devices>{devices}</devices></domain>"
        );
        Domain::parse(&text).expect("a domain")
    }

    fn disk(bus: u32) -> String {
        format!("<disk type='block'><address type='pci' bus='{bus}' slot='0' function='0'/></disk>")
    }

    #[test]
    fn libvirt_adds_a_port_for_each_index_up_to_the_highest() {
        let port = "<controller type='pci' index='2' model='pcie-root-port'/>";
        let domain = guest("q35", &(disk(4) + port));
        assert_eq!(domain.added_buses().collect::<Vec<_>>(), [1, 3, 4]);
        assert_eq!(domain.bus_model(4), Some(ROOT_PORT));
        assert_eq!(domain.bus_above(4), Some(0));
        assert_eq!(
            (domain.bus_model(0), domain.bus_above(0)),
            (Some("pcie-root"), None)
        );
    }

    #[test]
    fn a_conventional_machine_gets_a_bridge_and_an_unknown_one_nothing() {
        assert_eq!(guest("pc", &disk(1)).bus_model(1), Some("pci-bridge"));
        assert_eq!(guest("sun4u", &disk(1)).bus_model(1), None);
    }
}
