//! The position of a device: its root port, the bridges between, and the functions of its slot.
//!
//! Uses only a host that was read before. If config space was not readable, the first bridge above a device counts as
//! its root port.

use std::fmt;

use crate::address::PciAddress;
use crate::config::{Config, Port};
use crate::device::Device;
use crate::host::Host;

/// A device and its position.
#[derive(Clone, Debug)]
pub struct Position<'a> {
    /// The device.
    pub device: &'a Device,
    /// The root port above it; `None` on a root bus, or below a bridge that is not a root port.
    pub root_port: Option<&'a Device>,
    /// Bridges between the root port (or the root bus) and the device, from the root down.
    pub between: Vec<&'a Device>,
    /// Bridges above it that the host does not show, from the root down.
    pub unknown: Vec<PciAddress>,
    /// Other functions of its slot, by address.
    pub siblings: Vec<&'a Device>,
}

/// A root bus; prints as `0009:00`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RootBus {
    /// The PCI domain.
    pub domain: u32,
    /// The bus number.
    pub bus: u8,
}

impl Host {
    /// The position of `device`.
    #[must_use]
    pub fn position<'a>(&'a self, device: &'a Device) -> Position<'a> {
        let (known, unknown): (Vec<_>, Vec<_>) = device
            .ancestors
            .iter()
            .partition(|address| self.devices.contains_key(address));
        let mut between: Vec<&Device> =
            known.iter().map(|address| &self.devices[address]).collect();
        let top = device.ancestors.first();
        // If the topmost bridge is not visible, the first visible one is not the root port, whatever its type.
        let on_top = |bridge: &&Device| Some(&bridge.address) == top;
        let root_port = between
            .first()
            .copied()
            .filter(on_top)
            .filter(|b| is_root_port(b));
        if root_port.is_some() {
            between.remove(0);
        }
        Position {
            device,
            root_port,
            between,
            unknown,
            siblings: self.siblings(device.address),
        }
    }

    /// The functions of an IOMMU group that are not bridges, by address: those that a guest, or another driver, can
    /// use. Ports in the group do not matter (their driver does no DMA).
    pub fn group_endpoints(&self, group: u32) -> impl Iterator<Item = &Device> {
        self.group(group).filter(|device| !device.is_bridge())
    }

    /// The virtual functions of a physical one that are enabled at present, by address.
    pub fn virtual_functions(&self, physical: PciAddress) -> impl Iterator<Item = &Device> {
        let is_its = move |device: &&Device| device.physical_function == Some(physical);
        self.devices.values().filter(is_its)
    }

    fn siblings(&self, address: PciAddress) -> Vec<&Device> {
        let function = |number| {
            PciAddress::new(address.domain(), address.bus(), address.device(), number)
                .expect("the slot is an address' own, functions are 0 to 7")
        };
        let slot = self.devices.range(function(0)..=function(7));
        slot.map(|(_, device)| device)
            .filter(|device| device.address != address)
            .collect()
    }
}

impl Position<'_> {
    /// True if no bridge is between the device and its root port.
    #[must_use]
    pub fn is_directly_on_root_port(&self) -> bool {
        self.root_port.is_some() && self.between.is_empty() && self.unknown.is_empty()
    }

    /// True for device 0, function 0 of its bus.
    #[must_use]
    pub fn is_first_function(&self) -> bool {
        (self.device.address.device(), self.device.address.function()) == (0, 0)
    }

    /// True if the host shows no other function of its slot.
    #[must_use]
    pub fn is_single_function(&self) -> bool {
        self.siblings.is_empty()
    }
}

impl Device {
    /// Its root bus.
    #[must_use]
    pub fn root_bus(&self) -> RootBus {
        let top = self.ancestors.first().unwrap_or(&self.address);
        RootBus {
            domain: top.domain(),
            bus: top.bus(),
        }
    }
}

impl fmt::Display for RootBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}:{:02x}", self.domain, self.bus)
    }
}

fn is_root_port(bridge: &Device) -> bool {
    match &bridge.config {
        Config::Express(express) => express.port == Port::RootPort,
        Config::Conventional => false,
        // Without CAP_SYS_ADMIN the port type is not readable, but the class is.
        Config::Unreadable(_) => bridge.is_bridge(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConfigError, Express};
    use crate::id::PciId;

    fn device(address: &str, ancestors: &[&str], port: Option<Port>) -> Device {
        let address: PciAddress = address.parse().expect("address");
        let config = match port {
            None => Config::Unreadable(ConfigError::Short(64)),
            Some(port) => Config::Express(Express {
                version: 2,
                port,
                devcap: 0,
                devctl: 0,
                access_control: None,
                ats: None,
                devcap2: 0,
                lnkcap: 0,
                devctl2: 0,
            }),
        };
        let endpoint = port == Some(Port::Endpoint);
        Device {
            address,
            id: PciId {
                vendor: 0x10de,
                device: 0x2342,
            },
            class: if endpoint { 0x03_0200 } else { 0x06_0400 },
            driver: None,
            driver_override: None,
            numa_node: None,
            iommu_group: Some(1),
            iommu: None,
            modalias: String::new(),
            bars: Default::default(),
            regions: None,
            reset_methods: Vec::new(),
            physical_function: None,
            ancestors: ancestors
                .iter()
                .map(|a| a.parse().expect("address"))
                .collect(),
            config,
        }
    }

    fn host(devices: Vec<Device>) -> Host {
        let devices = devices.into_iter().map(|device| (device.address, device));
        Host {
            devices: devices.collect(),
            ..Host::default()
        }
    }

    fn position<'a>(host: &'a Host, address: &str) -> Position<'a> {
        let address = address.parse().expect("address");
        host.position(&host.devices[&address])
    }

    #[test]
    fn a_device_below_its_port_is_directly_on_it() {
        let host = host(vec![
            device("00:01.0", &[], Some(Port::RootPort)),
            device("01:00.0", &["00:01.0"], Some(Port::Endpoint)),
        ]);
        let position = position(&host, "01:00.0");
        assert!(position.is_directly_on_root_port());
        assert!(position.is_first_function() && position.is_single_function());
        assert_eq!(position.device.root_bus().to_string(), "0000:00");
    }

    #[test]
    fn the_ports_of_a_switch_are_between() {
        let host = host(vec![
            device("00:01.0", &[], Some(Port::RootPort)),
            device("01:00.0", &["00:01.0"], Some(Port::UpstreamPort)),
            device(
                "02:03.0",
                &["00:01.0", "01:00.0"],
                Some(Port::DownstreamPort),
            ),
            device(
                "03:00.1",
                &["00:01.0", "01:00.0", "02:03.0"],
                Some(Port::Endpoint),
            ),
            device(
                "03:00.0",
                &["00:01.0", "01:00.0", "02:03.0"],
                Some(Port::Endpoint),
            ),
        ]);
        let position = position(&host, "03:00.1");
        assert_eq!(position.between.len(), 2);
        assert_eq!(position.siblings.len(), 1);
        assert!(!position.is_directly_on_root_port() && !position.is_first_function());
        assert_eq!(host.group_endpoints(1).count(), 2);
    }

    #[test]
    fn a_device_on_a_root_bus_has_no_port() {
        let host = host(vec![device(
            "00:05.0",
            &[],
            Some(Port::RootComplexEndpoint),
        )]);
        assert!(position(&host, "00:05.0").root_port.is_none());
    }

    #[test]
    fn unknown_bridge_is_not_skipped() {
        let missing = host(vec![device(
            "02:00.0",
            &["00:01.0", "01:00.0"],
            Some(Port::Endpoint),
        )]);
        let lost = position(&missing, "02:00.0");
        assert!(lost.root_port.is_none());
        assert_eq!(lost.unknown.len(), 2);
        let lower = host(vec![
            device("01:00.0", &["00:01.0"], Some(Port::RootPort)),
            device("02:00.0", &["00:01.0", "01:00.0"], Some(Port::Endpoint)),
        ]);
        assert!(position(&lower, "02:00.0").root_port.is_none());
    }

    #[test]
    fn first_bridge_counts_as_root_port_without_privilege() {
        let host = host(vec![
            device("00:01.0", &[], None),
            device("01:00.0", &["00:01.0"], Some(Port::Endpoint)),
        ]);
        assert!(position(&host, "01:00.0").is_directly_on_root_port());
    }
}
