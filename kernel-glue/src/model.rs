//! A modelled kernel in memory: binds and refuses as Linux does, and injects errors.
//!
//! Follows drivers/base/bus.c, drivers/base/dd.c and drivers/pci/pci-driver.c. It has no devices of its own, never
//! sleeps, and cannot block: where the kernel would wait forever it returns EDEADLK.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::holder::Holders;
use crate::host::Host;
use crate::id::PciId;
use crate::kernel::{Attribute, Kernel, shown};
use crate::numa::NumaNode;
use crate::occupancy::Occupancy;
use crate::region::{RegionError, Regions};

use state::{Slot, State};

mod state;

/// A modelled kernel. Tests add devices and drivers, or load a recorded host.
#[derive(Debug, Default)]
pub struct Model {
    state: Mutex<State>,
}

/// One attempted write; prints as `path <- value`, with its errno if it failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The file.
    pub attribute: Attribute,
    /// The written text, including the newline that clears an override.
    pub value: String,
    /// The error, if the write failed.
    pub errno: Option<Errno>,
}

impl Model {
    /// The kernel of a host: its devices with their current drivers, and the variant drivers of `modules.alias` as
    /// loadable modules.
    #[must_use]
    pub fn from_host(host: &Host) -> Self {
        let model = Self::default();
        for device in host.devices.values() {
            let mut state = model.state();
            let slot = Slot {
                id: device.id,
                driver: device.driver.clone(),
                driver_override: device.driver_override.clone(),
                users: Vec::new(),
            };
            state.devices.insert(device.address, slot);
            if let Some(driver) = &device.driver {
                let ids = state.drivers.entry(driver.clone()).or_default();
                ids.insert(device.id);
            }
        }
        for variant in &host.variants {
            if let Some(driver) = driver_of_module(&variant.module) {
                model.add_module(&variant.module, driver);
            }
        }
        model
    }

    /// Adds a device, unbound, or bound to a driver that was added before.
    pub fn add_device(&self, address: PciAddress, id: PciId, driver: Option<DriverName>) {
        let slot = Slot {
            id,
            driver,
            driver_override: None,
            users: Vec::new(),
        };
        self.state().devices.insert(address, slot);
    }

    /// Registers a driver with the ids that it accepts without an override; none for a VFIO driver.
    pub fn add_driver(&self, driver: DriverName, ids: impl IntoIterator<Item = PciId>) {
        self.state()
            .drivers
            .insert(driver, ids.into_iter().collect());
    }

    /// Adds a module that registers a VFIO driver when it is loaded.
    pub fn add_module(&self, module: &str, driver: DriverName) {
        self.state().modules.insert(module.to_owned(), driver);
    }

    /// Lists a module for devices with an id, as in `modules.alias`.
    pub fn add_alias(&self, module: &str, id: PciId) {
        let mut state = self.state();
        let ids = state.aliases.entry(module.to_owned()).or_default();
        ids.insert(id);
    }

    /// Removes a driver and its module, as if its package was removed; no device may be bound to it.
    pub fn remove_driver(&self, driver: &DriverName) {
        let mut state = self.state();
        state.drivers.remove(driver);
        state.modules.retain(|_, of_module| of_module != driver);
    }

    /// Removes a device, as a hot reset or a rescan can do during a plan.
    pub fn remove_device(&self, address: PciAddress) {
        self.state().devices.remove(&address);
    }

    /// Sets the processes that have the device's VFIO node open.
    pub fn set_users(&self, device: PciAddress, users: &[u32]) {
        if let Some(slot) = self.state().devices.get_mut(&device) {
            slot.users = users.to_vec();
        }
    }

    /// Sets the reasons against unbinding a device.
    pub fn set_occupancy(&self, device: PciAddress, occupancy: Occupancy) {
        self.set_occupancies(device, [occupancy]);
    }

    /// Sets what each next read finds as the reasons against unbinding a device; the last stays.
    pub fn set_occupancies(
        &self,
        device: PciAddress,
        occupancies: impl IntoIterator<Item = Occupancy>,
    ) {
        let occupancies = occupancies.into_iter().collect();
        self.state().occupancies.insert(device, occupancies);
    }

    /// Sets the processes that have memory of a node.
    pub fn set_memory_users(&self, node: NumaNode, users: Holders) {
        self.state().memory_users.insert(node, users);
    }

    /// Makes the `number`th next write fail before it has an effect; the next is 1.
    pub fn fail_write(&self, number: usize, errno: Errno) {
        let mut state = self.state();
        let number = state.writes.len() + number;
        state.failing_writes.insert(number, errno);
    }

    /// Makes each probe of `driver` fail.
    pub fn fail_probe(&self, driver: DriverName, errno: Errno) {
        self.state().failing_probes.insert(driver, errno);
    }

    /// Makes the VFIO driver `driver` report these regions of `device`.
    pub fn set_regions(&self, device: PciAddress, driver: DriverName, regions: Regions) {
        self.state().regions.insert((device, driver), Ok(regions));
    }

    /// Makes each query of `driver` for the regions of `device` fail after the device was opened.
    pub fn fail_regions(&self, device: PciAddress, driver: DriverName, error: RegionError) {
        self.state().regions.insert((device, driver), Err(error));
    }

    /// Makes the firmware name no memory for `driver`.
    pub fn unname_memory(&self, driver: DriverName) {
        self.state().memoryless.insert(driver);
    }

    /// Leaves a device without an IOMMU, and VFIO's no-IOMMU mode on.
    pub fn unconfine(&self, device: PciAddress) {
        self.state().unconfined.insert(device);
    }

    /// How often devices were opened.
    #[must_use]
    pub fn opens(&self) -> usize {
        self.state().opens
    }

    /// The writes so far, in order.
    #[must_use]
    pub fn writes(&self) -> Vec<Write> {
        self.state().writes.clone()
    }

    /// The modules loaded so far, in order.
    #[must_use]
    pub fn loaded(&self) -> Vec<String> {
        self.state().loaded.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kernel for Model {
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        let mut state = self.state();
        let value = if value.is_empty() { "\n" } else { value };
        let number = state.writes.len() + 1;
        let result = match state.failing_writes.remove(&number) {
            Some(errno) => Err(errno),
            None => state.write(attribute, value),
        };
        state.writes.push(Write {
            attribute: attribute.clone(),
            value: value.to_owned(),
            errno: result.err(),
        });
        result
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        if self.registered(module)?.is_some() {
            return Ok(());
        }
        let mut state = self.state();
        let module = module.replace('-', "_");
        let driver = state.modules.get(&module).ok_or(Errno::ENOENT)?.clone();
        state.drivers.entry(driver).or_default();
        state.loaded.push(module);
        Ok(())
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        Ok(self.state().slot(device)?.driver.clone())
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        Ok(self.state().slot(device)?.driver_override.clone())
    }

    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno> {
        let state = self.state();
        let module = name.replace('-', "_");
        let of_module = state.modules.get(&module).map(DriverName::as_str);
        let mut names = [Some(name), Some(module.as_str()), of_module]
            .into_iter()
            .flatten()
            .filter_map(|name| name.parse().ok());
        Ok(names.find(|driver| state.drivers.contains_key(driver)))
    }

    /// A driver accepts its own ids; a driver whose module is not loaded accepts the ids of its aliases.
    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        let state = self.state();
        let id = state.slot(device)?.id;
        let takes = |ids: &std::collections::BTreeSet<PciId>| ids.contains(&id);
        let module = driver.as_str().replace('-', "_");
        let listed = state.aliases.get(&module).is_some_and(takes);
        Ok(listed || state.drivers.get(driver).is_some_and(takes))
    }

    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno> {
        Ok(self.state().slot(device)?.users.clone())
    }

    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        self.state().open(device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        let mut state = self.state();
        state.slot(device)?;
        let Some(next) = state.occupancies.get_mut(&device) else {
            return Ok(Occupancy::default());
        };
        let found = match next.len() {
            0 | 1 => next.front().cloned(),
            _ => next.pop_front(),
        };
        Ok(found.unwrap_or_default())
    }

    fn memory_users(&self, node: NumaNode) -> Result<Holders, Errno> {
        let users = self.state().memory_users.get(&node).cloned();
        Ok(users.unwrap_or_default())
    }

    fn names_memory(&self, driver: &DriverName) -> bool {
        !self.state().memoryless.contains(driver)
    }

    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        Ok(self.state().unconfined.contains(&device))
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        let state = self.state();
        let occupancy = state.occupancies.get(&device).and_then(VecDeque::front);
        Ok(occupancy.and_then(|occupancy| occupancy.unbind_lock))
    }
}

impl fmt::Display for Write {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <- {}", self.attribute, shown(&self.value))?;
        match self.errno {
            Some(errno) => write!(f, " ({errno:?})"),
            None => Ok(()),
        }
    }
}

/// Drivers are named after their module, except two whose names have hyphens (in Linux 7.2).
fn driver_of_module(module: &str) -> Option<DriverName> {
    let name = match module {
        "vfio_pci" => "vfio-pci",
        "xe_vfio_pci" => "xe-vfio-pci",
        other => other,
    };
    name.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> DriverName {
        text.parse().expect("name")
    }

    fn scene() -> (Model, PciAddress) {
        let model = Model::default();
        let gpu = "0009:01:00.0".parse().expect("address");
        let id: PciId = "10de:2342".parse().expect("id");
        model.add_driver(name("nvidia"), [id]);
        model.add_driver(name("vfio-pci"), []);
        model.add_module("nvgrace_gpu_vfio_pci", name("nvgrace_gpu_vfio_pci"));
        model.add_device(gpu, id, Some(name("nvidia")));
        (model, gpu)
    }

    fn bind(model: &Model, driver: &str, gpu: PciAddress) -> Result<(), Errno> {
        model.write(&Attribute::Bind(name(driver)), &gpu.to_string())
    }

    fn unbind(model: &Model, driver: &str, gpu: PciAddress) -> Result<(), Errno> {
        model.write(&Attribute::Unbind(name(driver)), &gpu.to_string())
    }

    #[test]
    fn an_override_bypasses_the_id_table_both_ways() {
        let (model, gpu) = scene();
        unbind(&model, "nvidia", gpu).expect("unbind");
        assert_eq!(bind(&model, "vfio-pci", gpu), Err(Errno::ENODEV));
        model
            .write(&Attribute::Override(gpu), "vfio-pci")
            .expect("override");
        assert_eq!(bind(&model, "nvidia", gpu), Err(Errno::ENODEV));
        bind(&model, "vfio-pci", gpu).expect("bind");
        assert_eq!(model.driver(gpu), Ok(Some(name("vfio-pci"))));
    }

    #[test]
    fn binding_a_bound_device_is_busy_and_unbinding_another_drivers_is_not_there() {
        let (model, gpu) = scene();
        assert_eq!(bind(&model, "nvidia", gpu), Err(Errno::EBUSY));
        assert_eq!(unbind(&model, "vfio-pci", gpu), Err(Errno::ENODEV));
        assert_eq!(bind(&model, "unheard_of", gpu), Err(Errno::ENOENT));
    }

    #[test]
    fn a_probe_that_fails_shows_its_errno_only_through_bind() {
        let (model, gpu) = scene();
        unbind(&model, "nvidia", gpu).expect("unbind");
        model.fail_probe(name("nvidia"), Errno::ETIME);
        assert_eq!(bind(&model, "nvidia", gpu), Err(Errno::ETIME));
        assert_eq!(model.write(&Attribute::Probe, &gpu.to_string()), Ok(()));
        assert_eq!(model.driver(gpu), Ok(None));
    }

    #[test]
    fn an_override_is_cleared_by_a_newline_and_by_nothing() {
        let (model, gpu) = scene();
        for clear in ["", "\n"] {
            model.write(&Attribute::Override(gpu), "x").expect("set");
            model
                .write(&Attribute::Override(gpu), clear)
                .expect("clear");
            assert_eq!(model.driver_override(gpu), Ok(None));
        }
    }

    #[test]
    fn a_module_registers_its_driver() {
        let (model, _) = scene();
        assert_eq!(model.registered("nvgrace-gpu-vfio-pci"), Ok(None));
        model.load_module("nvgrace-gpu-vfio-pci").expect("loaded");
        let driver = model.registered("nvgrace-gpu-vfio-pci");
        assert_eq!(driver, Ok(Some(name("nvgrace_gpu_vfio_pci"))));
        assert_eq!(model.load_module("unheard_of"), Err(Errno::ENOENT));
    }

    #[test]
    fn only_the_current_driver_reports_regions() {
        let (model, gpu) = scene();
        let mut regions = Regions::default();
        regions[4].size = 128 << 30;
        model.set_regions(gpu, name("vfio-pci"), regions);
        let on_nvidia = Some(name("nvidia"));
        assert_eq!(model.regions(gpu), Err(RegionError::NotVfio(on_nvidia)));
        unbind(&model, "nvidia", gpu).expect("unbind");
        assert_eq!(model.regions(gpu), Err(RegionError::NotVfio(None)));
        model
            .write(&Attribute::Override(gpu), "vfio-pci")
            .expect("override");
        bind(&model, "vfio-pci", gpu).expect("bind");
        assert_eq!(model.regions(gpu), Ok(regions));
        assert_eq!(model.opens(), 1);
    }

    #[test]
    fn a_device_that_is_open_is_not_opened_again() {
        let (model, gpu) = scene();
        model.set_regions(gpu, name("nvidia"), Regions::default());
        model.set_users(gpu, &[42]);
        assert_eq!(model.regions(gpu), Err(RegionError::InUse(vec![42])));
        assert_eq!(model.opens(), 0);
    }

    #[test]
    fn model_injects_open_errors() {
        let (model, gpu) = scene();
        model.fail_regions(gpu, name("nvidia"), RegionError::MemoryMissing);
        assert_eq!(model.regions(gpu), Err(RegionError::MemoryMissing));
        assert_eq!(model.opens(), 1);
    }

    #[test]
    fn writes_are_noted_in_order_with_what_failed() {
        let (model, gpu) = scene();
        model.fail_write(2, Errno::ENOMEM);
        model.write(&Attribute::Override(gpu), "").expect("clear");
        assert!(model.write(&Attribute::Override(gpu), "x").is_err());
        let lines: Vec<String> = model.writes().iter().map(Write::to_string).collect();
        let file = "/sys/bus/pci/devices/0009:01:00.0/driver_override";
        assert_eq!(
            lines,
            [format!("{file} <- \\n"), format!("{file} <- x (ENOMEM)")]
        );
    }
}
