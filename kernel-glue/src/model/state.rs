//! The state of the modelled kernel, and its rules for binding.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nix::errno::Errno;

use super::Write;
use crate::address::PciAddress;
use crate::driver::DriverName;
use crate::holder::Holders;
use crate::id::PciId;
use crate::kernel::Attribute;
use crate::numa::NumaNode;
use crate::occupancy::Occupancy;
use crate::region::{RegionError, Regions};

#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) devices: BTreeMap<PciAddress, Slot>,
    pub(super) drivers: BTreeMap<DriverName, BTreeSet<PciId>>,
    pub(super) modules: BTreeMap<String, DriverName>,
    /// The ids that `modules.alias` lists for a module.
    pub(super) aliases: BTreeMap<String, BTreeSet<PciId>>,
    pub(super) writes: Vec<Write>,
    pub(super) loaded: Vec<String>,
    pub(super) failing_writes: BTreeMap<usize, Errno>,
    pub(super) failing_probes: BTreeMap<DriverName, Errno>,
    /// The regions that a VFIO driver reports of a device; a driver without an entry is not a VFIO driver.
    pub(super) regions: BTreeMap<(PciAddress, DriverName), Result<Regions, RegionError>>,
    /// Drivers whose memory the firmware does not name.
    pub(super) memoryless: BTreeSet<DriverName>,
    /// Devices that VFIO would give out without an IOMMU.
    pub(super) unconfined: BTreeSet<PciAddress>,
    pub(super) opens: usize,
    /// What the next reads find; the last stays.
    pub(super) occupancies: BTreeMap<PciAddress, VecDeque<Occupancy>>,
    pub(super) memory_users: BTreeMap<NumaNode, Holders>,
}

#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) id: PciId,
    pub(super) driver: Option<DriverName>,
    pub(super) driver_override: Option<String>,
    pub(super) users: Vec<u32>,
}

impl State {
    pub(super) fn write(&mut self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        match attribute {
            Attribute::Override(device) => self.set_override(*device, value),
            Attribute::Unbind(driver) => self.unbind(driver, address(value)?),
            Attribute::Bind(driver) => self.bind(driver, address(value)?),
            Attribute::Probe => self.probe_any(address(value)?),
            Attribute::UnbindLock(device) => self.lock(*device, value == "1"),
            Attribute::Barrier(device) => self.control(*device, value),
        }
    }

    pub(super) fn slot(&self, device: PciAddress) -> Result<&Slot, Errno> {
        self.devices.get(&device).ok_or(Errno::ENODEV)
    }

    pub(super) fn open(&mut self, device: PciAddress) -> Result<Regions, RegionError> {
        let slot = self.slot(device);
        let slot = slot.map_err(|errno| RegionError::kernel("read how it is bound", errno))?;
        let driver = slot.driver.clone();
        let shown = driver.as_ref().map(|driver| (device, driver.clone()));
        let shown = shown.and_then(|key| self.regions.get(&key).cloned());
        match shown {
            None => Err(RegionError::NotVfio(driver)),
            Some(_) if !slot.users.is_empty() => Err(RegionError::InUse(slot.users.clone())),
            Some(shown) => {
                self.opens += 1;
                shown
            }
        }
    }

    fn slot_mut(&mut self, device: PciAddress) -> Result<&mut Slot, Errno> {
        self.devices.get_mut(&device).ok_or(Errno::ENODEV)
    }

    /// The value ends at the first newline; an empty value clears. The driver need not exist.
    fn set_override(&mut self, device: PciAddress, value: &str) -> Result<(), Errno> {
        let slot = self.slot_mut(device).map_err(|_| Errno::ENOENT)?;
        if value.len() >= 4095 {
            return Err(Errno::EINVAL);
        }
        let text = value.split('\n').next().unwrap_or_default();
        slot.driver_override = (!text.is_empty()).then(|| text.to_owned());
        Ok(())
    }

    fn unbind(&mut self, driver: &DriverName, device: PciAddress) -> Result<(), Errno> {
        self.registered(driver)?;
        let slot = self.slot_mut(device)?;
        if slot.driver.as_ref() != Some(driver) {
            return Err(Errno::ENODEV);
        }
        if !slot.users.is_empty() {
            return Err(Errno::EDEADLK);
        }
        slot.driver = None;
        let lock = self.occupancies.get_mut(&device);
        if let Some(locked) = lock
            .and_then(VecDeque::front_mut)
            .and_then(|one| one.unbind_lock.as_mut())
        {
            *locked = false;
        }
        Ok(())
    }

    /// NVIDIA's driver refuses the lock while it counts users, and reports that only when the file is read.
    fn lock(&mut self, device: PciAddress, wanted: bool) -> Result<(), Errno> {
        let occupancy = self.occupancies.get_mut(&device);
        let occupancy = occupancy
            .and_then(VecDeque::front_mut)
            .ok_or(Errno::ENOENT)?;
        let free = occupancy.holders.found.is_empty();
        let locked = occupancy.unbind_lock.as_mut().ok_or(Errno::ENOENT)?;
        *locked = wanted && (free || *locked);
        Ok(())
    }

    /// Runtime power management accepts only its own keywords; they have no effect here.
    fn control(&self, device: PciAddress, word: &str) -> Result<(), Errno> {
        self.slot(device).map_err(|_| Errno::ENOENT)?;
        match word {
            "on" | "auto" => Ok(()),
            _ => Err(Errno::EINVAL),
        }
    }

    fn bind(&mut self, driver: &DriverName, device: PciAddress) -> Result<(), Errno> {
        self.registered(driver)?;
        let slot = self.slot(device)?;
        if !self.matches(driver, slot) {
            return Err(Errno::ENODEV);
        }
        if slot.driver.is_some() {
            return Err(Errno::EBUSY);
        }
        self.probe(driver, device)
    }

    /// Succeeds if the device is already bound, if nothing matches, and if the probe fails.
    fn probe_any(&mut self, device: PciAddress) -> Result<(), Errno> {
        let slot = self.slot(device)?;
        if slot.driver.is_none() {
            let mut drivers = self.drivers.keys();
            let found = drivers.find(|driver| self.matches(driver, slot)).cloned();
            found.map(|driver| self.probe(&driver, device));
        }
        Ok(())
    }

    fn probe(&mut self, driver: &DriverName, device: PciAddress) -> Result<(), Errno> {
        if let Some(errno) = self.failing_probes.get(driver) {
            return Err(*errno);
        }
        self.slot_mut(device)?.driver = Some(driver.clone());
        Ok(())
    }

    /// An override decides alone and replaces the driver's ids.
    fn matches(&self, driver: &DriverName, slot: &Slot) -> bool {
        match &slot.driver_override {
            Some(name) => name == driver.as_str(),
            None => self
                .drivers
                .get(driver)
                .is_some_and(|ids| ids.contains(&slot.id)),
        }
    }

    fn registered(&self, driver: &DriverName) -> Result<(), Errno> {
        let known = self.drivers.contains_key(driver);
        known.then_some(()).ok_or(Errno::ENOENT)
    }
}

fn address(value: &str) -> Result<PciAddress, Errno> {
    let value = value.strip_suffix('\n').unwrap_or(value);
    value.parse().map_err(|_| Errno::ENODEV)
}
