//! One device as callers of the bus see it: the host's word and ours.

use std::collections::{BTreeMap, BTreeSet};

use kernel_glue::address::PciAddress;
use kernel_glue::device::Device;
use kernel_glue::host::Host;

use crate::assign::{Assigner, Condition, Standing};
use crate::libvirt::DomainRef;
use crate::reserve::Reservations;
use crate::site::Site;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::recipe::Recipes;

/// What is said of a device; an empty text means none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its address.
    pub address: PciAddress,
    /// Vendor and device id.
    pub id: String,
    /// The recipe that covers it.
    pub recipe: String,
    /// The driver it is on.
    pub driver: String,
    /// The driver it goes back to.
    pub previous_driver: String,
    /// Its IOMMU group.
    pub group: Option<u32>,
    /// Its NUMA node.
    pub numa_node: Option<u32>,
    /// The domain that has it.
    pub domain: Option<DomainRef>,
    /// How it stands.
    pub state: Condition,
    /// Whether it is reserved for guests.
    pub reserved: bool,
    /// Why it is not on the driver that it had before.
    pub note: String,
}

/// All devices that are ours, and whether that is to be looked at again: another process that works on
/// one says nothing when it has done.
#[derive(Clone, Debug, Default)]
pub struct Statuses {
    /// By address.
    pub devices: BTreeMap<PciAddress, Status>,
    /// Another process works on one of them.
    pub unsettled: bool,
    /// The host on which they were seen.
    pub host: Host,
}

/// Looks at the host, the records and the reservations.
///
/// # Errors
/// When the host cannot be read.
pub fn look(
    site: &Site,
    assigner: &Assigner,
    reservations: &Reservations,
) -> Result<Statuses, Refusal> {
    if let Some(why) = assigner.unread() {
        let reason = format!("what is bound cannot be read: {why}");
        let mend = "see what keeps variantd from reading it; it looks again by itself";
        return Err(Refusal::new(Code::JournalFailed, reason, mend));
    }
    // Before the host: what rings after this look is seen by the next one.
    let standings = assigner.standings();
    let reserved = reservations.all().into_iter().flatten();
    let reserved = reserved.map(|reservation| reservation.device).collect();
    let (host, rules) = (site.host()?, site.rules());
    let mut statuses = statuses(host, &rules.recipes, &standings, &reserved);
    for (device, status) in &mut statuses.devices {
        let note = assigner.note(*device).filter(|_| status.driver.is_empty());
        status.note = note.unwrap_or_default();
    }
    Ok(statuses)
}

fn statuses(
    host: Host,
    recipes: &Recipes,
    standings: &BTreeMap<PciAddress, Standing>,
    reserved: &BTreeSet<PciAddress>,
) -> Statuses {
    let devices = host.devices.values().filter_map(|device| {
        let recipe = recipes.for_device(device).map(|recipe| &*recipe.name);
        let standing = standings.get(&device.address);
        let reserved = reserved.contains(&device.address);
        let ours = recipe.is_some() || standing.is_some() || reserved;
        ours.then(|| (device.address, status(device, recipe, standing, reserved)))
    });
    Statuses {
        devices: devices.collect(),
        unsettled: standings.values().any(|standing| standing.elsewhere),
        host,
    }
}

fn status(
    device: &Device,
    recipe: Option<&str>,
    standing: Option<&Standing>,
    reserved: bool,
) -> Status {
    let idle = match reserved {
        true => Condition::Reserved,
        false => Condition::Free,
    };
    let previous = standing.and_then(|standing| standing.previous.as_ref());
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
        domain: standing.and_then(|standing| standing.domain.clone()),
        state: standing.map_or(idle, |standing| standing.condition),
        reserved,
        note: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::{GPU, NIC, address, driver, host};

    fn standing(condition: Condition) -> Standing {
        Standing {
            condition,
            domain: None,
            previous: Some(driver("nvidia")),
            elsewhere: false,
        }
    }

    fn seen(standing: Option<Standing>, reserved: bool) -> BTreeMap<PciAddress, Status> {
        let standings = standing.map(|standing| (address(GPU), standing));
        let reserved = reserved.then(|| address(GPU));
        statuses(
            host(),
            &Recipes::shipped().expect("recipes"),
            &standings.into_iter().collect(),
            &reserved.into_iter().collect(),
        )
        .devices
    }

    #[test]
    fn a_device_is_free_or_reserved_until_somebody_works_on_it() {
        let state = |standing, reserved| seen(standing, reserved)[&address(GPU)].state;
        assert_eq!(state(None, false), Condition::Free);
        assert_eq!(state(None, true), Condition::Reserved);
        let bound = Some(standing(Condition::Bound));
        assert_eq!(state(bound, true), Condition::Bound);
    }

    #[test]
    fn what_it_goes_back_to_is_not_what_it_is_on() {
        let gpu = &seen(Some(standing(Condition::Degraded)), false)[&address(GPU)];
        assert_eq!((&*gpu.driver, &*gpu.previous_driver), ("nvidia", "nvidia"));
        assert_eq!((gpu.numa_node, gpu.group), (Some(0), None));
        assert_eq!(seen(None, false)[&address(GPU)].previous_driver, "");
    }

    #[test]
    fn a_device_without_recipe_is_ours_once_it_is_bound() {
        assert!(!seen(None, false).contains_key(&address(NIC)));
        let standings = BTreeMap::from([(address(NIC), standing(Condition::Bound))]);
        let recipes = Recipes::shipped().expect("recipes");
        let seen = statuses(host(), &recipes, &standings, &BTreeSet::new());
        assert_eq!(seen.devices[&address(NIC)].recipe, "");
    }
}
