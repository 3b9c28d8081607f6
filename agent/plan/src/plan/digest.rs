//! The fingerprint of a plan's inputs for the mark: a mark with another one is outdated.
//!
//! Inputs: what recipes say of definitions, the host's facts about the devices, and what the versions can express. The domain
//! is not among them, because changes by its user do not outdate a mark. The form is JSON. A field that a later release adds
//! is left out while it has its default, so that an upgrade alone does not outdate a mark.

use kernel_glue::address::PciAddress;
use kernel_glue::device::Bar;
use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;
use kernel_glue::numa::NumaNode;
use serde::Serialize;

use super::fragment::push_number;
use super::{Assigned, PlanInput, window};
use crate::fingerprint::Fingerprint;
use crate::json;
use crate::recipe::{AcpiTable, Egm, Expander, Guest, Initiators, Need, Recipe, Smmu, Window};
use crate::stack::{Feature, Stack};

/// Bytes of `null,`.
const ONE: usize = 5;

/// What a recipe says of definitions. Names, other devices, `prepare`, bind options, and keys that only affect notes (migration,
/// reset faults, widths of AtomicOps) are left out.
#[derive(Serialize)]
struct Needs<'a> {
    driver: &'a DriverName,
    guests: &'a [Guest],
    initiators: Option<Initiators>,
    own_root_port: bool,
    switch: bool,
    link: bool,
    expander: Option<&'a Expander>,
    smmu: Option<Smmu>,
    iommufd: Need,
    #[serde(skip_serializing_if = "Option::is_none")]
    egm: Option<Egm>,
    window: Option<&'a Window>,
    acpi_tables: &'a [AcpiTable],
}

impl<'a> From<&'a Recipe> for Needs<'a> {
    fn from(recipe: &'a Recipe) -> Self {
        Self {
            driver: &recipe.driver,
            guests: &recipe.guests,
            initiators: recipe.initiators,
            own_root_port: recipe.own_root_port(),
            switch: recipe.placement.switch,
            link: recipe.placement.link,
            expander: recipe.expander.as_ref(),
            smmu: recipe.smmu,
            iommufd: recipe.iommufd,
            egm: recipe.egm.filter(|egm| egm.need != Need::Ignore),
            window: recipe.window.as_ref(),
            acpi_tables: &recipe.acpi_tables,
        }
    }
}

/// The host's facts about a device.
#[derive(Serialize)]
struct Facts<'a> {
    address: PciAddress,
    id: PciId,
    numa_node: Option<NumaNode>,
    iommu: Option<&'a str>,
    bars: &'a [Bar],
    window_gib: u64,
    /// VFIO's regions count only if they differ from the recipe's, so that reading them does not outdate a mark.
    #[serde(skip_serializing_if = "Option::is_none")]
    regions_kib: Option<u64>,
}

impl<'a> Facts<'a> {
    fn of(one: &Assigned<'a>, input: &PlanInput<'_>) -> Self {
        let device = one.device;
        let asked = window::asked_kib(device).filter(|_| window::differs(input, device));
        let member = one.recipe.member(device);
        Self {
            address: device.address,
            id: device.id,
            numa_node: device.numa_node,
            iommu: device.iommu.as_deref(),
            bars: &device.bars,
            window_gib: member.map_or(0, |member| member.window_gib),
            regions_kib: asked,
        }
    }
}

/// The digest of what a plan is made of; `host_nodes` has the initiators of each assigned device.
pub(super) fn digest(
    input: &PlanInput<'_>,
    assigned: &[Assigned<'_>],
    host_nodes: &[&[NumaNode]],
) -> String {
    let mut text = String::new();
    let mut printed: Option<(&Recipe, String)> = None;
    for one in assigned {
        // Devices of one recipe are mostly adjacent, so its text is kept.
        let (_, needs) = match printed.take() {
            Some(same) if std::ptr::eq(same.0, one.recipe) => printed.insert(same),
            _ => printed.insert((one.recipe, json::text(&Needs::from(one.recipe)))),
        };
        text.push_str(needs);
        text.push_str(&json::text(&Facts::of(one, input)));
    }
    text.push_str(&json::text(&host_nodes));
    text.push_str(&distances(input, host_nodes));
    let host = input.host;
    text.push_str(&json::text(&(
        abilities(&input.target.stack),
        host.iommufd,
        host.nests_smmu,
    )));
    Fingerprint::of(&text).short()
}

/// Distances between the sockets and the devices' initiators. Written without a serialiser: there are nodes squared of them.
fn distances(input: &PlanInput<'_>, host_nodes: &[&[NumaNode]]) -> String {
    let numa = &input.host.numa;
    let sockets = numa.sockets();
    let initiators = host_nodes.iter().flat_map(|nodes| nodes.iter().copied());
    let nodes: Vec<NumaNode> = sockets.map(|node| node.id).chain(initiators).collect();
    let mut text = String::with_capacity(nodes.len() * (nodes.len() * ONE + 3) + 2);
    text.push('[');
    for (row, from) in nodes.iter().enumerate() {
        text.push_str(if row == 0 { "[" } else { ",[" });
        for (column, to) in nodes.iter().enumerate() {
            text.push_str(if column == 0 { "" } else { "," });
            match numa.distance(*from, *to) {
                Some(distance) => push_number(&mut text, distance.into()),
                None => text.push_str("null"),
            }
        }
        text.push(']');
    }
    text.push(']');
    text
}

/// Features by the names that digests have had since the first release. A digest lists those that the stack has.
const LISTED: [(&str, Feature); 9] = [
    ("acpi-nodeset", Feature::AcpiNodeset),
    ("acpi-table-raw", Feature::AcpiTableRaw),
    ("driver-model", Feature::DriverModel),
    ("iommufd", Feature::HostdevIommufd),
    ("smmu-accel", Feature::SmmuAccel),
    ("virt-window", Feature::VirtWindow),
    ("qemu-smmu-accel", Feature::QemuSmmuAccel),
    ("qemu-smmu-auto", AUTO),
    ("qemu-virt-window", Feature::QemuVirtWindow),
];

/// The feature that tells whether QEMU takes an SMMUv3's attributes from the host's.
const AUTO: Feature = Feature::QemuSmmuAtsType;

/// What the stack can express, and not the versions: an upgrade without a new ability does not outdate a mark. Further features
/// are listed only where the stack answers otherwise than its versions, so that marks of earlier releases stay valid.
fn abilities(stack: &Stack) -> Vec<String> {
    let has = |feature| match feature {
        AUTO => stack.smmu_is_auto(),
        _ => stack.has(feature),
    };
    let listed = LISTED.iter().filter(|(_, feature)| has(*feature));
    let mut names: Vec<String> = listed.map(|(name, _)| (*name).to_owned()).collect();
    let assumed = Stack::assumed(stack.versions());
    for feature in Feature::ALL {
        let value = stack.value(feature);
        let is_listed = LISTED.iter().any(|(_, listed)| *listed == feature);
        if (feature == AUTO || !is_listed) && value != assumed.value(feature) {
            names.push(format!("{} {}", feature.name(), json::text(&value)));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The needs of the shipped recipe after replacing one text in it.
    fn printed(old: &str, new: &str) -> String {
        let grace = include_str!("../../../recipes/nvidia-grace.toml");
        assert!(grace.contains(old), "{old}");
        let text = grace.replacen(old, new, 1);
        json::text(&Needs::from(
            &Recipe::parse("test.toml", &text).expect("a recipe"),
        ))
    }

    #[test]
    fn unrelated_recipe_keys_do_not_change_the_digest() {
        let prepare = "prepare = \"on-define\"";
        let shipped = printed(prepare, prepare);
        let with = |keys: &str| printed(prepare, &format!("{prepare}\n{keys}"));
        assert_eq!(with("bind_seconds = 260\nneeds_reset = false"), shipped);
        assert_eq!(with("migrates = true"), shipped);
        assert_eq!(printed(prepare, "prepare = \"on-request\""), shipped);
        let device = "[[device]]\nid = \"10de:ffff\"\nlabel = \"later\"\n\n[[device]]";
        assert_eq!(printed("[[device]]", device), shipped);
        assert_ne!(with("iommufd = \"require\""), shipped);
        assert_ne!(printed("cells = 8", "cells = 4"), shipped);
    }

    #[test]
    fn the_form_is_this_one() {
        let needs = printed("", "");
        insta::assert_snapshot!(needs.replace(",\"", ",\n\""));
    }
}
