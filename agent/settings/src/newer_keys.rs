//! Keys of configuration and recipes that variantd 0.1 does not know. It does not start with a file that has one.

use std::path::Path;

use planner::recipe::LoadError;
use planner::toml_text::{self, TomlError};
use thiserror::Error;
use toml::Table;
use toml::de::{DeTable, DeValue};

use crate::config::{ConfigError, Files};
use crate::{file, recipes};

/// Keys of variantd.conf since 0.2, each with the sections that it is in.
const CONFIG: [&[&str]; 3] = [
    &["device", "bars_gib"],
    &["device", "bind_seconds"],
    &["device", "functions"],
];
/// The same of a recipe.
const RECIPE: [&[&str]; 6] = [
    &["device", "bars_gib"],
    &["device", "bind_seconds"],
    &["device", "functions"],
    &["egm"],
    &["initiators", "lower_unreachable_to"],
    &["numa"],
];

/// A key that 0.1 does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewerKey {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `device.functions`.
    pub key: String,
}

/// A file cannot be searched.
#[derive(Debug, Error)]
pub enum SearchError {
    /// A file of the configuration.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A recipe.
    #[error(transparent)]
    Recipe(#[from] LoadError),
    /// The text is not TOML.
    #[error(transparent)]
    Text(#[from] TomlError),
}

/// Such keys in the configuration, its drop-ins, and the recipes beside it.
///
/// # Errors
/// A file cannot be read, or is not TOML.
pub fn find(config: &Path) -> Result<Vec<NewerKey>, SearchError> {
    let mut found = Vec::new();
    for path in Files::around(config).found()? {
        found.extend(of_file(&path, &CONFIG)?);
    }
    for path in recipes::files(&config.with_file_name("recipes.d"))? {
        found.extend(of_file(&path, &RECIPE)?);
    }
    Ok(found)
}

/// A missing file has no keys.
fn of_file(path: &Path, keys: &[&[&str]]) -> Result<Vec<NewerKey>, SearchError> {
    let name = path.display().to_string();
    match file::read(path) {
        Ok(text) => Ok(of_text(&name, &text, keys)?),
        Err(why) if why.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(why) => Err(ConfigError::Read { file: name, why }.into()),
    }
}

fn of_text(name: &str, text: &str, keys: &[&[&str]]) -> Result<Vec<NewerKey>, TomlError> {
    // For the error with its line.
    toml_text::read::<Table>(name, text)?;
    let table = DeTable::parse(text).map(toml::Spanned::into_inner);
    let table = table.unwrap_or_default();
    let mut found = Vec::new();
    for path in keys {
        for at in places(&table, path) {
            found.push(NewerKey {
                file: name.to_owned(),
                line: toml_text::line(text, at),
                key: path.join("."),
            });
        }
    }
    found.sort_by_key(|key| key.line);
    Ok(found)
}

/// The offsets of a key: one for each section of its name.
fn places(table: &DeTable<'_>, path: &[&str]) -> Vec<usize> {
    let Some((name, rest)) = path.split_first() else {
        return Vec::new();
    };
    let Some((key, value)) = table.iter().find(|(key, _)| key.get_ref() == name) else {
        return Vec::new();
    };
    match (value.get_ref(), rest) {
        (_, []) => vec![key.span().start],
        (DeValue::Table(inner), rest) => places(inner, rest),
        (DeValue::Array(items), rest) => {
            let tables = items.iter().filter_map(|item| match item.get_ref() {
                DeValue::Table(inner) => Some(inner),
                _ => None,
            });
            tables.flat_map(|inner| places(inner, rest)).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;

    use planner::recipe::Recipe;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::config::Config;

    /// Each section with the keys that 0.1.0 reads in it (agent/src/recipe/schema.rs of that version).
    const OLD_RECIPE: [(&str, &str); 12] = [
        (
            "",
            "name title driver prepare migrates needs_reset bind_seconds device guest initiators placement expander smmu \
             iommufd window acpi_table atomics reset",
        ),
        ("device", "id label window_gib"),
        ("guest", "arch machine driver_uses address_bits"),
        ("initiators", "cells raise_ten_to cpu_distance fallback"),
        ("placement", "own_root_port switch link"),
        ("expander", "machine per"),
        ("smmu", "need attributes ats ril ssidsize oas cmdqv"),
        ("window", "machine minimum_gib"),
        ("acpi_table", "path"),
        ("atomics", "need widths any otherwise"),
        ("reset", "ids fault source"),
        ("initiators.fallback", "same_device other_device cpu"),
    ];
    const OLD_CONFIG: [(&str, &str); 2] = [
        (
            "",
            "prepare repair release verify allow_group stop_services snapshot_mode idle_exit device",
        ),
        ("device", "id recipe label window_gib"),
    ];
    const ARRAYS: [&str; 4] = ["device", "guest", "acpi_table", "reset"];

    /// The keys of a section by the error about one that does not exist.
    fn keys_of<T: DeserializeOwned>(section: &str) -> BTreeSet<String> {
        let head = match section {
            "" => String::new(),
            section if ARRAYS.contains(&section) => format!("[[{section}]]\n"),
            section => format!("[{section}]\n"),
        };
        let error = toml::from_str::<T>(&format!("{head}no_such_key = 1\n")).err();
        let error = error.expect("an unknown key").message().to_owned();
        let (_, expected) = error.split_once("expected ").expect("the known keys");
        let names = expected.split('`').skip(1).step_by(2);
        names.map(str::to_owned).collect()
    }

    fn compare<T: DeserializeOwned>(old: &[(&str, &str)], newer: &[&[&str]]) {
        let newer: BTreeSet<String> = newer.iter().map(|path| path.join(".")).collect();
        let mut found = BTreeSet::new();
        for (section, old) in old {
            let old: BTreeSet<&str> = old.split_whitespace().collect();
            let dot = if section.is_empty() { "" } else { "." };
            for key in keys_of::<T>(section) {
                if !old.contains(key.as_str()) {
                    found.insert(format!("{section}{dot}{key}"));
                }
            }
        }
        assert_eq!(found, newer);
    }

    #[test]
    fn every_key_that_0_1_does_not_know_is_listed() {
        compare::<Recipe>(&OLD_RECIPE, &RECIPE);
        compare::<Config>(&OLD_CONFIG, &CONFIG);
    }

    #[test]
    fn newer_keys_of_configuration_drop_ins_and_recipes_are_found_with_their_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("written");
        };
        let config = folder.path().join("variantd.conf");
        assert_eq!(find(&config).expect("no file"), []);
        file("variantd.conf", "repair = true\n");
        file(
            "variantd.conf.d/a.conf",
            "[[device]]\nid = \"10de:1\"\n[[device]]\nid = \"10de:2\"\nfunctions = \"any\"\n",
        );
        file("recipes.d/a.toml", "name = \"a\"\n\n[egm]\nneed = \"no\"\n");
        file("recipes.d/b.toml", "[initiators]\ncells = 8\n");
        let found = find(&config).expect("readable");
        let found: Vec<_> = found.iter().map(|key| (&*key.key, key.line)).collect();
        assert_eq!(found, [("device.functions", 5), ("egm", 3)]);
        file("recipes.d/b.toml", "[initiators\n");
        let error = find(&config).expect_err("not TOML").to_string();
        assert!(error.contains("b.toml', line 1"), "{error}");
    }
}
