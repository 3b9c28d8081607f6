//! PCI controllers, host devices, and their guest addresses.

use std::fmt;
use std::ops::Range;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use crate::edit::Element;

/// `<address type='pci'>`: the guest address of a device. The bus is the index of a PCI controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuestAddress {
    /// Domain, bus, slot and function as numbers.
    pub at: PciAddress,
    /// `multifunction='on'`.
    pub multifunction: bool,
}

impl GuestAddress {
    /// True for slot 0, function 0 without the multifunction flag.
    #[must_use]
    pub fn is_origin(&self) -> bool {
        self.at.device() == 0 && self.at.function() == 0 && !self.multifunction
    }
}

/// `<controller type='pci'>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// `index`: the bus number that addresses use. If the definition has none, the index that libvirt will assign.
    pub index: u32,
    /// `model`, such as `pcie-root` or `pcie-root-port`.
    pub model: String,
    /// `<target busNr>` of an expander bus.
    pub bus_number: Option<u8>,
    /// `<target><node>` of an expander bus: its guest cell.
    pub cell: Option<u32>,
    /// Devices can be plugged in while the guest runs (`<target hotplug>`).
    pub hotplug: bool,
    /// `<pcihole64>` in KiB.
    pub hole64_kib: Option<u64>,
    /// `<pcihole64>`, if present.
    pub hole64_element: Option<Element>,
    /// The controller's own address.
    pub address: Option<GuestAddress>,
    /// The controller.
    pub element: Element,
}

/// The element that assigns a host device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `<hostdev mode='subsystem' type='pci'>`.
    Hostdev,
    /// `<interface type='hostdev'>`: a network function, with a MAC address that libvirt sets.
    Interface,
}

/// A host device that libvirt assigns as a PCI function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hostdev {
    /// Its element.
    pub kind: Kind,
    /// Position among all `<interface type='hostdev'>`, then all `<hostdev>` of every type: libvirt numbers their
    /// aliases in this order.
    pub place: usize,
    /// The host device.
    pub source: PciAddress,
    /// `managed='yes'`: libvirt binds and releases the device.
    pub managed: bool,
    /// `<driver>`, if present.
    pub driver: Option<Driver>,
    /// `<alias name>`; libvirt keeps one that the user chose (prefix `ua-`).
    pub alias: Option<String>,
    /// `<alias>` as written.
    pub alias_text: Option<String>,
    /// `<alias>`, if present.
    pub alias_element: Option<Element>,
    /// `<acpi nodeset>`.
    pub nodeset: Option<RangeList>,
    /// `nodeset` with the white space before it.
    pub nodeset_attribute: Option<Range<usize>>,
    /// `<acpi>`, if present.
    pub acpi_element: Option<Element>,
    /// The guest address.
    pub address: Option<GuestAddress>,
    /// `<address>` outside `<source>`, as written.
    pub address_text: Option<String>,
    /// `<address>` outside `<source>`, if present.
    pub address_element: Option<Element>,
    /// The hostdev.
    pub element: Element,
}

/// A host device that the definition uses other than as a PCI function assigned by libvirt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The host device.
    pub source: PciAddress,
    /// How the guest uses it.
    pub usage: Usage,
}

/// How a guest uses a host device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// `<disk type='nvme'>`: QEMU drives the device, and the guest sees a disk.
    NvmeDisk,
    /// `-device vfio-pci,host=` in `<qemu:commandline>`: QEMU assigns it without libvirt.
    Argument,
}

/// Devices for which libvirt raises the limit of locked memory, besides assigned PCI functions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lockers {
    /// Disks with `type='nvme'` anywhere in their chain of backing files.
    pub nvme_disks: usize,
    /// `<interface type='vdpa'>`, and sources of disks with `type='vhostvdpa'`.
    pub vdpa: usize,
    /// `<hostdev type='mdev'>`.
    pub mediated: usize,
}

impl Hostdev {
    /// True if its guest address is on the bus of the PCI controller with this index.
    #[must_use]
    pub fn is_on(&self, index: u32) -> bool {
        self.address
            .is_some_and(|address| u32::from(address.at.bus()) == index)
    }

    /// The XPath of the element.
    #[must_use]
    pub fn path(&self) -> String {
        let element = match self.kind {
            Kind::Hostdev => "hostdev",
            Kind::Interface => "interface",
        };
        format!("/domain/devices/{element}[source='{}']", self.source)
    }
}

/// `<driver>` of a hostdev or an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Driver {
    /// `name`, such as `vfio`.
    pub name: Option<String>,
    /// `model`: the VFIO driver that libvirt must use.
    pub model: Option<String>,
    /// `model` with the white space before it.
    pub model_attribute: Option<Range<usize>>,
    /// `iommufd`.
    pub iommufd: Option<bool>,
    /// `iommufd` with the white space before it.
    pub iommufd_attribute: Option<Range<usize>>,
    /// The element has no other attributes or content.
    pub is_bare: bool,
    /// The element.
    pub element: Element,
}

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)
    }
}
