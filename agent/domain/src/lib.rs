//! A domain definition as libvirt writes it: the parts that planning needs, and the position of each element.
//!
//! Follows libvirt's formatdomain page. Unknown elements are kept and not parsed.

pub mod argument;
mod attachment;
mod bus;
mod cell;
pub mod code;
mod command_line;
mod definition;
mod device;
pub mod edit;
mod extension;
pub mod hint;
mod index;
mod layout_record;
pub mod lost_elements;
mod mark;
pub mod network;
mod number;
mod options;
mod outline;
mod piece;
mod platform;
pub mod printable;
mod read;
mod read_other;
mod read_platform;
pub mod refusal;
pub mod shape;
mod tuning;
mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use kernel_glue::address::PciAddress;

use crate::edit::{Edit, Element};

pub use attachment::{Attachment, Joined};
pub use bus::ROOT_PORT;
pub use cell::{Binding, Cell, MemoryNode, Sibling};
pub use command_line::{Argument, CommandLine, Override, Overrides, QEMU_NAMESPACE};
pub use definition::Definition;
pub use device::{Controller, Driver, Elsewhere, GuestAddress, Hostdev, Kind, Lockers, Usage};
pub use extension::{Extension, Part};
pub use layout_record::{LAYOUT_NAMESPACE, LayoutParent, LayoutRecord, RecordedCell, Written};
pub use mark::{Added, Mark, Marked, NAMESPACE};
pub use options::{NumaMode, OPTIONS_NAMESPACE, Options, OptionsElement, UnknownMode};
pub use piece::{Opened, Piece};
pub use platform::{AcpiTable, AddressWidth, EgmMemory, Iommu, Iommufd, Platform};
pub use read::MAX_BYTES;
pub use tuning::Tuning;

/// A domain's UUID in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DomainUuid(String);

/// One domain definition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// `<name>`.
    pub name: String,
    /// `<uuid>`; a definition that libvirt has not stored may have none.
    pub uuid: Option<DomainUuid>,
    /// `<os><type arch>`; libvirt fills it in at define.
    pub arch: Option<String>,
    /// `<os><type machine>`, such as `virt`, `q35` or `pc-q35-10.0`.
    pub machine: Option<String>,
    /// The machine type that libvirt uses if the definition names none; `None` if libvirt was not asked.
    pub default_machine: Option<String>,
    /// All memory in KiB as libvirt counts it: that of cells and memory devices, or `<memory>` if there are no cells.
    pub memory_kib: u64,
    /// Memory of DIMMs and other memory devices in KiB.
    pub memory_devices_kib: u64,
    /// `<vcpu>`: the maximum.
    pub vcpus: u32,
    /// `<cpu>`.
    pub cpu: Option<Element>,
    /// `<cpu>` has no attributes.
    pub cpu_is_bare: bool,
    /// Elements in `<cpu>`.
    pub cpu_children: usize,
    /// `<cpu><numa>`.
    pub numa: Option<Element>,
    /// `<cpu><numa><cell>` in document order.
    pub cells: Vec<Cell>,
    /// The id of each cell is its index in `cells`.
    pub numbered: bool,
    /// `<numatune><memnode>` in document order.
    pub memory_nodes: Vec<MemoryNode>,
    /// Other bindings to nodes and processors of the host.
    pub binding: Binding,
    /// The elements around these, and others of the guest's layout.
    pub tuning: Tuning,
    /// PCI controllers in document order.
    pub controllers: Vec<Controller>,
    /// PCI hostdevs and interfaces of type `hostdev`, in document order.
    pub hostdevs: Vec<Hostdev>,
    /// Host devices of NVMe disks and of QEMU arguments.
    pub elsewhere: Vec<Elsewhere>,
    /// Devices besides `hostdevs` for which memory is locked.
    pub lockers: Lockers,
    /// Networks of interfaces, with the number of interfaces of each: a network with a pool of host devices assigns one
    /// when the guest starts.
    pub networks: BTreeMap<String, usize>,
    /// The primary video device, written or added by libvirt for `<graphics>`, has no address: on q35 libvirt puts it
    /// into slot 1 of the root bus before it places any port (qemuDomainValidateDevicePCISlotsQ35).
    pub video_is_unplaced: bool,
    /// Guest PCI addresses of all other devices.
    pub other_addresses: Vec<GuestAddress>,
    /// The first `<devices>`; a definition may have none.
    pub devices: Option<Element>,
    /// `<domain>`.
    pub element: Element,
    /// `<qemu:commandline>`.
    pub command_line: Option<CommandLine>,
    /// `<qemu:override>`.
    pub overrides: Option<Overrides>,
    /// `<metadata>`.
    pub metadata: Option<Element>,
    /// `<metadata>` has one child.
    pub metadata_is_ours: bool,
    /// The last of name, uuid, title and description; `<metadata>` is inserted after it.
    pub heading: Element,
    /// Accelerator, firmware, CPU address width, IOMMUs.
    pub platform: Platform,
    /// The parts of it that not every libvirt knows.
    pub extensions: Vec<Extension>,
    /// What the user asks of variantd for this domain.
    pub options: Options,
    /// The element of these options.
    pub options_element: Option<OptionsElement>,
    /// The record of a NUMA layout that variantd wrote.
    pub layout: Option<LayoutRecord>,
    /// The record of elements that variantd added before.
    pub mark: Option<Mark>,
}

impl Domain {
    /// Returns the cell with this id.
    #[must_use]
    pub fn cell(&self, id: u32) -> Option<&Cell> {
        if self.numbered {
            return self.cells.get(id as usize);
        }
        self.cells.iter().find(|cell| cell.id == id)
    }

    /// Returns the PCI controller with this index.
    #[must_use]
    pub fn controller(&self, index: u32) -> Option<&Controller> {
        self.controllers
            .iter()
            .find(|controller| controller.index == index)
    }

    /// The index of a new PCI controller: one above the highest existing index, and above any bus that a device is on,
    /// because libvirt adds a controller for such a bus.
    #[must_use]
    pub fn next_controller(&self) -> u32 {
        let known = self.controllers.iter().map(|controller| controller.index);
        let buses = self.addresses().filter(|address| address.at.domain() == 0);
        known
            .chain(buses.map(|address| address.at.bus().into()))
            .filter(|index| *index < 255)
            .max()
            .map_or(1, |index| index + 1)
    }

    /// Guest addresses of all devices and controllers.
    pub fn addresses(&self) -> impl Iterator<Item = GuestAddress> {
        let hostdevs = self.hostdevs.iter().filter_map(|hostdev| hostdev.address);
        let controllers = self.controllers.iter().filter_map(|c| c.address);
        hostdevs
            .chain(controllers)
            .chain(self.other_addresses.iter().copied())
    }

    /// Number of devices and controllers on the bus of the PCI controller with this index.
    #[must_use]
    pub fn devices_on(&self, index: u32) -> usize {
        let here = |a: &GuestAddress| a.at.domain() == 0 && u32::from(a.at.bus()) == index;
        self.addresses().filter(here).count()
    }

    /// Every host device that the definition uses, in any form.
    pub fn sources(&self) -> impl Iterator<Item = PciAddress> {
        let hostdevs = self.hostdevs.iter().map(|hostdev| hostdev.source);
        hostdevs.chain(self.elsewhere.iter().map(|other| other.source))
    }

    /// True if its memory is EGM regions, or its option asks for that.
    #[must_use]
    pub fn wants_egm(&self) -> bool {
        self.options.egm == Some(true) || !self.platform.egm.is_empty()
    }

    /// True if the definition uses this host device.
    #[must_use]
    pub fn uses(&self, device: PciAddress) -> bool {
        self.sources().any(|source| source == device)
    }

    /// True if a hostdev uses iommufd, by its own `<driver>` or by the domain's `<iommufd>`.
    #[must_use]
    pub fn goes_through_iommufd(&self, hostdev: &Hostdev) -> bool {
        let iommufd = self.platform.iommufd.as_ref();
        let own = hostdev.driver.as_ref().and_then(|driver| driver.iommufd);
        own.unwrap_or_else(|| iommufd.is_some_and(|iommufd| iommufd.enabled))
    }

    /// The highest slot in use on the bus of the PCI controller with this index.
    #[must_use]
    pub fn last_slot(&self, index: u32) -> Option<u8> {
        let here = |a: &GuestAddress| a.at.domain() == 0 && u32::from(a.at.bus()) == index;
        let slots = self.addresses().filter(here).map(|a| a.at.device());
        slots.max()
    }

    /// True if the mark lists this device with a recipe.
    #[must_use]
    pub fn is_marked(&self, device: PciAddress) -> bool {
        let mut devices = self.mark.iter().flat_map(|mark| &mark.devices);
        devices.any(|marked| marked.address == device && !marked.recipe.is_empty())
    }

    /// Inserts elements into `<devices>` after the others, or into a new `<devices>`.
    #[must_use]
    pub fn append_devices(&self, elements: &str) -> Edit {
        self.put_devices(elements, Element::append)
    }

    /// Inserts elements into `<devices>` before the others.
    #[must_use]
    pub fn prepend_devices(&self, elements: &str) -> Edit {
        self.put_devices(elements, Element::prepend)
    }

    fn put_devices(&self, elements: &str, put: impl Fn(&Element, &str) -> Edit) -> Edit {
        match &self.devices {
            Some(devices) => put(devices, elements),
            None => self
                .element
                .append(&format!("<devices>\n{elements}\n</devices>")),
        }
    }

    /// Inserts an element of QEMU's namespace after `<devices>`.
    #[must_use]
    pub fn after_devices(&self, element: &str) -> Edit {
        match &self.devices {
            Some(devices) => devices.insert_after(element),
            None => self.element.append(element),
        }
    }

    /// The family of the machine type without its version: `q35`, `pc`, `virt`, or the full name. If the definition
    /// names none, libvirt's answer, or without libvirt its default for the architecture
    /// (virQEMUCapsGetPreferredMachine); empty if unknown.
    #[must_use]
    pub fn family(&self) -> &str {
        let machine = self.machine.as_ref().or(self.default_machine.as_ref());
        match machine.map(String::as_str) {
            None => self.offline_machine().unwrap_or_default(),
            Some(machine) if machine == "q35" || machine.starts_with("pc-q35-") => "q35",
            Some(machine) if machine.starts_with("virt-") => "virt",
            Some(machine) if machine.starts_with("pc-i440fx-") => "pc",
            Some(machine) => machine,
        }
    }

    fn offline_machine(&self) -> Option<&'static str> {
        match self.arch.as_deref()? {
            "x86_64" | "i686" => Some("pc"),
            "aarch64" | "riscv64" => Some("virt"),
            _ => None,
        }
    }
}

impl FromStr for DomainUuid {
    type Err = ();

    /// Parses as libvirt does (virUUIDParse): `-` and spaces may separate pairs of digits, white space may surround
    /// them.
    fn from_str(text: &str) -> Result<Self, ()> {
        let mut rest = text
            .trim_matches(|c: char| c.is_ascii_whitespace())
            .as_bytes();
        let mut digits = String::new();
        while digits.len() < 32 {
            rest = match rest {
                [b'-' | b' ', rest @ ..] => rest,
                [one, two, rest @ ..] if one.is_ascii_hexdigit() && two.is_ascii_hexdigit() => {
                    digits.extend([char::from(*one), char::from(*two)]);
                    rest
                }
                _ => return Err(()),
            };
        }
        if !rest.is_empty() {
            return Err(());
        }
        let d = digits.to_ascii_lowercase();
        Ok(Self(format!(
            "{}-{}-{}-{}-{}",
            &d[..8],
            &d[8..12],
            &d[12..16],
            &d[16..20],
            &d[20..]
        )))
    }
}

impl fmt::Display for DomainUuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
