//! PCI controllers, host devices, and the addresses the guest sees.

use std::fmt;
use std::ops::Range;

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use crate::edit::Element;

/// `<address type='pci'>`: where the guest sees a device. Bus is the index of a PCI controller.
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
    /// `index`: the bus number that addresses name. Where none is written, the one that libvirt will give.
    pub index: u32,
    /// `model`, such as `pcie-root` or `pcie-root-port`.
    pub model: String,
    /// `<target busNr>` of an expander bus.
    pub bus_number: Option<u8>,
    /// `<target><node>` of an expander bus: the guest cell it is at.
    pub cell: Option<u32>,
    /// Devices can be plugged in while the guest runs (`<target hotplug>`).
    pub hotplug: bool,
    /// `<pcihole64>` in KiB.
    pub hole64_kib: Option<u64>,
    /// `<pcihole64>`, when there is one.
    pub hole64_element: Option<Element>,
    /// Its own address.
    pub address: Option<GuestAddress>,
    /// The controller.
    pub element: Element,
}

/// The element by which a host device is assigned.
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
    /// Its place among all `<interface type='hostdev'>` and then all `<hostdev>`, of every kind: libvirt numbers their aliases so.
    pub place: usize,
    /// The host device.
    pub source: PciAddress,
    /// `managed='yes'`: libvirt binds and gives back.
    pub managed: bool,
    /// `<driver>`, when there is one.
    pub driver: Option<Driver>,
    /// `<alias name>`; one that the user chose begins with `ua-` and is kept by libvirt.
    pub alias: Option<String>,
    /// `<alias>` as it stands there.
    pub alias_text: Option<String>,
    /// `<alias>`, when there is one.
    pub alias_element: Option<Element>,
    /// `<acpi nodeset>`.
    pub nodeset: Option<RangeList>,
    /// `nodeset` with the white space before it.
    pub nodeset_attribute: Option<Range<usize>>,
    /// `<acpi>`, when there is one.
    pub acpi_element: Option<Element>,
    /// Where the guest sees it.
    pub address: Option<GuestAddress>,
    /// `<address>` outside `<source>` as it stands there.
    pub address_text: Option<String>,
    /// `<address>` outside `<source>`, when there is one.
    pub address_element: Option<Element>,
    /// The hostdev.
    pub element: Element,
}

/// A host device that the definition uses in another way than as a PCI function of libvirt's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// The host device.
    pub source: PciAddress,
    /// How it is used.
    pub way: Way,
}

/// How a host device is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `<disk type='nvme'>`: QEMU itself drives it, and the guest sees a disk.
    NvmeDisk,
    /// `-device vfio-pci,host=` in `<qemu:commandline>`: QEMU assigns it, past libvirt.
    Argument,
}

/// Devices for which libvirt raises the limit of locked memory, beside PCI functions that it assigns.
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
    /// True when its guest address is on the bus of the PCI controller with this index.
    #[must_use]
    pub fn is_on(&self, index: u32) -> bool {
        self.address
            .is_some_and(|address| u32::from(address.at.bus()) == index)
    }

    /// Where it stands, as an XPath.
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
    /// It says nothing but these three.
    pub is_bare: bool,
    /// The element.
    pub element: Element,
}

impl fmt::Display for GuestAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.at)
    }
}
