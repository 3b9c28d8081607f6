//! What a plan was made from: fingerprints of the definition, the host and the recipes, and the versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{facts, form};
use crate::fingerprint::Fingerprint;
use crate::json;
use crate::plan::PlanInput;
use crate::recipe::{Member, Recipes, Sourced};
use crate::stack::{Feature, Stack};
use crate::target::Version;
use domain::{Definition, NumaMode};

/// The inputs of a plan, by fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Basis {
    /// Fingerprint of the definition's text, without secrets.
    pub definition: Fingerprint,
    /// Fingerprints of the host's facts that planning reads, by part.
    pub host: BTreeMap<String, Fingerprint>,
    /// Fingerprints of the texts and devices of the recipes in force, by name.
    pub recipes: BTreeMap<String, Fingerprint>,
    /// libvirt's version.
    #[serde(with = "form::text")]
    pub libvirt: Version,
    /// QEMU's version.
    #[serde(with = "form::text")]
    pub qemu: Version,
    /// Fingerprint of the pair's features, where they are not those of its versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<Fingerprint>,
    /// Version of the program that planned.
    pub variantd: String,
    /// Whether a guest address that contradicts its recipe is replaced.
    pub replace: bool,
    /// The domain's option `egm` that is set; left out where it stays, as in earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egm: Option<bool>,
    /// The domain's option `numa` that is set; left out where it stays, as in earlier releases.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "form::optional_text"
    )]
    pub numa: Option<NumaMode>,
}

impl Basis {
    pub(super) fn of(definition: &Definition, input: &PlanInput<'_>) -> Self {
        Self {
            definition: Fingerprint::of(definition.text()),
            host: facts::fingerprints(definition.domain(), input),
            recipes: texts(input.recipes),
            libvirt: input.target.versions().libvirt,
            qemu: input.target.versions().qemu,
            features: features(&input.target.stack),
            variantd: env!("CARGO_PKG_VERSION").to_owned(),
            replace: input.replace,
            egm: input.egm,
            numa: input.numa.wanted,
        }
    }

    /// Names of the inputs that are different in `now`.
    pub(super) fn changed(&self, now: &Self) -> Vec<String> {
        let mut changed = Vec::new();
        if self.definition != now.definition {
            changed.push("the definition".to_owned());
        }
        changed.extend(differing(&self.host, &now.host, "the host's"));
        changed.extend(differing(&self.recipes, &now.recipes, "recipe"));
        if self.libvirt != now.libvirt {
            changed.push(format!("libvirt ({} to {})", self.libvirt, now.libvirt));
        }
        if self.qemu != now.qemu {
            changed.push(format!("QEMU ({} to {})", self.qemu, now.qemu));
        }
        if self.features != now.features {
            changed.push("the features of libvirt and QEMU".to_owned());
        }
        if self.variantd != now.variantd {
            changed.push(format!("variantd (now {})", now.variantd));
        }
        changed
    }
}

/// The answers of the stack, without how they are known.
fn features(stack: &Stack) -> Option<Fingerprint> {
    let values = |stack: &Stack| json::text(&Feature::ALL.map(|one| stack.value(one)).to_vec());
    let own = values(stack);
    (own != values(&Stack::assumed(stack.versions()))).then(|| Fingerprint::of(&own))
}

/// Names of entries that are new or differ. Entries that only the plan has are reported together, without names.
fn differing(
    then: &BTreeMap<String, Fingerprint>,
    now: &BTreeMap<String, Fingerprint>,
    what: &str,
) -> Vec<String> {
    let other = |(name, own): &(&String, &Fingerprint)| then.get(*name) != Some(*own);
    let mut words: Vec<String> = now
        .iter()
        .filter(other)
        .map(|(name, _)| format!("{what} {name}"))
        .collect();
    if then.keys().any(|name| !now.contains_key(name)) {
        words.push(format!("{what} a removed part"));
    }
    words
}

/// The text and the devices of each recipe: an administrator can add devices.
fn texts(recipes: &Recipes) -> BTreeMap<String, Fingerprint> {
    let device = |one: &Member| {
        let functions = one.functions.as_str();
        let (id, label, window, bars) = (one.id, &one.label, one.window_gib, &one.bars_gib);
        format!("\n{id} {label:?} {window} {bars:?} {functions}")
    };
    recipes
        .sourced()
        .map(|Sourced { recipe, text, .. }| {
            let devices: String = recipe.devices.iter().map(device).collect();
            let fingerprint = Fingerprint::of(&format!("{text}{devices}"));
            (recipe.name.clone(), fingerprint)
        })
        .collect()
}
