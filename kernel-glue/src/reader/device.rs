//! Reads one PCI function from its sysfs directory.
//!
//! Follows Documentation/ABI/testing/sysfs-bus-pci and drivers/pci/pci-sysfs.c.

use std::collections::BTreeMap;
use std::str::FromStr;

use super::Reader;
use crate::address::PciAddress;
use crate::alias;
use crate::config::{Config, ConfigError};
use crate::device::{Bar, Device};
use crate::id::PciId;
use crate::numa::NumaNode;
use crate::sysfs::{self, DEVICES, MAX_TEXT};

/// The directory of a device: a link to the one that shows its position in the topology.
pub(super) fn directory(address: PciAddress) -> String {
    format!("{DEVICES}/{address}")
}

/// An override text as sysfs prints it, without its newline; `None` for `(null)` and an empty text.
pub(crate) fn override_text(text: &str) -> Option<String> {
    (!text.is_empty() && text != "(null)").then(|| text.to_owned())
}

/// The ids and the class of a function.
///
/// `modalias` has them, so one file is read in place of four: the kernel prints all four from the same fields (drivers/pci/pci-sysfs.c,
/// modalias_show). `uevent` would have the driver as well, but there the kernel read it without a lock until 2024, and an unbind, which
/// variantd itself causes, could end in between ("driver core: Fix uevent_show() vs driver detach race").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    id: PciId,
    class: u32,
}

impl Identity {
    /// From `pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i00`; `None` for any other form, such as that of a recording by another
    /// tool.
    fn of_modalias(text: &str) -> Option<Self> {
        let [vendor, device, _, _, base, sub, interface] =
            alias::fields(text.strip_prefix("pci:")?)?;
        let hex = |digits: &str, count| {
            let shaped = digits.len() == count && digits.bytes().all(|b| b.is_ascii_hexdigit());
            shaped
                .then(|| u32::from_str_radix(digits, 16).ok())
                .flatten()
        };
        let id = PciId {
            vendor: hex(vendor, 8)?.try_into().ok()?,
            device: hex(device, 8)?.try_into().ok()?,
        };
        let class = hex(base, 2)? << 16 | hex(sub, 2)? << 8 | hex(interface, 2)?;
        Some(Self { id, class })
    }
}

impl Reader<'_> {
    /// The devices with these names; a name that the kernel does not give is a gap.
    pub(super) fn devices_named(&mut self, names: &[String]) -> BTreeMap<PciAddress, Device> {
        let mut devices = BTreeMap::new();
        for name in names {
            let canonical = name
                .parse()
                .ok()
                // The kernel's own spelling only: the paths below are made from the parsed address.
                .filter(|a: &PciAddress| a.to_string() == *name);
            let path = format!("{DEVICES}/{name}");
            if let Some(address) = self.known(&path, canonical, name) {
                devices.extend(self.device(address).map(|device| (address, device)));
            }
        }
        devices
    }

    /// `None` if vendor or device id is unknown; that is recorded as a gap.
    pub(super) fn device(&mut self, address: PciAddress) -> Option<Device> {
        let dir = directory(address);
        let ancestors = self.ancestors(&dir, address);
        let path = format!("{dir}/modalias");
        let modalias = sysfs::text(self.tree, &path, MAX_TEXT);
        let (id, class) = match modalias.as_deref().ok().and_then(Identity::of_modalias) {
            Some(Identity { id, class }) => {
                self.tree.tap(&dir, &["vendor", "device", "class"]);
                (id, class)
            }
            None => self.identity_files(&dir)?,
        };
        let modalias = modalias.map_err(|failure| self.unread(&path, failure));
        Some(Device {
            address,
            id,
            class,
            driver: self.named(&format!("{dir}/driver")),
            driver_override: self
                .text(&format!("{dir}/driver_override"))
                .and_then(|text| override_text(&text)),
            numa_node: self.numa_node(&format!("{dir}/numa_node")),
            iommu_group: self.named(&format!("{dir}/iommu_group")),
            iommu: self.optional_link(&format!("{dir}/iommu")),
            modalias: modalias.unwrap_or_default(),
            bars: self.bars(&format!("{dir}/resource")),
            regions: None,
            reset_methods: self.reset_methods(&format!("{dir}/reset_method")),
            physical_function: self.named(&format!("{dir}/physfn")),
            ancestors,
            config: self.config(&format!("{dir}/config")),
        })
    }

    /// The ids and the class from a file each.
    fn identity_files(&mut self, dir: &str) -> Option<(PciId, u32)> {
        let id = PciId {
            vendor: self.hex(&format!("{dir}/vendor"))?,
            device: self.hex(&format!("{dir}/device"))?,
        };
        Some((id, self.class(&format!("{dir}/class"))))
    }

    /// The bridges above the device, from the link's text. Components before the last `pciDDDD:BB`, such as a VMD
    /// endpoint, are not bridges above the device.
    fn ancestors(&mut self, dir: &str, address: PciAddress) -> Vec<PciAddress> {
        let target = match self.tree.link(dir) {
            Ok(target) => target,
            Err(failure) => {
                self.unread(dir, failure);
                return Vec::new();
            }
        };
        self.known(dir, above(&target, address), &target)
            .unwrap_or_default()
    }

    fn hex(&mut self, path: &str) -> Option<u16> {
        let text = self.text(path)?;
        let number = number(&text).and_then(|n| u16::try_from(n).ok());
        self.known(path, number, &text)
    }

    fn class(&mut self, path: &str) -> u32 {
        let Some(text) = self.text(path) else {
            return 0;
        };
        // The file has 24 bits: base class, subclass, programming interface (drivers/pci/pci-sysfs.c, class_show).
        let class = number(&text).filter(|n| *n < 1 << 24);
        let class = class.and_then(|n| u32::try_from(n).ok());
        self.known(path, class, &text).unwrap_or_default()
    }

    /// Parses the last component of an optional link.
    fn named<T: FromStr>(&mut self, path: &str) -> Option<T> {
        let name = self.optional_link(path)?;
        self.known(path, name.parse().ok(), &name)
    }

    fn numa_node(&mut self, path: &str) -> Option<NumaNode> {
        let text = self.optional_text(path)?;
        // NUMA_NO_NODE: the firmware names no node for the host bridge or the device (_PXM).
        if text == "-1" {
            return None;
        }
        let node = text.parse().ok().and_then(|n: u32| n.try_into().ok());
        self.known(path, node, &text)
    }

    fn bars(&mut self, path: &str) -> [Bar; 6] {
        let Some(text) = self.text(path) else {
            return Default::default();
        };
        let mut bars = [Bar::default(); 6];
        let mut lines = text.lines();
        let read = bars.iter_mut().try_for_each(|bar| {
            *bar = lines.next().and_then(resource)?;
            Some(())
        });
        self.known(path, read, &text);
        bars
    }

    fn reset_methods(&mut self, path: &str) -> Vec<String> {
        let text = self.optional_text(path).unwrap_or_default();
        text.split_whitespace().map(str::to_owned).collect()
    }

    fn config(&mut self, path: &str) -> Config {
        let read = self.tree.config(path);
        let unread = |failure| Config::Unreadable(ConfigError::Io(self.unread(path, failure)));
        match read.unwrap_or_else(unread) {
            Config::Unreadable(ConfigError::Io(reason)) => {
                Config::Unreadable(ConfigError::Io(self.gap(path, reason)))
            }
            Config::Unreadable(error) => {
                self.gap(path, error.to_string());
                Config::Unreadable(error)
            }
            known => known,
        }
    }
}

/// The bridges that the text of a device's link names, from the root down; `None` if it does not end at the device.
/// Links of recordings may end in `/` or have doubled slashes.
fn above(target: &str, address: PciAddress) -> Option<Vec<PciAddress>> {
    let components: Vec<&str> = target.split('/').filter(|name| !name.is_empty()).collect();
    let (last, parents) = components.split_last()?;
    // The last `pciDDDD:BB`: behind a VMD bridge the path has two roots, and only what follows the second is this device's bus.
    let below_root = parents
        .rsplit(|component| component.starts_with("pci"))
        .next()?;
    let above: Vec<PciAddress> = below_root
        .iter()
        .map(|name| name.parse().ok())
        .collect::<Option<_>>()?;
    (last.parse() == Ok(address) && !above.contains(&address)).then_some(above)
}

/// Parses a line `start end flags` of `resource`; unset if its end is 0.
fn resource(line: &str) -> Option<Bar> {
    let mut fields = line.split(' ').map(number);
    let (start, end, flags) = (fields.next()??, fields.next()??, fields.next()??);
    let size = match end {
        // An unset BAR has three zeroes, and `end - start + 1` would be 1.
        0 => 0,
        _ => end.checked_sub(start)?.checked_add(1)?,
    };
    fields.next().is_none().then_some(Bar { size, flags })
}

/// A hex number with its `0x`.
fn number(text: &str) -> Option<u64> {
    let digits = text.strip_prefix("0x")?;
    let shaped = digits.bytes().all(|b| b.is_ascii_hexdigit());
    shaped
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}
