//! Recipes: what one family of guest drivers needs, as data.
//!
//! Shipped recipes are compiled in. A file in `/etc/variantd/recipes.d` with the same name replaces a shipped one, a file with
//! another name adds one. variantd.recipe(5) is the manual.

mod check;
mod extra;
mod load;
mod schema;

use kernel_glue::device::Device;
use kernel_glue::host::Host;
use kernel_glue::id::PciId;

use crate::toml_text::{self, TomlError};
use domain::Domain;

pub use extra::Extra;
pub use load::{DIRECTORY, LoadError, MAX_FILES};
pub use schema::{
    AcpiTable, Atomics, Attributes, BIND, Egm, Expander, Fallback, Functions, Guest, Initiators,
    Member, Need, NumaRule, Otherwise, Per, Placement, Prepare, Recipe, ResetFault, Smmu, UNSAID,
    Window,
};

/// The recipes compiled in: file name and text.
const SHIPPED: [(&str, &str); 4] = [
    (
        "amd-instinct.toml",
        include_str!("../../../recipes/amd-instinct.toml"),
    ),
    ("mlx5.toml", include_str!("../../../recipes/mlx5.toml")),
    (
        "nvidia-grace.toml",
        include_str!("../../../recipes/nvidia-grace.toml"),
    ),
    (
        "nvidia-x86.toml",
        include_str!("../../../recipes/nvidia-x86.toml"),
    ),
];

/// All recipes in force, by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipes(Vec<Sourced>);

/// A recipe and its origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sourced {
    /// The recipe.
    pub recipe: Recipe,
    /// The file, or `shipped`.
    pub origin: String,
    /// The text it was read from.
    pub text: String,
}

impl Recipe {
    /// The entry for a domain's architecture and machine.
    #[must_use]
    pub fn guest(&self, domain: &Domain) -> Option<&Guest> {
        let arch = domain.arch.as_deref();
        let serves =
            |guest: &&Guest| Some(guest.arch.as_str()) == arch && guest.machine == domain.family();
        self.guests.iter().find(serves)
    }

    /// Reads a recipe from the TOML text of `file`.
    ///
    /// # Errors
    /// Names the file, the line and the key; for a value out of range the key and its range.
    pub fn parse(file: &str, text: &str) -> Result<Self, TomlError> {
        let recipe: Self = toml_text::read(file, text)?;
        match check::fault(&recipe) {
            Some(fault) => Err(TomlError {
                file: file.to_owned(),
                line: toml_text::line_of(text, &fault.place),
                reason: fault.reason,
            }),
            None => Ok(recipe),
        }
    }

    /// Whether its devices get a root port of their own: it says so, or needs AtomicOps, which work only there.
    #[must_use]
    pub fn own_root_port(&self) -> bool {
        self.placement.own_root_port || self.atomics.need != Need::Ignore
    }

    /// Its entry for a device: by id and kind of function.
    #[must_use]
    pub fn member(&self, device: &Device) -> Option<&Member> {
        let mut members = self.devices.iter();
        members.find(|member| member.id == device.id && member.functions.include(device))
    }

    /// True when it names the id, for any kind of function.
    #[must_use]
    pub fn names(&self, id: PciId) -> bool {
        self.devices.iter().any(|member| member.id == id)
    }

    /// The known reset fault of a device.
    #[must_use]
    pub fn reset_fault(&self, id: PciId) -> Option<&ResetFault> {
        self.resets.iter().find(|reset| reset.ids.contains(&id))
    }
}

impl Recipes {
    /// The recipes compiled in.
    ///
    /// # Errors
    /// When a shipped recipe is invalid: an error of the build, which a test finds.
    pub fn shipped() -> Result<Self, TomlError> {
        let read = |(file, text): &(&str, &str)| {
            let recipe = Recipe::parse(file, text)?;
            Ok(Sourced {
                recipe,
                origin: "shipped".to_owned(),
                text: (*text).to_owned(),
            })
        };
        Ok(Self(SHIPPED.iter().map(read).collect::<Result<_, _>>()?))
    }

    /// Recipes of these texts alone.
    #[cfg(any(test, feature = "fixture"))]
    pub fn of(texts: &[&str]) -> Self {
        let sourced = |text: &&str| Sourced {
            recipe: Recipe::parse("test.toml", text).expect("a recipe"),
            origin: "test".to_owned(),
            text: (*text).to_owned(),
        };
        Self(texts.iter().map(sourced).collect())
    }

    /// The recipe for a device.
    #[must_use]
    pub fn for_device(&self, device: &Device) -> Option<&Recipe> {
        self.iter().find(|recipe| recipe.member(device).is_some())
    }

    /// The devices of a host that a recipe covers, by address, each with its recipe.
    pub fn covered<'a>(&'a self, host: &'a Host) -> impl Iterator<Item = (&'a Device, &'a Recipe)> {
        let devices = host.devices.values();
        devices.filter_map(|device| Some((device, self.for_device(device)?)))
    }

    /// The recipe that names a virtual function's id, and is for physical functions with it.
    #[must_use]
    pub fn passing_over(&self, device: &Device) -> Option<&Recipe> {
        let uncovered = device.physical_function.is_some() && self.for_device(device).is_none();
        let mut recipes = self.iter().filter(|_| uncovered);
        recipes.find(|recipe| recipe.names(device.id))
    }

    /// The recipe that says how the driver of a device does atomic operations without AtomicOps to the root port, with that text.
    /// The recipe need not cover the device.
    #[must_use]
    pub fn otherwise(&self, id: PciId) -> Option<(&Recipe, &str)> {
        let named = |recipe| -> Option<(&Recipe, &str)> {
            let recipe: &Recipe = recipe;
            let mut others = recipe.atomics.otherwise.iter();
            let other = others.find(|other| other.ids.contains(&id))?;
            Some((recipe, other.means.as_str()))
        };
        self.iter().find_map(named)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Recipe> {
        self.0.iter().map(|sourced| &sourced.recipe)
    }

    /// All of them with their origin, by name.
    pub fn sourced(&self) -> impl Iterator<Item = &Sourced> {
        self.0.iter()
    }
}

#[cfg(test)]
mod pci_ids_test;
#[cfg(test)]
mod tests;
