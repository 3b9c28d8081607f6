//! `variantctl recipe list | show | check`.

use std::path::Path;

use serde_json::{Value, json};

use super::output;
use super::problem::Problem;
use planner::recipe::{DIRECTORY, LoadError, Prepare, Recipes, Sourced};

/// One line per recipe.
pub(super) fn list(recipes: &Recipes, as_json: bool) -> Result<(), Problem> {
    if as_json {
        let list: Value = recipes.sourced().map(entry).collect();
        return output::object(json!({"recipes": list}));
    }
    let head = ["NAME", "DEVICES", "PREPARED", "FROM", "FOR"]
        .map(str::to_owned)
        .to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head)
        .chain(recipes.sourced().map(row))
        .collect();
    output::text(&output::columns(&rows))
}

/// The text of one recipe as it is in force.
pub(super) fn show(recipes: &Recipes, name: &str, as_json: bool) -> Result<(), Problem> {
    let found = recipes
        .sourced()
        .find(|sourced| sourced.recipe.name == name);
    let sourced = found.ok_or_else(|| {
        let known: Vec<&str> = recipes.iter().map(|recipe| recipe.name.as_str()).collect();
        Problem::NotFound(format!(
            "recipe '{name}' not found; there are {}",
            known.join(", ")
        ))
    })?;
    if as_json {
        let mut value = entry(sourced);
        value["text"] = json!(sourced.text);
        return output::object(json!({"recipe": value}));
    }
    output::data(&sourced.text)
}

/// Prints that a file is a valid recipe, or its error with the line.
pub(super) fn check(file: &Path, as_json: bool) -> Result<(), Problem> {
    let sourced = settings::recipes::read(file).map_err(problem)?;
    if as_json {
        return output::object(json!({"recipe": entry(&sourced)}));
    }
    let recipe = &sourced.recipe;
    let printed = format!(
        "'{}' is recipe '{}' for {} devices; put it into '{DIRECTORY}' and reload the agent\n",
        file.display(),
        recipe.name,
        recipe.devices.len()
    );
    output::text(&printed)
}

/// An invalid recipe; a missing file is "not found".
pub(super) fn problem(error: LoadError) -> Problem {
    match &error {
        LoadError::Read { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
            Problem::NotFound(error.to_string())
        }
        _ => Problem::Failed(error.to_string()),
    }
}

fn row(sourced: &Sourced) -> Vec<String> {
    let recipe = &sourced.recipe;
    vec![
        recipe.name.clone(),
        recipe.devices.len().to_string(),
        prepared(recipe.prepare).to_owned(),
        sourced.origin.clone(),
        recipe.title.clone(),
    ]
}

fn entry(sourced: &Sourced) -> Value {
    let recipe = &sourced.recipe;
    let devices = recipe.devices.iter().map(
        |member| json!({"id": member.id, "label": member.label, "functions": member.functions}),
    );
    json!({
        "name": recipe.name,
        "title": recipe.title,
        "driver": recipe.driver,
        "prepare": prepared(recipe.prepare),
        "devices": devices.collect::<Value>(),
        "origin": sourced.origin,
    })
}

fn prepared(prepare: Prepare) -> &'static str {
    match prepare {
        Prepare::OnDefine => "on-define",
        Prepare::OnRequest => "on-request",
    }
}
