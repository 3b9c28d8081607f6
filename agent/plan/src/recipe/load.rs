//! Recipes of an administrator over the shipped ones.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use kernel_glue::id::PciId;
use thiserror::Error;

use super::{Functions, Recipe, Recipes, Sourced};
use crate::toml_text::TomlError;

/// The directory of an administrator's recipes.
pub const DIRECTORY: &str = "/etc/variantd/recipes.d";

/// Most files that are read.
pub const MAX_FILES: usize = 256;

/// Recipes cannot be used.
#[derive(Debug, Error)]
pub enum LoadError {
    /// A file or the directory cannot be read.
    #[error("cannot read '{path}': {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A recipe is not valid.
    #[error(transparent)]
    Meaning(#[from] TomlError),
    /// The name in the file differs from the file's name.
    #[error("'{path}': the recipe's name is '{name}', so the file's must be '{name}.toml'")]
    Name {
        /// The file.
        path: String,
        /// The recipe's name.
        name: String,
    },
    /// An empty file, which `recipe show NAME > NAME.toml` causes: the shell empties the file before the command runs.
    #[error("'{path}' is empty: {}", empty_hint(path, *shipped))]
    Empty {
        /// The file.
        path: String,
        /// A shipped recipe has this name.
        shipped: bool,
    },
    /// One device in two recipes.
    #[error("device '{id}' is in recipe '{first}' and in '{second}': remove it from one")]
    Overlap {
        /// The device's id.
        id: String,
        /// One recipe.
        first: String,
        /// The other.
        second: String,
    },
    /// A device of the configuration names an unknown recipe.
    #[error("device '{id}' names the unknown recipe '{recipe}'; did you mean '{}'?", hint.as_deref().unwrap_or("nvidia-grace"))]
    NoRecipe {
        /// The device's id.
        id: String,
        /// The recipe's name.
        recipe: String,
        /// The nearest name.
        hint: Option<String>,
    },
    /// More files than the limit.
    #[error("'{0}' has more than {MAX_FILES} recipes")]
    TooMany(String),
}

impl Recipes {
    /// The shipped recipes with `others`, which replace those with the same name.
    ///
    /// # Errors
    /// When two recipes have one device.
    pub fn with(others: Vec<Sourced>) -> Result<Self, LoadError> {
        let mut recipes = Self::shipped()?;
        for sourced in others {
            recipes
                .0
                .retain(|other| other.recipe.name != sourced.recipe.name);
            recipes.0.push(sourced);
        }
        recipes.0.sort_by(|a, b| a.recipe.name.cmp(&b.recipe.name));
        recipes.overlap().map_or(Ok(recipes), Err)
    }

    pub(super) fn overlap(&self) -> Option<LoadError> {
        let mut seen: BTreeMap<PciId, Vec<(Functions, &str)>> = BTreeMap::new();
        for recipe in self.iter() {
            for member in &recipe.devices {
                let others = seen.entry(member.id).or_default();
                let same = others
                    .iter()
                    .find(|(functions, _)| functions.overlap(member.functions));
                if let Some((_, first)) = same {
                    return Some(LoadError::Overlap {
                        id: member.id.to_string(),
                        first: (*first).to_owned(),
                        second: recipe.name.clone(),
                    });
                }
                others.push((member.functions, &recipe.name));
            }
        }
        None
    }
}

impl Sourced {
    /// The recipe of a file with this text; the file's name must be the recipe's.
    ///
    /// # Errors
    /// When the file is empty or has another name, or the text is not valid.
    pub fn parse(path: &Path, text: String) -> Result<Self, LoadError> {
        let name = path.display().to_string();
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        if text.trim().is_empty() {
            let shipped = Recipes::shipped()?;
            return Err(LoadError::Empty {
                path: name,
                shipped: shipped.iter().any(|one| Some(one.name.as_str()) == stem),
            });
        }
        let recipe = Recipe::parse(&name, &text)?;
        if stem != Some(&recipe.name) {
            return Err(LoadError::Name {
                path: name,
                name: recipe.name,
            });
        }
        Ok(Self {
            recipe,
            origin: name,
            text,
        })
    }
}

/// How to fix an empty file.
fn empty_hint(path: &str, shipped: bool) -> String {
    let name = Path::new(path).file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    match shipped {
        true => format!(
            "the shell empties it before 'recipe show' reads it; run 'variantctl recipe show --shipped {name} > \
             {path}', or remove it"
        ),
        false => "remove it, or put a recipe into it".to_owned(),
    }
}
