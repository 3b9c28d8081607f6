//! Reads the platform part of a definition.

use roxmltree::Node;

use super::number::{self, Base};
use super::read::{Reader, is_egm};
use super::value::{
    below, child, children, content, decimal, limit, memory, number, property, text, text_number,
    value,
};
use super::{
    AcpiTable, AddressWidth, EgmMemory, Iommu, Iommufd, Override, Overrides, Platform,
    QEMU_NAMESPACE,
};
use crate::refusal::Refusal;

impl Reader<'_> {
    pub(super) fn platform(&self, root: Node<'_, '_>) -> Result<Platform, Refusal> {
        let (os, cpu) = (child(root, "os"), child(root, "cpu"));
        let os_acpi = os.and_then(|os| child(os, "acpi"));
        let features = child(root, "features");
        let hard_limit = below(root, "memtune", "hard_limit").next();
        let backing = child(root, "memoryBacking");
        let width = cpu.and_then(|cpu| child(cpu, "maxphysaddr"));
        Ok(Platform {
            accelerator: root.attribute("type").map(str::to_owned),
            emulator: below(root, "devices", "emulator")
                .next()
                .and_then(content)
                .map(str::to_owned),
            acpi: features.is_some_and(|node| child(node, "acpi").is_some()),
            firmware: os.is_some_and(has_firmware),
            os_acpi: os_acpi.map(|node| self.element(node)),
            os: os.map(|node| self.element(node)),
            acpi_tables: self.acpi_tables(os_acpi),
            cpu_mode: cpu.and_then(|cpu| property(cpu, "mode")).map(str::to_owned),
            address_width_element: width.map(|node| self.element(node)),
            address_width: width.map(address_width).transpose()?,
            hard_limit_kib: hard_limit.map(limit).transpose()?.flatten(),
            locked: backing.is_some_and(|node| child(node, "locked").is_some()),
            hugepages: backing.is_some_and(|node| child(node, "hugepages").is_some()),
            iommufd: child(root, "iommufd").map(|node| Iommufd {
                enabled: property(node, "enabled") == Some("yes"),
                element: self.element(node),
            }),
            iommus: below(root, "devices", "iommu")
                .map(|node| self.iommu(node))
                .collect::<Result<_, _>>()?,
            egm: below(root, "devices", "memory")
                .filter(is_egm)
                .map(|node| self.egm(node))
                .collect::<Result<_, _>>()?,
        })
    }

    fn egm(&self, node: Node<'_, '_>) -> Result<EgmMemory, Refusal> {
        let below = |parent: &str, name: &str| child(child(node, parent)?, name);
        let words = |found: Option<Node<'_, '_>>| found.map(text).unwrap_or_default();
        let cell = |text: &str| number::signed(text, Base::Decimal);
        Ok(EgmMemory {
            path: words(below("source", "path")),
            kib: below("target", "size")
                .map(memory)
                .transpose()?
                .flatten()
                .unwrap_or(0),
            cell: below("target", "node")
                .map(|node| text_number(node, cell))
                .transpose()?,
            alias: words(below("target", "pciDev")),
            element: self.element(node),
        })
    }

    fn acpi_tables(&self, acpi: Option<Node<'_, '_>>) -> Vec<AcpiTable> {
        let tables = acpi.into_iter().flat_map(|acpi| children(acpi, "table"));
        let table = |node| AcpiTable {
            path: content(node).unwrap_or_default().to_owned(),
            element: self.element(node),
        };
        tables.map(table).collect()
    }

    pub(super) fn overrides(&self, root: Node<'_, '_>) -> Option<Overrides> {
        let named = |node: &Node<'_, '_>, name| node.has_tag_name((QEMU_NAMESPACE, name));
        let node = root.children().find(|node| named(node, "override"))?;
        let properties = node.descendants().filter(|node| named(node, "property"));
        let text = |node: Node<'_, '_>, name| node.attribute(name).unwrap_or_default().to_owned();
        let property = |property: Node<'_, '_>| {
            let device = property.ancestors().find(|node| named(node, "device"));
            Override {
                alias: device
                    .map(|device| text(device, "alias"))
                    .unwrap_or_default(),
                name: text(property, "name"),
                value: text(property, "value"),
            }
        };
        Some(Overrides {
            properties: properties.map(property).collect(),
            element: self.element(node),
        })
    }

    fn iommu(&self, node: Node<'_, '_>) -> Result<Iommu, Refusal> {
        let driver = child(node, "driver");
        let model = property(node, "model").unwrap_or_default();
        let nested = model == "nestedSmmuv3";
        let own = driver.map(bus).transpose()?.flatten();
        let accel = |node: Node<'_, '_>| property(node, "accel") == Some("on");
        Ok(Iommu {
            model: match model {
                "smmuv3Dev" | "nestedSmmuv3" => "smmuv3",
                model => model,
            }
            .to_owned(),
            bus: own.map_or_else(|| bus(node), |own| Ok(Some(own)))?,
            accelerated: nested || driver.into_iter().chain([node]).any(accel),
            element: self.element(node),
        })
    }
}

fn has_firmware(os: Node<'_, '_>) -> bool {
    os.has_attribute("firmware") || child(os, "loader").is_some()
}

/// `pciBus`, or `parentIdx` of early builds of NVIDIA's libvirt; libvirt writes -1 for none.
fn bus(node: Node<'_, '_>) -> Result<Option<u32>, Refusal> {
    let name = match property(node, "pciBus") {
        Some("-1") => return Ok(None),
        Some(_) => "pciBus",
        None => "parentIdx",
    };
    let decimal = |text: &str| number::signed(text, Base::Decimal);
    number(node, name, decimal)
}

fn address_width(node: Node<'_, '_>) -> Result<AddressWidth, Refusal> {
    let bits = |text: &str| number::signed(text, Base::Decimal);
    let limit = decimal(node, "limit")?;
    match (property(node, "mode"), limit) {
        (Some("passthrough"), Some(0)) => Err(value(node, "limit", "it must not be 0")),
        (Some("passthrough"), limit) => Ok(AddressWidth::Host { limit }),
        (Some("emulate"), Some(_)) => Err(value(
            node,
            "limit",
            "it is valid only for mode 'passthrough'",
        )),
        (Some("emulate"), None) => Ok(match number(node, "bits", bits)? {
            Some(0) | None => AddressWidth::Default,
            Some(bits) => AddressWidth::Bits(bits),
        }),
        _ => Err(value(node, "mode", "it must be 'passthrough' or 'emulate'")),
    }
}
