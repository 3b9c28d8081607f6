//! Recipes: what one family of guest drivers needs, as data.
//!
//! A recipe file is TOML; an unknown key is an error that names file and line.

use kernel_glue::device::Device;
use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;
use serde::Deserialize;
use thiserror::Error;

/// What one family of guest drivers needs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Its name, which a file of the same name overrides.
    pub name: String,
    /// One line for people.
    pub title: String,
    /// The VFIO variant driver; hyphen or underscore is resolved on the host.
    pub driver: DriverName,
    /// When definitions are completed.
    pub prepare: Prepare,
    /// The devices it is for.
    #[serde(rename = "device")]
    pub devices: Vec<Member>,
    /// The guests it can serve.
    #[serde(rename = "guest")]
    pub guests: Vec<Guest>,
    /// Generic initiators.
    pub initiators: Initiators,
    /// Distances.
    pub distances: Distances,
    /// Where the guest sees the device.
    pub placement: Placement,
    /// The 64-bit MMIO window.
    pub window: Window,
}

/// When a definition is completed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prepare {
    /// As soon as it is defined.
    OnDefine,
    /// Only when somebody asks.
    OnRequest,
}

/// A device that the recipe is for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// Vendor and device id.
    pub id: PciId,
    /// The vendor's name for it.
    pub label: String,
    /// 64-bit MMIO that its BARs take in a guest, in GiB.
    pub window_gib: u64,
}

/// A kind of guest that the recipe can serve.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// libvirt's architecture name.
    pub arch: String,
    /// Family of machine types: `virt` or `q35`.
    pub machine: String,
    /// Whether a guest driver is known to use the pieces there.
    pub driver_uses: bool,
}

/// Generic-initiator cells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Initiators {
    /// Cells per device.
    pub cells: usize,
}

/// How host distances become guest distances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distances {
    /// What a host distance of 10 or less between different nodes becomes (QEMU takes 10 for local only).
    pub raise_ten_to: u8,
}

/// Where the guest sees the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Placement {
    /// Slot 0, function 0, no multifunction, on a root port that it shares with nothing.
    pub own_root_port: bool,
}

/// The 64-bit MMIO window.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Family of machine types on which it must be set.
    pub machine: String,
    /// Least size in GiB that the machine type takes.
    pub minimum_gib: u64,
}

/// All recipes in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipes(Vec<Recipe>);

/// A recipe cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("cannot read recipe '{file}': {reason}")]
pub struct RecipeError {
    /// The file.
    pub file: String,
    /// Where and why.
    pub reason: String,
}

impl Recipe {
    /// Reads a recipe from TOML text.
    ///
    /// # Errors
    /// Names the file, the line and the key.
    pub fn parse(file: &str, text: &str) -> Result<Self, RecipeError> {
        let error = |reason| RecipeError {
            file: file.to_owned(),
            reason,
        };
        toml::from_str(text).map_err(|e: toml::de::Error| error(e.to_string().trim().to_owned()))
    }

    /// Its entry for a device id.
    #[must_use]
    pub fn member(&self, id: PciId) -> Option<&Member> {
        self.devices.iter().find(|member| member.id == id)
    }
}

impl Recipes {
    /// The recipes compiled in.
    ///
    /// # Errors
    /// When a shipped recipe does not read: a fault of the build, found by its test.
    pub fn shipped() -> Result<Self, RecipeError> {
        let files = [(
            "nvidia-grace.toml",
            include_str!("../recipes/nvidia-grace.toml"),
        )];
        let recipes: Result<_, _> = files
            .iter()
            .map(|(file, text)| Recipe::parse(file, text))
            .collect();
        Ok(Self(recipes?))
    }

    /// The recipe for a device, by its id.
    #[must_use]
    pub fn for_device(&self, device: &Device) -> Option<&Recipe> {
        self.0
            .iter()
            .find(|recipe| recipe.member(device.id).is_some())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_recipes_read_and_cover_the_kernel_ids() {
        let recipes = Recipes::shipped().expect("shipped recipes");
        for id in [
            "10de:2342",
            "10de:2345",
            "10de:2348",
            "10de:2941",
            "10de:31c2",
        ] {
            let id = id.parse().expect("id");
            assert!(
                recipes.iter().any(|recipe| recipe.member(id).is_some()),
                "{id}"
            );
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_its_line() {
        let text =
            include_str!("../recipes/nvidia-grace.toml").replace("raise_ten_to", "raise_tem_to");
        let error = Recipe::parse("mine.toml", &text)
            .expect_err("unknown key")
            .to_string();
        assert!(
            error.contains("mine.toml") && error.contains("line") && error.contains("raise_tem_to"),
            "{error}"
        );
    }
}
