//! Devices without a recipe in a guest with a NUMA layout on `q35`: each gets a root port on the expander bus of its cell.
//!
//! So a network adapter is at its node, beside the GPUs below the same switch of the host, and GPUDirect finds it there. libvirt would
//! place it on the guest's own root bus, which has no node. An address of the definition is kept, and a start does not need the port.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use kernel_glue::address::PciAddress;
use kernel_glue::config::Config;
use kernel_glue::numa::RangeList;

use super::{Assigned, Part, PlanInput, expander, placement};
use crate::recipe::Recipe;
use domain::{Added, Domain, Marked};

/// What the mark has in place of the recipe's name; no recipe can have it.
const NO_RECIPE: &str = "";

/// What such a device needs: only its place.
static PLACED: LazyLock<Recipe> = LazyLock::new(|| {
    let text = include_str!("beside.toml");
    Recipe::parse("beside", text).expect("a valid recipe, as each test with a layout shows")
});

/// The devices that get a port: without a recipe and an address, with PCI Express, and at a node of which the guest has a cell.
pub(super) fn devices<'a>(input: &PlanInput<'a>, domain: &'a Domain) -> Vec<Assigned<'a>> {
    if !expander::is_mirrored(domain) {
        return Vec::new();
    }
    let unplaced = domain.hostdevs.iter().filter(|one| one.address.is_none());
    let found = unplaced.filter_map(|hostdev| {
        let device = input.host.devices.get(&hostdev.source)?;
        let recipe = &*PLACED;
        Some(Assigned {
            hostdev,
            device,
            recipe,
        })
    });
    let gets_port = |one: &Assigned<'_>| {
        one.device.config != Config::Conventional
            && input.recipes.for_device(one.device).is_none()
            && expander::cell(input, domain, one).is_some()
    };
    found.filter(gets_port).collect()
}

/// True for a device of [`devices`].
pub(super) fn is_beside(one: &Assigned<'_>) -> bool {
    std::ptr::eq(one.recipe, &*PLACED)
}

/// The entries of these devices in the mark, with those that have their ports already.
pub(super) fn marked(domain: &Domain, all: &Part) -> Vec<Marked> {
    let has_recipe = |device: &PciAddress| all.devices.iter().any(|one| one.address == *device);
    let new = all.added_for.iter();
    let new = new.filter(|(device, _)| !has_recipe(device));
    let mut added: BTreeMap<PciAddress, Added> = new
        .map(|(device, added)| (*device, added.clone()))
        .collect();
    let before = domain.mark.iter().flat_map(|mark| &mark.devices);
    for old in before.filter(|old| old.recipe == NO_RECIPE && !has_recipe(&old.address)) {
        let mut hostdevs = domain.hostdevs.iter();
        let is_kept =
            hostdevs.any(|one| one.source == old.address && placement::is_carried(old, one));
        if is_kept {
            added
                .entry(old.address)
                .or_insert_with(|| old.added.clone());
        }
    }
    let entry = |(address, added)| Marked {
        address,
        recipe: NO_RECIPE.to_owned(),
        cells: RangeList::default(),
        added,
        replaced: None,
        alias: None,
        driver: None,
    };
    added.into_iter().map(entry).collect()
}
