//! The guest address of a device: from the definition, or as libvirt will choose it.
//!
//! libvirt (src/conf/domain_addr.c; seen with 9.0, 11.3 and 12.8) gives a PCI Express device without an address the
//! free port with the lowest index (of a root port or a switch), and adds a root port if none is free. Which of
//! several free ones it takes depends on earlier devices, such as a USB controller that the definition does not name; that
//! matters only if ports of a switch are among them. It also adds a root port for a bus that has no controller, and
//! sets the multifunction flag on function 0 of a slot with others.

use std::fmt;

use kernel_glue::address::PciAddress;
use kernel_glue::config::Config;
use kernel_glue::device::Device;

use super::Guest;
use domain::{Controller, Domain, GuestAddress, Hostdev, Usage};

/// The guest address of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The bus.
    pub bus: Bus,
    /// Slot and function on it.
    pub slot: (u8, u8),
    /// Why it is one of several functions; `None` if it is alone.
    pub multifunction: Option<String>,
    /// Another host device on the same root port.
    pub shared_with: Option<PciAddress>,
    /// How it was predicted; `None` if the definition has it.
    pub predicted: Option<String>,
}

/// The bus of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bus {
    /// A root port.
    RootPort(u32),
    /// A root port that libvirt chooses.
    SomeRootPort,
    /// A root bus: the machine's or an expander's.
    Root(u32),
    /// A switch's downstream port.
    Switch(u32),
    /// Another controller, by its model.
    Other(Option<u32>, String),
    /// A machine without PCI Express.
    Conventional(String),
    /// No port is free.
    NoFreePort,
    /// Unknown, for this reason.
    Unknown(String),
}

const ROOT_PORT: &str = "pcie-root-port";
const DOWNSTREAM: &str = "pcie-switch-downstream-port";

/// The guest address of a device.
pub(super) fn of(guest: &Guest<'_>, device: &Device) -> Place {
    let domain = guest.domain;
    let hostdev = domain
        .hostdevs
        .iter()
        .find(|hostdev| hostdev.source == device.address);
    let elsewhere = domain.elsewhere.iter();
    let elsewhere = elsewhere.filter(|one| one.source == device.address);
    if let Some(other) = elsewhere.map(|one| one.usage).next() {
        return unchecked(other);
    }
    match hostdev {
        Some(hostdev) if !guest.attach => match hostdev.address {
            Some(address) => given(domain, hostdev, address),
            None => chosen(domain, device),
        },
        _ => attached(domain, device),
    }
}

/// A device that the definition uses outside of libvirt's PCI devices.
fn unchecked(usage: Usage) -> Place {
    let why = match usage {
        Usage::NvmeDisk => {
            "QEMU uses it as an NVMe disk; the guest does not see it as a PCI function"
        }
        Usage::Argument => {
            "QEMU arguments assign it ('-device vfio-pci'); their guest address is not read"
        }
    };
    let how = "the definition assigns it without libvirt";
    Place::predicted(Bus::Unknown(why.to_owned()), how)
}

impl Place {
    /// A planned port of its own: a switch port or a root port.
    pub(super) fn planned(switch: bool) -> Self {
        let bus = match switch {
            true => Bus::Other(None, DOWNSTREAM.to_owned()),
            false => Bus::SomeRootPort,
        };
        Self::predicted(bus, "a port of its own is planned")
    }

    fn predicted(bus: Bus, how: &str) -> Self {
        Self {
            bus,
            slot: (0, 0),
            multifunction: None,
            shared_with: None,
            predicted: Some(how.to_owned()),
        }
    }
}

fn given(domain: &Domain, hostdev: &Hostdev, address: GuestAddress) -> Place {
    let index = u32::from(address.at.bus());
    if addresses(domain)
        .filter(|other| other.at == address.at)
        .count()
        > 1
    {
        let why = format!(
            "another device also has the guest address {}, which libvirt refuses",
            address.at
        );
        return Place::predicted(Bus::Unknown(why), "the definition contradicts itself");
    }
    let added =
        "libvirt adds the controller of a bus that the definition does not name, as a root port";
    // Bus 0 always exists: libvirt adds the machine's root bus to every definition.
    let missing = domain.controller(index).is_none() && index > 0;
    Place {
        bus: bus(domain, index),
        slot: (address.at.device(), address.at.function()),
        multifunction: several(domain, address),
        shared_with: neighbour(domain, hostdev, address),
        predicted: missing.then(|| added.to_owned()),
    }
}

fn bus(domain: &Domain, index: u32) -> Bus {
    match (express(domain), domain.controller(index)) {
        (Err(conventional), _) => conventional,
        (Ok(()), None) if index > 0 => match domain.bus_model(index) {
            Some(_) => Bus::RootPort(index),
            None => Bus::Unknown(format!(
                "bus {index} has no controller, and libvirt adds conventional bridges for another device without one"
            )),
        },
        (Ok(()), None) => Bus::Root(0),
        (Ok(()), Some(controller)) => match controller.model.as_str() {
            ROOT_PORT => Bus::RootPort(index),
            DOWNSTREAM => Bus::Switch(index),
            "pcie-root" | "pcie-expander-bus" => Bus::Root(index),
            "" => Bus::Unknown(format!("the controller of bus {index} names no model")),
            model => Bus::Other(Some(index), model.to_owned()),
        },
    }
}

/// Checks that the machine's root bus is PCI Express.
fn express(domain: &Domain) -> Result<(), Bus> {
    let has = |model: &str| domain.controllers.iter().any(|c| c.model == model);
    let family = domain.family();
    let machine = domain.machine.as_deref().unwrap_or(family);
    match family {
        _ if has("pcie-root") => Ok(()),
        _ if has("pci-root") => Err(Bus::Conventional(
            "a root bus of model 'pci-root'".to_owned(),
        )),
        "q35" | "virt" => Ok(()),
        "pc" if domain.machine.is_none() => Err(Bus::Conventional(
            "machine 'pc', libvirt's default where the definition has none".to_owned(),
        )),
        "pc" => Err(Bus::Conventional(format!("machine '{machine}'"))),
        "" => Err(Bus::Unknown(
            "the definition has no machine type, and libvirt's default may not have PCI Express"
                .to_owned(),
        )),
        _ => Err(Bus::Unknown(format!("machine '{machine}' is not known"))),
    }
}

/// libvirt sets the flag on function 0 of a slot that has other functions.
fn several(domain: &Domain, address: GuestAddress) -> Option<String> {
    if address.multifunction {
        return Some("its address has multifunction='on'".to_owned());
    }
    let (at, slot) = (address.at, slot(address.at));
    let other = addresses(domain).find(|other| slot == self::slot(other.at) && other.at != at)?;
    Some(format!(
        "function {} is in its slot, too",
        other.at.function()
    ))
}

fn slot(at: PciAddress) -> (u32, u8, u8) {
    (at.domain(), at.bus(), at.device())
}

fn addresses(domain: &Domain) -> impl Iterator<Item = GuestAddress> {
    let hostdevs = domain.hostdevs.iter().filter_map(|hostdev| hostdev.address);
    let controllers = domain.controllers.iter().filter_map(|c| c.address);
    hostdevs
        .chain(controllers)
        .chain(domain.other_addresses.iter().copied())
}

fn neighbour(domain: &Domain, hostdev: &Hostdev, address: GuestAddress) -> Option<PciAddress> {
    let here = |other: &&Hostdev| {
        let bus = other.address.map(|other| other.at.bus());
        other.source != hostdev.source && bus == Some(address.at.bus())
    };
    let other = domain.hostdevs.iter().find(here)?;
    let port = domain.controller(address.at.bus().into());
    // Without a controller libvirt adds a root port.
    port.is_none_or(|port| port.model == ROOT_PORT)
        .then_some(other.source)
}

/// The address that libvirt will choose when the domain is defined.
fn chosen(domain: &Domain, device: &Device) -> Place {
    if let Err(bus) = express(domain) {
        return Place::predicted(bus, "the definition gives it no address");
    }
    if device.config == Config::Conventional {
        let bridge = Bus::Other(None, "pcie-to-pci-bridge".to_owned());
        return Place::predicted(
            bridge,
            "libvirt puts a conventional PCI device behind a bridge",
        );
    }
    let switch = free(domain).find(|port| port.model == DOWNSTREAM);
    if let Some(port) = switch {
        let why = format!(
            "the definition gives it no address, and libvirt may choose the free port of a switch, bus {}",
            port.index
        );
        return Place::predicted(Bus::Unknown(why), "libvirt chooses among the free ports");
    }
    let how = "libvirt gives it a free root port, or adds one";
    Place::predicted(Bus::SomeRootPort, how)
}

/// The address that libvirt will choose while the guest runs: by then each device has an address.
fn attached(domain: &Domain, device: &Device) -> Place {
    if let Err(bus) = express(domain) {
        return Place::predicted(bus, "it is to be attached");
    }
    if device.config == Config::Conventional {
        let bridge = Bus::Other(None, "pcie-to-pci-bridge".to_owned());
        return Place::predicted(
            bridge,
            "libvirt puts a conventional PCI device behind a bridge",
        );
    }
    let how = "libvirt plugs it into the free port of the lowest index";
    let ports = domain.controllers.iter().filter(|port| is_port(port));
    if ports.count() == 0 {
        let why = "the definition names no port; libvirt adds some when it is defined".to_owned();
        return Place::predicted(Bus::Unknown(why), how);
    }
    let first = free(domain)
        .filter(|port| port.hotplug)
        .min_by_key(|port| port.index);
    let bus = match first {
        None => Bus::NoFreePort,
        Some(port) if port.model == ROOT_PORT => Bus::RootPort(port.index),
        Some(port) => Bus::Switch(port.index),
    };
    Place::predicted(bus, how)
}

fn is_port(controller: &Controller) -> bool {
    matches!(controller.model.as_str(), ROOT_PORT | DOWNSTREAM)
}

/// Ports without a device in the definition.
fn free(domain: &Domain) -> impl Iterator<Item = &Controller> {
    let ports = domain.controllers.iter().filter(|port| is_port(port));
    ports.filter(|port| domain.devices_on(port.index) == 0)
}

impl fmt::Display for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RootPort(index) => write!(f, "root port, bus {index}"),
            Self::SomeRootPort => f.write_str("a root port of libvirt's choice"),
            Self::Root(index) => write!(f, "root bus {index}"),
            Self::Switch(index) => write!(f, "switch downstream port, bus {index}"),
            Self::Other(None, model) => f.write_str(model),
            Self::Other(Some(index), model) => write!(f, "{model}, bus {index}"),
            Self::Conventional(what) => f.write_str(what),
            Self::NoFreePort => f.write_str("no free port"),
            Self::Unknown(_) => f.write_str("not known"),
        }
    }
}
