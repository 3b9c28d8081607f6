//! Reads what a definition says of the guest's platform.

use roxmltree::Node;

use super::read::{Reader, child, children};
use super::value::{content, memory, optional, value};
use super::{
    AcpiTable, AddressWidth, Iommu, Iommufd, Override, Overrides, Platform, QEMU_NAMESPACE,
};
use crate::refusal::Refusal;

impl Reader<'_> {
    pub(super) fn platform(
        &self,
        root: Node<'_, '_>,
        devices: Node<'_, '_>,
    ) -> Result<Platform, Refusal> {
        let (os, cpu) = (child(root, "os"), child(root, "cpu"));
        let os_acpi = os.and_then(|os| child(os, "acpi"));
        let features = child(root, "features");
        let limit = child(root, "memtune").and_then(|node| child(node, "hard_limit"));
        let backing = child(root, "memoryBacking");
        let width = cpu.and_then(|cpu| child(cpu, "maxphysaddr"));
        Ok(Platform {
            accelerator: root.attribute("type").map(str::to_owned),
            emulator: child(devices, "emulator")
                .and_then(content)
                .map(str::to_owned),
            acpi: features.is_some_and(|node| child(node, "acpi").is_some()),
            firmware: os.is_some_and(has_firmware),
            os_acpi: os_acpi.map(|node| self.element(node)),
            os: os.map(|node| self.element(node)),
            acpi_tables: self.acpi_tables(os_acpi),
            cpu_mode: cpu.and_then(|cpu| cpu.attribute("mode")).map(str::to_owned),
            address_width_element: width.map(|node| self.element(node)),
            address_width: width.map(address_width).transpose()?,
            hard_limit_kib: limit.map(memory).transpose()?,
            hugepages: backing.is_some_and(|node| child(node, "hugepages").is_some()),
            iommufd: child(root, "iommufd").map(|node| Iommufd {
                enabled: node.attribute("enabled") == Some("yes"),
                element: self.element(node),
            }),
            iommus: children(devices, "iommu")
                .map(|node| self.iommu(node))
                .collect::<Result<_, _>>()?,
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
        Ok(Iommu {
            model: node.attribute("model").unwrap_or_default().to_owned(),
            bus: driver
                .map(|driver| optional(driver, "pciBus"))
                .transpose()?
                .flatten(),
            accelerated: driver.is_some_and(|driver| driver.attribute("accel") == Some("on")),
            element: self.element(node),
        })
    }
}

fn has_firmware(os: Node<'_, '_>) -> bool {
    os.has_attribute("firmware") || child(os, "loader").is_some()
}

fn address_width(node: Node<'_, '_>) -> Result<AddressWidth, Refusal> {
    match node.attribute("mode") {
        Some("passthrough") => Ok(AddressWidth::Host {
            limit: optional(node, "limit")?,
        }),
        Some("emulate") => optional(node, "bits")?
            .map(AddressWidth::Bits)
            .ok_or_else(|| value(node, "bits", "it is missing")),
        _ => Err(value(node, "mode", "it must be 'passthrough' or 'emulate'")),
    }
}
