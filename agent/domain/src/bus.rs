//! PCI buses for which libvirt adds the controller when it defines the domain.
//!
//! Follows qemuDomainPCIAddressSetCreate and virDomainPCIAddressSetGrow (libvirt, src/qemu/qemu_domain_address.c and
//! src/conf/domain_addr.c): each index without a controller, up to the highest that a controller or a device address
//! names, gets a `pcie-root-port` if the machine has a `pcie-root`, and a `pci-bridge` if it has a `pci-root`. A root
//! port goes onto the root bus. For a conventional device on a bus above all controllers of a PCI Express machine,
//! libvirt adds a root port, a `pcie-to-pci-bridge` and `pci-bridge`s instead, and may move the device to the next bus.
//! This file does not read whether a device is conventional; it infers that from a slot that a root port does not have.

use std::collections::BTreeSet;

use super::{Domain, GuestAddress};

/// Model of the controller that libvirt adds on a PCI Express machine.
pub const ROOT_PORT: &str = "pcie-root-port";

impl Domain {
    /// The model of a PCI bus: that of its controller, or of the one that libvirt adds; `None` if unknown.
    #[must_use]
    pub fn bus_model(&self, index: u32) -> Option<&str> {
        match (self.controller(index), index) {
            (Some(controller), _) => Some(&controller.model),
            (None, 0) => self.root_model(),
            (None, _) => match self.root_model()? {
                // The last of these bridges may be one above the device's bus.
                "pcie-root" if self.conventional_top().is_some_and(|top| index <= top + 1) => None,
                "pcie-root" => Some(ROOT_PORT),
                _ => Some("pci-bridge"),
            },
        }
    }

    /// The index of the parent bus; `None` for a root bus, and if libvirt has not decided it yet.
    #[must_use]
    pub fn bus_above(&self, index: u32) -> Option<u32> {
        let address = self.controller(index).map(|controller| controller.address);
        match address {
            Some(Some(address)) => Some(address.at.bus().into()),
            // libvirt puts a port without an address onto the root bus, like the ports that it adds.
            _ => (index > 0 && self.bus_model(index) == Some(ROOT_PORT)).then_some(0),
        }
    }

    /// Emulated devices on a bus above all controllers, in a slot that an added root port would not have. libvirt adds
    /// conventional bridges for them instead, if the definition has no controller above that bus.
    pub fn conventional(&self) -> impl Iterator<Item = GuestAddress> {
        let controllers = self.controllers.iter().map(|one| one.index).max();
        let highest = controllers.unwrap_or(0);
        let is_express = self.root_model() == Some("pcie-root");
        let bridges = self.controllers.iter().filter_map(|one| one.address);
        let all = bridges.chain(self.other_addresses.iter().copied());
        all.filter(move |address| {
            let at = address.at;
            is_express && at.domain() == 0 && u32::from(at.bus()) > highest && at.device() > 0
        })
    }

    /// The highest bus of such a device.
    fn conventional_top(&self) -> Option<u32> {
        self.conventional()
            .map(|address| address.at.bus().into())
            .max()
    }

    /// The indexes for which libvirt adds a controller, without the root bus.
    pub fn added_buses(&self) -> impl Iterator<Item = u32> {
        let written: BTreeSet<u32> = self.controllers.iter().map(|one| one.index).collect();
        let controllers = written.iter().copied().max();
        let addresses = self.addresses().filter(|address| address.at.domain() == 0);
        let highest = addresses.map(|address| u32::from(address.at.bus())).max();
        let highest = controllers.max(highest).unwrap_or(0).min(255);
        (1..=highest).filter(move |index| !written.contains(index))
    }

    /// The root bus of the machine: from the definition, or as libvirt adds it (qemuDomainDefAddDefaultDevices).
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
    fn buses_of_a_conventional_device_above_all_controllers_are_unknown() {
        let sound =
            "<sound model='ich6'><address type='pci' bus='2' slot='1' function='0'/></sound>";
        let of = |devices: &str| {
            let domain = guest("q35", devices);
            [1, 2, 3, 4].map(|index| domain.bus_model(index).map(str::to_owned))
        };
        let port = || Some(ROOT_PORT.to_owned());
        assert_eq!(of(sound), [None, None, None, port()]);
        assert_eq!(of(&disk(2)), [port(), port(), port(), port()]);
        // libvirt adds root ports below a controller, and refuses the slot itself.
        let above = "<controller type='pci' index='4' model='pcie-root-port'/>";
        assert_eq!(
            of(&(sound.to_owned() + above)),
            [port(), port(), port(), port()]
        );
        assert_eq!(guest("pc", sound).conventional().count(), 0);
    }

    #[test]
    fn a_conventional_machine_gets_a_bridge_and_an_unknown_one_nothing() {
        assert_eq!(guest("pc", &disk(1)).bus_model(1), Some("pci-bridge"));
        assert_eq!(guest("sun4u", &disk(1)).bus_model(1), None);
    }
}
