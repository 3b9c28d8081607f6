//! Devices that an administrator adds to a recipe: `[[device]]` in variantd.conf.
//!
//! For an id that is newer than the recipe. For everything else, write a recipe file.

use kernel_glue::id::PciId;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

use super::load::LoadError;
use super::schema::BIND;
use super::{Functions, Member, Recipes};
use crate::toml_text;

/// One such device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Extra {
    /// Vendor and device id.
    pub id: PciId,
    /// Name of the recipe that it joins.
    pub recipe: String,
    /// A name for users.
    #[serde(default)]
    pub label: String,
    /// Which functions with this id join.
    #[serde(default)]
    pub functions: Functions,
    /// 64-bit MMIO space of its BARs in a guest, in GiB, if sysfs does not show all of them.
    #[serde(default)]
    pub window_gib: u64,
    /// The BARs of at least 1 GiB, in GiB; by default two BARs of half the window each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bars_gib: Vec<u64>,
    /// Timeout of the driver's probe for this device, 10 to 600 s, if it needs longer than the recipe's others.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        deserialize_with = "in_range"
    )]
    pub bind_seconds: Option<u64>,
}

fn in_range<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    let seconds = u64::deserialize(from)?;
    match BIND.contains(&seconds) {
        true => Ok(Some(seconds)),
        false => {
            let (least, most) = (BIND.start(), BIND.end());
            let text = format!("bind_seconds is {seconds}, it must be {least} to {most}");
            Err(D::Error::custom(text))
        }
    }
}

impl Recipes {
    /// The recipes with more devices.
    ///
    /// # Errors
    /// When a device names an unknown recipe, or a recipe already has it.
    pub fn extended(mut self, extras: &[Extra]) -> Result<Self, LoadError> {
        for extra in extras {
            self.add(extra)?;
        }
        self.overlap().map_or(Ok(self), Err)
    }

    fn add(&mut self, extra: &Extra) -> Result<(), LoadError> {
        let position = self.iter().position(|recipe| recipe.name == extra.recipe);
        let position = position.ok_or_else(|| {
            let names = self.iter().map(|recipe| recipe.name.as_str());
            LoadError::NoRecipe {
                id: extra.id.to_string(),
                recipe: extra.recipe.clone(),
                hint: toml_text::nearest(&extra.recipe, names),
            }
        })?;
        self.0[position].recipe.devices.push(Member {
            id: extra.id,
            label: extra.label.clone(),
            functions: extra.functions,
            window_gib: extra.window_gib,
            bars_gib: extra.bars_gib.clone(),
            bind_seconds: extra.bind_seconds,
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn extra(id: &str, recipe: &str) -> Extra {
        Extra {
            id: id.parse().expect("id"),
            recipe: recipe.to_owned(),
            label: "Vera Rubin".to_owned(),
            functions: Functions::Physical,
            window_gib: 1024,
            bars_gib: Vec::new(),
            bind_seconds: None,
        }
    }

    #[test]
    fn a_device_joins_a_recipe() {
        let recipes = Recipes::shipped().expect("recipes");
        let recipes = recipes
            .extended(&[extra("10de:3041", "nvidia-grace")])
            .expect("extended");
        let grace = recipes
            .iter()
            .find(|recipe| recipe.name == "nvidia-grace")
            .expect("grace");
        let id = "10de:3041".parse().expect("id");
        let mut members = grace.devices.iter();
        let member = members.find(|member| member.id == id).expect("member");
        assert_eq!(
            (member.label.as_str(), member.window_gib),
            ("Vera Rubin", 1024)
        );
    }

    #[test]
    fn an_unknown_recipe_and_a_device_in_two_recipes_are_named() {
        for (id, recipe, words) in [
            ("10de:3041", "nvidia-grac", "did you mean 'nvidia-grace'"),
            (
                "10de:2342",
                "nvidia-x86",
                "'nvidia-grace' and in 'nvidia-x86'",
            ),
        ] {
            let recipes = Recipes::shipped().expect("recipes");
            let error = recipes
                .extended(&[extra(id, recipe)])
                .expect_err("refused")
                .to_string();
            assert!(error.contains(id) && error.contains(words), "{error}");
        }
    }
}
