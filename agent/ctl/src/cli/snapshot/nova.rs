//! What OpenStack Nova's scheduler can use of a host: traits of the compute node, and of its covered devices, by driver, recipe and
//! NUMA node.
//!
//! Source: Nova, nova/compute/provider_config.py (schema 1.0), nova/pci/devspec.py and nova/conf/pci.py (`device_spec`).

use std::collections::BTreeSet;

use clap::ValueEnum;
use kernel_glue::device::Device;
use serde_json::{Value, json};

use super::super::HostView;
use planner::recipe::Recipe;

/// What all of our traits begin with; Nova accepts custom traits only.
const PREFIX: &str = "CUSTOM_VARIANTD";
/// Placement's limit of a trait, in bytes.
const MAX_TRAIT: usize = 255;

/// Which of Nova's files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum Form {
    /// A provider configuration: traits of the compute node
    Provider,
    /// The section '[pci]' of nova.conf: a device_spec with traits for each covered device
    DeviceSpec,
}

impl Form {
    /// The text, or with `as_json` its content.
    pub(super) fn text(self, host_view: &HostView, as_json: bool) -> String {
        match (self, as_json) {
            (Self::Provider, false) => provider(&node_traits(host_view)),
            (Self::Provider, true) => format!("{:#}\n", provider_json(&node_traits(host_view))),
            (Self::DeviceSpec, false) => device_specs(host_view),
            (Self::DeviceSpec, true) => {
                let specs: Vec<Value> =
                    covered(host_view).map(|one| spec(host_view, one)).collect();
                format!("{:#}\n", json!({ "device_spec": specs }))
            }
        }
    }
}

type Covered<'a> = (&'a Device, &'a Recipe);

pub(super) fn covered(host_view: &HostView) -> impl Iterator<Item = Covered<'_>> {
    host_view.recipes.covered(&host_view.host)
}

/// Traits of a device: its driver, its recipe, and its NUMA node if it is known.
fn traits((device, recipe): Covered<'_>) -> BTreeSet<String> {
    let mut traits = shared(recipe);
    traits.extend(device.numa_node.map(|node| name("NUMA", &node.to_string())));
    traits
}

/// The traits that a device gives to its compute node.
fn shared(recipe: &Recipe) -> BTreeSet<String> {
    let driver = name("DRIVER", recipe.driver.as_str());
    BTreeSet::from([driver, name("RECIPE", &recipe.name)])
}

/// Traits of the compute node; none if no device is covered, so that it is not taken for a host with such devices.
fn node_traits(host_view: &HostView) -> BTreeSet<String> {
    let mut traits: BTreeSet<String> = covered(host_view)
        .flat_map(|(_, recipe)| shared(recipe))
        .collect();
    if !traits.is_empty() {
        traits.insert(PREFIX.to_owned());
    }
    traits
}

/// A trait: upper case, with `_` for every other character.
fn name(kind: &str, value: &str) -> String {
    let allowed = |one: char| {
        if one.is_ascii_alphanumeric() {
            one.to_ascii_uppercase()
        } else {
            '_'
        }
    };
    let value: String = value.chars().map(allowed).collect();
    let mut text = format!("{PREFIX}_{kind}_{value}");
    text.truncate(MAX_TRAIT);
    text
}

/// As YAML. `$COMPUTE_NODE` stands for the host on which nova-compute reads the file.
fn provider(traits: &BTreeSet<String>) -> String {
    let head = "# Written by 'variantctl snapshot --nova provider'; write it again when GPUs or recipes change.\n\
        meta:\n  schema_version: '1.0'\nproviders:";
    if traits.is_empty() {
        return format!("{head} []\n");
    }
    let lines = traits.iter().map(|one| format!("        - {one}\n"));
    let lines: String = lines.collect();
    format!(
        "{head}\n  - identification:\n      uuid: $COMPUTE_NODE\n    traits:\n      additional:\n{lines}"
    )
}

/// The same content as JSON, which is YAML too.
fn provider_json(traits: &BTreeSet<String>) -> Value {
    let one =
        json!({"identification": {"uuid": "$COMPUTE_NODE"}, "traits": {"additional": traits}});
    let providers = if traits.is_empty() { vec![] } else { vec![one] };
    json!({"meta": {"schema_version": "1.0"}, "providers": providers})
}

fn device_specs(host_view: &HostView) -> String {
    let lines = covered(host_view).map(|one| format!("device_spec = {}\n", spec(host_view, one)));
    let lines: String = lines.collect();
    format!(
        "# Written by 'variantctl snapshot --nova device-spec'; write it again when GPUs, recipes or reservations change.\n[pci]\n{lines}"
    )
}

fn spec(host_view: &HostView, one: Covered<'_>) -> Value {
    let (device, _) = one;
    let traits: Vec<String> = traits(one).into_iter().collect();
    let mut spec = json!({"address": device.address, "traits": traits.join(",")});
    let reservations = host_view.reservations.all().into_iter().flatten();
    // A reserved device is bound already, so libvirt must neither bind nor release it. Nova has the key since 2025.1.
    if reservations
        .into_iter()
        .any(|one| one.device == device.address)
    {
        spec["managed"] = json!("no");
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trait_has_upper_case_letters_digits_and_underscores() {
        assert_eq!(
            name("DRIVER", "vfio-pci"),
            "CUSTOM_VARIANTD_DRIVER_VFIO_PCI"
        );
        assert_eq!(name("RECIPE", "größe.2"), "CUSTOM_VARIANTD_RECIPE_GR__E_2");
        assert_eq!(name("RECIPE", &"a".repeat(300)).len(), MAX_TRAIT);
    }
}
