//! What a plan was made of, as one short text: a mark that has another one is old.
//!
//! Recipes, the host's facts about the devices, and what the versions can express. Not the domain: what its
//! owner changes is his.

use std::fmt::Write;

use kernel_glue::numa::{Node, NumaNode};
use sha2::{Digest, Sha256};

use super::fragment::push_number;
use super::{Assigned, Setting, window};
use crate::recipe::Recipe;
use crate::target::Version;

/// Bytes of `Some(255), `.
const ONE: usize = 11;

/// Bytes of the hash that are kept.
const BYTES: usize = 8;

/// The digest of what a plan is made of; `host_nodes` has the initiators of each assigned device.
pub(super) fn digest(
    setting: &Setting<'_>,
    assigned: &[Assigned<'_>],
    host_nodes: &[&[NumaNode]],
) -> String {
    let mut hash = Sha256::new();
    let mut said: Option<(&Recipe, String)> = None;
    for one in assigned {
        let device = one.device;
        let facts = (
            device.address,
            device.id,
            device.numa_node,
            &device.iommu,
            device.bars,
        );
        // Devices of one recipe mostly follow each other.
        let (_, recipe) = match said.take() {
            Some(same) if std::ptr::eq(same.0, one.recipe) => said.insert(same),
            _ => said.insert((one.recipe, definition(one.recipe))),
        };
        hash.update(format!("{recipe} {facts:?}\n"));
        // What VFIO says counts only where it differs: to ask is no reason to replace a definition.
        let asked = window::asked_kib(device);
        if let Some(kib) = asked.filter(|kib| *kib != window::known_kib(setting, device)) {
            hash.update(format!("regions {kib}\n"));
        }
    }
    for nodes in host_nodes {
        hash.update(format!("{nodes:?}\n"));
    }
    hash.update(distances(setting, host_nodes));
    hash.update(format!(
        "{:?} {:?}\n",
        abilities(setting),
        (setting.host.iommufd, setting.host.nests_smmu)
    ));
    let bytes = hash.finalize();
    bytes
        .iter()
        .take(BYTES)
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// What a recipe says of definitions; that a device needs a reset, and how long its bind may take, is about assigning
/// it, and how other drivers do without AtomicOps changes none.
fn definition(recipe: &Recipe) -> String {
    let (reset, seconds) = (recipe.needs_reset, recipe.bind_seconds);
    let assigning = format!("needs_reset: {reset:?}, bind_seconds: {seconds:?}, ");
    let otherwise = format!(", otherwise: {:?}", recipe.atomics.otherwise);
    let text = format!("{recipe:?}").replacen(&assigning, "", 1);
    text.replacen(&otherwise, "", 1)
}

/// Distances between the sockets and the devices' initiators: as `{:?}` writes rows of `Option<u8>`, which is slow,
/// and they are as many as the square of the cells.
fn distances(setting: &Setting<'_>, host_nodes: &[&[NumaNode]]) -> String {
    let numa = &setting.host.numa;
    let sockets = numa
        .nodes
        .iter()
        .filter(|node: &&Node| !node.cpus.is_empty());
    let initiators = host_nodes.iter().flat_map(|nodes| nodes.iter().copied());
    let nodes: Vec<NumaNode> = sockets.map(|node| node.id).chain(initiators).collect();
    let mut text = String::with_capacity(nodes.len() * nodes.len() * ONE + 3);
    text.push('[');
    for (row, from) in nodes.iter().enumerate() {
        text.push_str(if row == 0 { "[" } else { ", [" });
        for (column, to) in nodes.iter().enumerate() {
            text.push_str(if column == 0 { "" } else { ", " });
            push(&mut text, numa.distance(*from, *to));
        }
        text.push(']');
    }
    text.push_str("]\n");
    text
}

fn push(text: &mut String, distance: Option<u8>) {
    match distance {
        Some(distance) => {
            text.push_str("Some(");
            push_number(text, distance.into());
            text.push(')');
        }
        None => text.push_str("None"),
    }
}

/// Which pieces the versions can express: a newer version that can do no more changes nothing.
fn abilities(setting: &Setting<'_>) -> Vec<bool> {
    let versions = setting.target.versions;
    let libvirt = [
        Version::ACPI_NODESET,
        Version::ACPI_TABLE_RAW,
        Version::DRIVER_MODEL,
        Version::IOMMUFD,
        Version::SMMU_ACCEL,
        Version::VIRT_WINDOW,
    ];
    let qemu = [
        Version::SMMU_ACCEL_QEMU,
        Version::SMMU_AUTO,
        Version::VIRT_WINDOW_QEMU,
    ];
    let libvirt = libvirt.into_iter().map(|need| versions.libvirt >= need);
    libvirt
        .chain(qemu.into_iter().map(|need| versions.qemu >= need))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recipe_says_of_assigning_makes_no_definition_old() {
        let grace = include_str!("../../recipes/nvidia-grace.toml");
        let prepare = "prepare = \"on-define\"";
        let said = |keys: &str| {
            let text = grace.replacen(prepare, &format!("{prepare}\n{keys}"), 1);
            definition(&Recipe::parse("test.toml", &text).expect("a recipe"))
        };
        let shipped = said("");
        assert_eq!(said("bind_seconds = 260"), shipped);
        assert_eq!(said("bind_seconds = 260\nneeds_reset = false"), shipped);
        assert_ne!(said("migrates = true"), shipped);
        assert!(!shipped.contains("seconds"), "{shipped}");
    }
}
