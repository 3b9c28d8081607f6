//! The status of one device for bus callers: from the host and from the records.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use crate::assign::{Assigner, Condition, DeviceState};
use crate::assignment::OwnerKind;
use crate::context::Context;
use crate::libvirt::DomainRef;
use crate::metrics::Labels;
use crate::reserve::Reservations;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::recipe::Recipes;

/// The status of a device; an empty text means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its address.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: String,
    /// The recipe that covers it.
    pub recipe: String,
    /// Its driver.
    pub driver: String,
    /// The driver that a release restores.
    pub previous_driver: String,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// The kind of its owner, if it is bound or being changed.
    pub owner: Option<OwnerKind>,
    /// The domain that has it.
    pub domain: Option<DomainRef>,
    /// Its state.
    pub state: Condition,
    /// Whether it is reserved for guests.
    pub reserved: bool,
    /// Why it is not bound to its previous driver.
    pub note: String,
}

/// The status of all relevant devices, and whether it must be read again: another process that changes a device sends
/// no notification at its end.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    /// By address.
    pub devices: BTreeMap<PciAddress, Status>,
    /// Another process is changing one of them.
    pub unsettled: bool,
    /// The host as it was read.
    pub host: Host,
}

impl Status {
    /// Its labels in the metrics.
    pub(crate) fn labels(&self) -> Labels<'_> {
        let owner = self.owner.map(OwnerKind::as_str);
        Labels {
            state: self.state.as_str(),
            driver: &self.driver,
            owner: owner.unwrap_or(if self.driver.is_empty() {
                "none"
            } else {
                "host"
            }),
            degraded: self.state == Condition::Degraded,
        }
    }
}

/// Reads the host, the records and the reservations.
///
/// # Errors
/// The host cannot be read.
pub fn look(
    context: &Context,
    assigner: &Assigner,
    reservations: &Reservations,
) -> Result<Statuses, Refusal> {
    if let Some(why) = assigner.unread() {
        let reason = format!("cannot read the records of bound devices: {why}");
        let hint = "make the file readable for variantd, which retries by itself";
        return Err(Refusal::new(Code::JournalFailed, reason, hint));
    }
    // Before the host: a change after this read causes another one.
    let device_states = assigner.device_states();
    let reserved = reservations.all().into_iter().flatten();
    let reserved = reserved.map(|reservation| reservation.device).collect();
    let (host, rules) = (context.host()?, context.rules());
    let mut statuses = statuses(host, &rules.recipes, &device_states, &reserved);
    for (device, status) in &mut statuses.devices {
        let note = assigner.note(*device).filter(|_| status.driver.is_empty());
        status.note = note.unwrap_or_default();
    }
    Ok(statuses)
}

fn statuses(
    host: Host,
    recipes: &Recipes,
    device_states: &BTreeMap<PciAddress, DeviceState>,
    reserved: &BTreeSet<PciAddress>,
) -> Statuses {
    let devices = host.devices.values().filter_map(|device| {
        let recipe = recipes.for_device(device).map(|recipe| &*recipe.name);
        let device_state = device_states.get(&device.address);
        let reserved = reserved.contains(&device.address);
        let ours = recipe.is_some() || device_state.is_some() || reserved;
        ours.then(|| {
            (
                device.address,
                status(device, recipe, device_state, reserved),
            )
        })
    });
    Statuses {
        devices: devices.collect(),
        unsettled: device_states
            .values()
            .any(|device_state| device_state.elsewhere),
        host,
    }
}

fn status(
    device: &Device,
    recipe: Option<&str>,
    device_state: Option<&DeviceState>,
    reserved: bool,
) -> Status {
    let idle = match reserved {
        true => Condition::Reserved,
        false => Condition::Free,
    };
    let previous = device_state.and_then(|device_state| device_state.previous.as_ref());
    Status {
        address: device.address,
        id: device.id.to_string(),
        recipe: recipe.unwrap_or_default().to_owned(),
        driver: device
            .driver
            .as_ref()
            .map_or(String::new(), ToString::to_string),
        previous_driver: previous.map_or(String::new(), ToString::to_string),
        group: device.iommu_group,
        numa_node: device.numa_node.map(Into::into),
        owner: device_state.map(|device_state| device_state.owner),
        domain: device_state.and_then(|device_state| device_state.domain.clone()),
        state: device_state.map_or(idle, |device_state| device_state.condition),
        reserved,
        note: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{GPU, NIC, address, driver, host};

    fn device_state(condition: Condition) -> DeviceState {
        DeviceState {
            condition,
            owner: OwnerKind::Guest,
            domain: None,
            previous: Some(driver("nvidia")),
            elsewhere: false,
        }
    }

    fn seen(device_state: Option<DeviceState>, reserved: bool) -> BTreeMap<PciAddress, Status> {
        let device_states = device_state.map(|device_state| (address(GPU), device_state));
        let reserved = reserved.then(|| address(GPU));
        statuses(
            host(),
            &Recipes::shipped().expect("recipes"),
            &device_states.into_iter().collect(),
            &reserved.into_iter().collect(),
        )
        .devices
    }

    #[test]
    fn device_state_is_free_or_reserved_before_a_change() {
        let state = |device_state, reserved| seen(device_state, reserved)[&address(GPU)].state;
        assert_eq!(state(None, false), Condition::Free);
        assert_eq!(state(None, true), Condition::Reserved);
        let bound = Some(device_state(Condition::Bound));
        assert_eq!(state(bound, true), Condition::Bound);
    }

    #[test]
    fn previous_driver_differs_from_the_current_one() {
        let gpu = &seen(Some(device_state(Condition::Degraded)), false)[&address(GPU)];
        assert_eq!((&*gpu.driver, &*gpu.previous_driver), ("nvidia", "nvidia"));
        assert_eq!((gpu.numa_node, gpu.group), (Some(0), None));
        assert_eq!(seen(None, false)[&address(GPU)].previous_driver, "");
    }

    #[test]
    fn device_without_recipe_is_published_while_bound() {
        assert!(!seen(None, false).contains_key(&address(NIC)));
        let device_states = BTreeMap::from([(address(NIC), device_state(Condition::Bound))]);
        let recipes = Recipes::shipped().expect("recipes");
        let seen = statuses(host(), &recipes, &device_states, &BTreeSet::new());
        assert_eq!(seen.devices[&address(NIC)].recipe, "");
    }
}
