//! The XML tree of a draft.

use kernel_glue::address::PciAddress;

use super::{Assigned, Cpu, Draft, Fault, Metadata, NAMES, Root};
use crate::host::{INITIATORS, OTHERS};
use crate::xml::{Dice, Element};

impl Draft {
    /// The definition; `order` shuffles devices, and cells with ids.
    pub(crate) fn tree(&self, order: Option<u64>) -> Element {
        let mut domain = Element::new("domain").with("type", "kvm");
        if let Some((prefix, true)) = self.command_line {
            let name = format!("xmlns:{prefix}");
            domain = domain.with(&name, domain::QEMU_NAMESPACE);
        }
        domain = domain.children(self.heading()).children(self.metadata());
        domain = domain.child(Element::new("memory").with("unit", "MiB").text(2048));
        domain = domain.child(Element::new("vcpu").text(8));
        domain = domain.children(self.numatune()).child(self.os());
        let features = Element::new("features").child(Element::new("acpi"));
        domain = domain.child(features);
        domain = domain.children(self.cpu(order)).child(self.devices(order));
        domain.children(self.command_line())
    }

    fn heading(&self) -> Vec<Element> {
        let uuid = Element::new("uuid").text("6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11");
        let title = Element::new("title").text("a guest <with> a title");
        let description = Element::new("description").text("more\nlines & <markup>");
        let optional = [uuid, title, description].into_iter().zip(self.heading);
        let name = Element::new("name").text(NAMES[self.name]);
        let optional = optional.filter(|(_, there)| *there).map(|(one, _)| one);
        std::iter::once(name).chain(optional).collect()
    }

    fn metadata(&self) -> Option<Element> {
        let foreign = || {
            let inner = Element::new("a:b").with("k", "<'\">");
            Element::new("a:note").with("xmlns:a", "urn:a").child(inner)
        };
        match self.metadata {
            Metadata::Absent => None,
            Metadata::Empty => Some(Element::new("metadata")),
            Metadata::Foreign => Some(Element::new("metadata").child(foreign())),
        }
    }

    fn os(&self) -> Element {
        let arch = match self.machine.starts_with("virt") {
            true => "aarch64",
            false => "x86_64",
        };
        let kind = Element::new("type").with("arch", arch);
        let kind = kind.with("machine", self.machine).text("hvm");
        Element::new("os").with("firmware", "efi").child(kind)
    }

    fn numatune(&self) -> Option<Element> {
        let last = self.cells.count.checked_sub(1)?;
        let node = |cell: u32| {
            let nodes = match self.cells.bound {
                1 => cell.to_string(),
                2 => (last - cell).to_string(),
                _ => format!("0-{last}"),
            };
            let node = Element::new("memnode").with("cellid", cell);
            node.with("mode", "strict").with("nodeset", nodes)
        };
        let nodes = (0..=last).map(node);
        (self.cells.bound > 0).then(|| Element::new("numatune").children(nodes))
    }

    fn cpu(&self, order: Option<u64>) -> Option<Element> {
        let mut cpu = Element::new("cpu");
        match self.cpu {
            Cpu::Absent if self.cells.count == 0 => return None,
            Cpu::Absent => {}
            Cpu::Bare => cpu = cpu.with("mode", "host-passthrough").with("check", "none"),
            Cpu::Featured => {
                let feature = Element::new("feature").with("policy", "require");
                cpu = cpu.with("mode", "host-model");
                cpu = cpu.child(feature.with("name", "sve"));
            }
        }
        if self.cells.count == 0 {
            return Some(cpu);
        }
        let mut cells: Vec<Element> = (0..self.cells.count).map(|id| self.cell(id)).collect();
        cells.extend(self.own_cells().map(|id| self.own_cell(id)));
        if let (true, Some(seed)) = (self.cells.named, order) {
            Dice(seed).shuffle(&mut cells);
        }
        Some(cpu.child(Element::new("numa").children(cells)))
    }

    /// Empty cells of the user for the first GPU.
    fn own_cells(&self) -> std::ops::Range<u32> {
        let first = self.cells.count;
        let more = if self.cells.own { INITIATORS } else { 0 };
        first..first + more
    }

    fn own_cell(&self, id: u32) -> Element {
        let cell = Element::new("cell").with("memory", 0);
        match self.cells.named {
            true => cell.with("id", id),
            false => cell,
        }
    }

    fn cell(&self, id: u32) -> Element {
        let mut cell = Element::new("cell");
        if self.cells.named {
            cell = cell.with("id", id);
        }
        cell = cell.with("cpus", format!("{}-{}", id * 2, id * 2 + 1));
        cell = match self.cells.megabytes {
            true => cell.with("memory", 512).with("unit", "MiB"),
            false => cell.with("memory", 524_288),
        };
        let sibling = |to: u32| {
            let value = if to == id { 10 } else { 21 };
            Element::new("sibling").with("id", to).with("value", value)
        };
        match self.cells.distances {
            1 => cell.child(Element::new("distances").children((0..self.cells.count).map(sibling))),
            2 if id == 0 => cell.child(Element::new("distances").child(sibling(0))),
            _ => cell,
        }
    }

    fn devices(&self, order: Option<u64>) -> Element {
        let mut devices = self.controllers();
        devices.extend(self.hostdevs());
        devices.extend(self.others());
        devices.extend(self.iommu());
        if let Some(seed) = order {
            let mut dice = Dice(seed ^ 1);
            dice.shuffle(&mut devices);
            devices = devices
                .into_iter()
                .map(|one| one.shuffled(&mut dice))
                .collect();
        }
        Element::new("devices").children(devices)
    }

    fn controllers(&self) -> Vec<Element> {
        let root = controller(0, "pcie-root");
        let window = |kib| Element::new("pcihole64").with("unit", "KiB").text(kib);
        let mut all = Vec::new();
        match (self.fault, self.root) {
            (Some(Fault::SmallWindow), _) => all.push(root.child(window(1 << 20))),
            (_, Root::Absent) => {}
            (_, Root::Closed) => all.push(root),
            (_, Root::Aliased) => {
                all.push(root.child(Element::new("alias").with("name", "ua-root")));
            }
            (_, Root::Windowed) => all.push(root.child(window(1u64 << 34))),
        }
        let ports = self.free_ports + self.ports().count() as u32 + u32::from(self.others[0]);
        all.extend((1..=ports).map(|index| controller(index, "pcie-root-port")));
        if self.expander {
            let target = Element::new("target").with("busNr", 200);
            all.push(controller(ports + 1, "pcie-expander-bus").child(target));
            let port = controller(ports + 2, "pcie-root-port");
            all.push(port.child(guest_address(ports + 1, 0)));
        }
        all
    }

    fn iommu(&self) -> Option<Element> {
        let model = match self.machine.starts_with("virt") {
            true => "smmuv3",
            false => "intel",
        };
        self.iommu
            .then(|| Element::new("iommu").with("model", model))
    }

    /// Devices that are on a root port of the user.
    fn ports(&self) -> impl Iterator<Item = &Assigned> {
        self.devices.iter().filter(|one| one.addressed)
    }

    fn hostdevs(&self) -> Vec<Element> {
        let mut bus = 0;
        let mut hostdevs = Vec::new();
        let first_gpu = self.devices.iter().position(Assigned::is_gpu);
        for (position, one) in self.devices.iter().enumerate() {
            let mut hostdev = one.element();
            if one.addressed {
                bus += 1;
                hostdev = hostdev.child(self.address(bus, position == 0));
            }
            if self.cells.own && Some(position) == first_gpu {
                let cells = self.own_cells();
                let nodeset = format!("{}-{}", cells.start, cells.end - 1);
                hostdev = hostdev.child(Element::new("acpi").with("nodeset", nodeset));
            }
            hostdevs.push(hostdev);
        }
        hostdevs.extend(self.unfit_hostdevs());
        hostdevs
    }

    fn unfit_hostdevs(&self) -> Vec<Element> {
        match (self.fault, self.devices.first()) {
            (Some(Fault::Twice), Some(_)) => self.devices.iter().map(Assigned::element).collect(),
            (Some(Fault::Missing), Some(one)) => {
                let at = |domain| PciAddress::new(domain, 1, 0, 0).expect("address");
                let missing = [at(0x777), at(0x778)];
                let missing = missing.map(|address| Assigned {
                    address,
                    ..one.clone()
                });
                missing.iter().map(Assigned::element).collect()
            }
            _ => Vec::new(),
        }
    }

    fn address(&self, bus: u32, first: bool) -> Element {
        let slot = match self.fault {
            Some(Fault::Slot) if first => 1,
            _ => 0,
        };
        let address = guest_address(bus, slot);
        match self.fault {
            Some(Fault::Multifunction) if first => address.with("multifunction", "on"),
            _ => address,
        }
    }

    fn others(&self) -> Vec<Element> {
        let bus = self.ports().count() as u32 + 1;
        let model = Element::new("model").with("type", "virtio");
        let interface = Element::new("interface").with("type", "user");
        let interface = interface.child(model).child(guest_address(bus, 0));
        let target = Element::new("target")
            .with("dev", "vda")
            .with("bus", "virtio");
        let source = Element::new("source").with("file", "/a'b.qcow2");
        let disk = Element::new("disk")
            .with("type", "file")
            .child(source)
            .child(target);
        let usb = Element::new("controller")
            .with("type", "usb")
            .with("index", 0);
        let all = [interface, disk, usb].into_iter().zip(self.others);
        all.filter(|(_, there)| *there)
            .map(|(one, _)| one)
            .collect()
    }

    fn command_line(&self) -> Option<Element> {
        let (prefix, at_root) = self.command_line?;
        let name = |local: &str| format!("{prefix}:{local}");
        let argument = |value: &str| Element::new(&name("arg")).with("value", value);
        let line = Element::new(&name("commandline"));
        let line = line.children([argument("-name"), argument("debug-threads=on")]);
        Some(match at_root {
            true => line,
            false => line.with(&format!("xmlns:{prefix}"), domain::QEMU_NAMESPACE),
        })
    }
}

impl Assigned {
    fn is_gpu(&self) -> bool {
        !OTHERS.iter().any(|(at, ..)| at.parse() == Ok(self.address))
    }

    pub(super) fn element(&self) -> Element {
        let at = self.address;
        let number = |value: u32| match self.hexadecimal {
            true => format!("{value:#06x}"),
            false => value.to_string(),
        };
        let address = Element::new("address").with("domain", number(at.domain()));
        let address = address.with("bus", number(at.bus().into()));
        let address = address.with("slot", number(at.device().into()));
        let address = address.with("function", number(at.function().into()));
        let managed = if self.managed { "yes" } else { "no" };
        let hostdev = Element::new("hostdev").with("mode", "subsystem");
        let hostdev = hostdev.with("type", "pci").with("managed", managed);
        let hostdev = hostdev.child(Element::new("source").child(address));
        let alias = |name: String| Element::new("alias").with("name", name);
        match self.alias {
            1 => hostdev.child(alias(format!("hostdev{}", at.bus()))),
            2 => hostdev.child(alias(format!("ua-gpu-{}", at.domain()))),
            _ => hostdev,
        }
    }
}

fn controller(index: u32, model: &str) -> Element {
    let controller = Element::new("controller").with("type", "pci");
    controller.with("index", index).with("model", model)
}

fn guest_address(bus: u32, slot: u32) -> Element {
    let address = Element::new("address")
        .with("type", "pci")
        .with("domain", "0x0000");
    let address = address.with("bus", format!("{bus:#04x}"));
    address
        .with("slot", format!("{slot:#04x}"))
        .with("function", "0x0")
}
