//! `variantctl config show` and `check`: the configuration in force, with the file and line of each setting.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use super::output;
use super::problem::{Coded, Exit, Problem};
use super::recipe;
use settings::config::{Config, Files, Layers, Origin};

/// A setting, its value as TOML, and its line; without one it is a default.
struct Line<'a> {
    key: String,
    value: toml::Value,
    origin: Option<&'a Origin>,
}

/// Prints every setting with its file and line.
pub(super) fn show(file: &Path, as_json: bool) -> Result<(), Problem> {
    let layers = read(file)?;
    let (settings, devices) = lines(&layers)?;
    if as_json {
        let devices: Value = devices.iter().map(|device| to_json(device)).collect();
        let files: Vec<String> = layers
            .files
            .iter()
            .map(|f| f.display().to_string())
            .collect();
        let settings = to_json(&settings);
        return output::object(json!({"files": files, "settings": settings, "devices": devices}));
    }
    let devices = devices
        .iter()
        .map(|device| format!("\n[[device]]\n{}", text(device)));
    output::text(&(text(&settings) + &devices.collect::<String>()))
}

/// Prints that the files have no mistake, or each mistake.
pub(super) fn check(file: &Path, recipes: &Path, as_json: bool) -> Result<(), Problem> {
    let layers = read(file)?;
    let extended =
        settings::recipes::load(recipes).and_then(|r| r.extended(&layers.config.devices));
    extended.map_err(recipe::problem)?;
    let files: Vec<String> = layers
        .files
        .iter()
        .map(|f| f.display().to_string())
        .collect();
    if as_json {
        return output::object(json!({"files": files}));
    }
    match files.is_empty() {
        true => output::text("no configuration file: the defaults are in force\n"),
        false => output::text(
            &files
                .iter()
                .map(|f| format!("'{f}' has no mistake\n"))
                .collect::<String>(),
        ),
    }
}

fn read(file: &Path) -> Result<Layers, Problem> {
    Layers::read(&Files::around(file)).map_err(|errors| {
        let sentences: Vec<String> = errors.iter().map(ToString::to_string).collect();
        let sentences = sentences.join("\n");
        // The first mistake is of the file with the lowest priority.
        match errors.first() {
            Some(error) => Problem::Coded(Exit::Failed, Coded::new(error.code(), sentences)),
            None => Problem::Failed(sentences),
        }
    })
}

type Settings<'a> = (Vec<Line<'a>>, Vec<Vec<Line<'a>>>);

/// The settings, and those of each device.
fn lines(layers: &Layers) -> Result<Settings<'_>, Problem> {
    let failed = |error: toml::ser::Error| Problem::Failed(error.to_string());
    let mut settings = toml::Table::try_from(&layers.config).map_err(failed)?;
    settings.remove(Config::DEVICE);
    let devices = layers
        .config
        .devices
        .iter()
        .zip(&layers.devices)
        .map(|(device, origins)| {
            Ok(with(
                toml::Table::try_from(device).map_err(failed)?,
                origins,
            ))
        });
    let devices: Result<_, Problem> = devices.collect();
    Ok((with(settings, &layers.origins), devices?))
}

fn with(table: toml::Table, origins: &BTreeMap<String, Origin>) -> Vec<Line<'_>> {
    let line = |(key, value): (String, _)| Line {
        origin: origins.get(&key),
        key,
        value,
    };
    table.into_iter().map(line).collect()
}

fn text(lines: &[Line<'_>]) -> String {
    let row = |line: &Line<'_>| {
        let origin = line
            .origin
            .map_or("default".to_owned(), ToString::to_string);
        vec![
            format!("{} = {}", line.key, line.value),
            format!("# {origin}"),
        ]
    };
    output::columns(&lines.iter().map(row).collect::<Vec<_>>())
}

fn to_json(lines: &[Line<'_>]) -> Value {
    let one =
        |line: &Line<'_>| json!({"key": line.key, "value": line.value, "origin": line.origin});
    lines.iter().map(one).collect()
}
