//! Reads EGM regions. Three forms are in the field: a file `gpu_devices`, links named by address in the region's directory, and
//! links `egmN` in the directories of the GPUs. The first that lists a GPU counts.

use std::collections::BTreeSet;

use super::Reader;
use crate::address::PciAddress;
use crate::egm::{self, EgmRegion, MAX_REGIONS};
use crate::sysfs::DEVICES;

const CLASS: &str = "sys/class/egm";

impl Reader<'_> {
    /// The regions, by number. `devices` are the host's PCI functions.
    pub(super) fn egm<'d>(
        &mut self,
        devices: impl Iterator<Item = &'d PciAddress> + Clone,
    ) -> Vec<EgmRegion> {
        let names = self.tree.list(CLASS);
        let names = self.optional(CLASS, names).unwrap_or_default();
        if names.len() > MAX_REGIONS {
            self.gap(CLASS, format!("more than {MAX_REGIONS} entries"));
        }
        let mut regions = Vec::new();
        for name in names.iter().take(MAX_REGIONS) {
            let path = format!("{CLASS}/{name}");
            if let Some(number) = self.known(&path, egm::number(name), name) {
                regions.push(self.region(&path, number, devices.clone()));
            }
        }
        regions.sort_by_key(|region| region.number);
        regions
    }

    fn region<'d>(
        &mut self,
        dir: &str,
        number: u32,
        devices: impl Iterator<Item = &'d PciAddress>,
    ) -> EgmRegion {
        // A recording has no empty directories; every device of a class has this file.
        let _ = self.optional_text(&format!("{dir}/dev"));
        let mut gpus = self.listed(&format!("{dir}/gpu_devices"));
        if gpus.is_empty() {
            gpus = self.linked(dir);
        }
        if gpus.is_empty() {
            gpus = self.linking(number, devices);
        }
        EgmRegion {
            number,
            bytes: self.egm_size(&format!("{dir}/egm_size")),
            gpus,
        }
    }

    fn egm_size(&mut self, path: &str) -> Option<u64> {
        let text = self.optional_text(path)?;
        self.known(path, egm::size(&text), &text)
    }

    fn listed(&mut self, path: &str) -> BTreeSet<PciAddress> {
        let text = self.optional_text(path);
        let gpus = text.and_then(|text| self.known(path, egm::gpus(&text), &text));
        gpus.unwrap_or_default()
    }

    /// Links named by address in the region's directory. Their texts are read, so that a recording has them.
    fn linked(&mut self, dir: &str) -> BTreeSet<PciAddress> {
        let names = self.tree.list(dir);
        let names = self.optional(dir, names).unwrap_or_default();
        let addresses = names.iter().filter_map(|name| {
            let address: PciAddress = name.parse().ok()?;
            (address.to_string() == *name).then_some(address)
        });
        let linked = addresses.filter(|address| {
            let path = format!("{dir}/{address}");
            self.optional_link(&path).is_some()
        });
        linked.collect()
    }

    /// Devices with a link to the region.
    fn linking<'d>(
        &mut self,
        number: u32,
        devices: impl Iterator<Item = &'d PciAddress>,
    ) -> BTreeSet<PciAddress> {
        let linking = devices.filter(|address| {
            let path = format!("{DEVICES}/{address}/egm{number}");
            self.optional_link(&path).is_some()
        });
        linking.copied().collect()
    }
}
