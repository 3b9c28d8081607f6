//! Reads the recipes of a directory over the shipped ones.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use kernel_glue::id::PciId;
use thiserror::Error;

use super::{Functions, Recipe, Recipes, Sourced};
use crate::toml_text::{MAX_BYTES, TomlError};

/// Where an administrator puts recipes.
pub const DIRECTORY: &str = "/etc/variantd/recipes.d";

/// Most files that are read.
const MAX_FILES: usize = 256;

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
    /// A recipe says something that has no meaning.
    #[error(transparent)]
    Meaning(#[from] TomlError),
    /// The name in the file is not the file's.
    #[error("'{path}': the recipe is called '{name}', so the file must be '{name}.toml'")]
    Name {
        /// The file.
        path: String,
        /// The recipe's name.
        name: String,
    },
    /// A file without a recipe, as `recipe show NAME > NAME.toml` leaves it: the shell empties it first.
    #[error("'{path}' is empty: {}", mend_empty(path, *shipped))]
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
    /// A device of the configuration is to join a recipe that there is not.
    #[error("device '{id}' is to join recipe '{recipe}', which there is not; did you mean '{}'?", hint.as_deref().unwrap_or("nvidia-grace"))]
    NoRecipe {
        /// The device's id.
        id: String,
        /// The recipe's name.
        recipe: String,
        /// The nearest name.
        hint: Option<String>,
    },
    /// More files than are read.
    #[error("'{0}' has more than {MAX_FILES} recipes")]
    TooMany(String),
}

impl Recipes {
    /// The shipped recipes with those of `directory` over them; a missing directory adds none.
    ///
    /// # Errors
    /// The first file that cannot be used; no recipe is dropped in silence.
    pub fn load(directory: &Path) -> Result<Self, LoadError> {
        let mut recipes = Self::shipped()?;
        for path in files(directory)? {
            let sourced = read(&path)?;
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

/// Reads one recipe file, whose name must be the recipe's.
///
/// # Errors
/// As [`Recipes::load`].
pub(super) fn read(path: &Path) -> Result<Sourced, LoadError> {
    let name = path.display().to_string();
    let failed = |source| LoadError::Read {
        path: name.clone(),
        source,
    };
    let limit = u64::try_from(MAX_BYTES).map_or(u64::MAX, |max| max + 1);
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(limit).read_to_string(&mut text))
        .map_err(failed)?;
    if text.trim().is_empty() {
        let stem = path.file_stem().and_then(|stem| stem.to_str());
        let shipped = Recipes::shipped()?;
        return Err(LoadError::Empty {
            path: name,
            shipped: shipped.iter().any(|one| Some(one.name.as_str()) == stem),
        });
    }
    let recipe = Recipe::parse(&name, &text)?;
    if path.file_stem().and_then(|stem| stem.to_str()) != Some(&recipe.name) {
        return Err(LoadError::Name {
            path: name,
            name: recipe.name,
        });
    }
    Ok(Sourced {
        recipe,
        origin: name,
        text,
    })
}

/// How to mend an empty file.
fn mend_empty(path: &str, shipped: bool) -> String {
    let name = Path::new(path).file_stem().unwrap_or_default();
    let name = name.to_string_lossy();
    match shipped {
        true => format!(
            "'recipe show' into it reads what the shell has just emptied; run 'variantctl recipe show --shipped {name} > \
             {path}', or remove it"
        ),
        false => "remove it, or put a recipe into it".to_owned(),
    }
}

impl Sourced {
    /// Reads one recipe file, as `variantctl recipe check` does.
    ///
    /// # Errors
    /// As [`Recipes::load`].
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        read(path)
    }
}

fn files(directory: &Path) -> Result<Vec<std::path::PathBuf>, LoadError> {
    let failed = |source| LoadError::Read {
        path: directory.display().to_string(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(failed)?,
    };
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            files.push(path);
        }
        if files.len() > MAX_FILES {
            return Err(LoadError::TooMany(directory.display().to_string()));
        }
    }
    files.sort();
    Ok(files)
}
