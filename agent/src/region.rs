//! Regions that VFIO reported of devices on request, stored so that every later plan agrees.
//!
//! A query resets the device, so it is done only on request. Without this cache the agent would replace the definition
//! that a request completed when it plans the domain again.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{PoisonError, RwLock};

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::host::Host;
use kernel_glue::region::{RegionError, Regions};
use serde::{Deserialize, Serialize};
use tracing::warn;

use domain::code::Code;
use domain::refusal::Refusal;
use planner::recipe::Recipe;
use settings::file;

/// Regions by device.
#[derive(Debug, Default)]
pub struct Shown {
    /// The file of the cache; `None` in memory only.
    path: Option<PathBuf>,
    devices: RwLock<BTreeMap<PciAddress, Kept>>,
}

/// Valid for a device with this modalias: another device at the same address was not queried.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    modalias: String,
    regions: Regions,
}

impl Shown {
    /// Loads the content of `path`; empty if there is no such file.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let text = match file::read(&path) {
            Ok(text) => text,
            Err(why) if why.kind() == io::ErrorKind::NotFound => "{}".to_owned(),
            // An unreadable file is not overwritten.
            Err(why) => {
                warn!("cannot use '{}': {why}", path.display());
                return Self::default();
            }
        };
        let devices = serde_json::from_str(&text).unwrap_or_else(|error| {
            warn!("cannot use '{}': {error}", path.display());
            BTreeMap::new()
        });
        Self {
            path: Some(path),
            devices: RwLock::new(devices),
        }
    }

    /// Stores the regions that VFIO reports of a device.
    pub fn learn(&self, device: &Device, regions: Regions) {
        let modalias = device.modalias.clone();
        let kept = Kept { modalias, regions };
        let mut devices = self.devices.write().unwrap_or_else(PoisonError::into_inner);
        // Written only after a change: the same query is made for each request.
        if devices.insert(device.address, kept.clone()) != Some(kept) {
            self.keep(&devices);
        }
    }

    /// Adds the stored regions to a host that was read.
    pub fn add_to(&self, host: &mut Host) {
        let devices = self.devices.read().unwrap_or_else(PoisonError::into_inner);
        for (address, kept) in devices.iter() {
            let device = host.devices.get_mut(address);
            if let Some(device) = device.filter(|device| device.modalias == kept.modalias) {
                device.regions = Some(kept.regions);
            }
        }
    }

    fn keep(&self, devices: &BTreeMap<PciAddress, Kept>) {
        let Some(path) = &self.path else { return };
        let written = serde_json::to_string(devices)
            .map_err(std::io::Error::from)
            .and_then(|text| file::replace(path, &(text + "\n"), 0o644));
        if let Err(error) = written {
            warn!("cannot write '{}': {error}", path.display());
        }
    }
}

/// Refuses a query while another driver than the recipe's has the device, because its regions would differ.
///
/// # Errors
/// A refusal that names both drivers.
pub fn on_its_driver(device: &Device, recipe: &Recipe) -> Result<(), Refusal> {
    let alike = |name: &DriverName| name.as_str().replace('-', "_");
    match &device.driver {
        Some(driver) if alike(driver) == alike(&recipe.driver) => Ok(()),
        other => {
            let on = other.as_ref().map(|driver| format!("'{driver}'"));
            let on = on.unwrap_or_else(|| "no driver".to_owned());
            let reason = format!(
                "it is bound to {on}, and only '{}' reports its BARs",
                recipe.driver
            );
            let hint = "bind it to that driver first";
            Err(Refusal::new(Code::RegionsUnknown, reason, hint).of(device.address))
        }
    }
}

/// The message for a device whose regions VFIO did not report.
#[must_use]
pub fn refusal(device: PciAddress, error: &RegionError) -> Refusal {
    let code = match error {
        RegionError::InUse(_) | RegionError::Busy => Code::BindInUse,
        _ => Code::RegionsUnknown,
    };
    Refusal::new(code, error.to_string(), error.hint()).of(device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{GPU, address, driver, host};
    use planner::recipe::Recipes;

    fn regions(memory: u64) -> Regions {
        let mut regions = Regions::default();
        regions[4].size = memory;
        regions
    }

    fn of_gpu(shown: &Shown, host: &mut Host) -> Option<Regions> {
        shown.add_to(host);
        host.devices[&address(GPU)].regions
    }

    #[test]
    fn reported_regions_survive_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("regions");
        let shown = Shown::load(path.clone());
        assert_eq!(of_gpu(&shown, &mut host()), None);
        shown.learn(&host().devices[&address(GPU)], regions(1 << 37));
        let again = Shown::load(path);
        assert_eq!(of_gpu(&again, &mut host()), Some(regions(1 << 37)));
    }

    #[test]
    fn cached_regions_apply_only_to_the_same_device() {
        let shown = Shown::default();
        shown.learn(&host().devices[&address(GPU)], regions(1 << 37));
        let mut other = host();
        let gpu = other.devices.get_mut(&address(GPU)).expect("gpu");
        gpu.modalias = "pci:v000010DEd000031C2".to_owned();
        assert_eq!(of_gpu(&shown, &mut other), None);
    }

    #[test]
    fn unreadable_region_cache_counts_as_empty() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("regions");
        std::fs::write(&path, "{\"0009:01:00.0\": 7}").expect("file");
        assert_eq!(of_gpu(&Shown::load(path), &mut host()), None);
    }

    #[test]
    fn regions_count_only_on_the_driver_of_the_recipe() {
        let recipes = Recipes::shipped().expect("recipes");
        let mut gpu = host().devices[&address(GPU)].clone();
        let recipe = recipes.for_device(&gpu).expect("recipe");
        for (on, right) in [("nvgrace_gpu_vfio_pci", true), ("vfio-pci", false)] {
            gpu.driver = Some(driver(on));
            assert_eq!(on_its_driver(&gpu, recipe).is_ok(), right, "{on}");
        }
        gpu.driver = None;
        let text = on_its_driver(&gpu, recipe)
            .expect_err("unbound")
            .to_string();
        assert!(text.contains("no driver"), "{text}");
    }

    #[test]
    fn a_device_in_use_has_the_code_of_one() {
        let code = |error| refusal(address(GPU), &error).code;
        assert_eq!(code(RegionError::InUse(vec![1])), Code::BindInUse);
        assert_eq!(code(RegionError::NoIommu), Code::RegionsUnknown);
    }
}
