//! The expected results of the rows, `tests/bench/expected.toml`: `--check` compares with them, `--expect` writes them.
//!
//! A ratio of times differs between machines, and instructions only between processors and compilers, so each has its tolerance.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::measure::digits;
use crate::row::{Found, Row};

/// A ratio of times may be larger than the expected one by this factor.
const RATIO: f64 = 1.25;
/// The same for instructions.
const INSTRUCTIONS: f64 = 1.1;

/// The comment at the start of the file.
const HEAD: &str =
    "# Results that `tests/bench/run --check` expects. `tests/bench/run --expect` writes them.\n";

/// The expected results by row.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expected {
    /// Ratios of times.
    ratio: BTreeMap<String, f64>,
    /// Instructions of variantd.
    instructions: BTreeMap<String, u64>,
    /// Whether another result meets its target.
    met: BTreeMap<String, bool>,
}

impl Expected {
    /// Reads the table.
    pub(crate) fn read() -> Result<Self> {
        let path = path();
        let text = fs::read_to_string(&path)?;
        toml::from_str(&text).with_context(|| path.display().to_string())
    }

    /// Replaces the results of these rows.
    pub(crate) fn replace(&mut self, rows: &[Row]) {
        for row in rows {
            let name = name(row);
            match &row.found {
                Found::Pair { ratio, .. } => {
                    let ratio = (ratio * 100.0).round() / 100.0;
                    self.ratio.insert(name, ratio);
                }
                Found::Instructions(counted) => {
                    self.instructions.insert(name, counted.ours);
                }
                Found::Words { met, .. } => {
                    self.met.insert(name, *met);
                }
                Found::Absent(_) | Found::Failed(_) => {}
            }
        }
    }

    /// Writes the table.
    pub(crate) fn write(&self) -> Result<()> {
        let text = toml::to_string(self)?;
        Ok(fs::write(path(), format!("{HEAD}\n{text}"))?)
    }

    /// How the row is worse than expected; `None` where it is not, or was not measured here.
    pub(crate) fn complaint(&self, row: &Row) -> Option<String> {
        let name = name(row);
        let worse = match &row.found {
            Found::Absent(_) => return None,
            Found::Failed(why) => format!("failed: {why}"),
            Found::Pair { ratio, .. } => match self.ratio.get(&name) {
                Some(expected) if *ratio <= expected * RATIO => return None,
                Some(expected) => format!("ratio {} instead of {expected}", digits(*ratio)),
                None => absent(),
            },
            Found::Instructions(counted) => match self.instructions.get(&name) {
                Some(expected) if counted.ours as f64 <= *expected as f64 * INSTRUCTIONS => {
                    return None;
                }
                Some(expected) => format!("{} instructions instead of {expected}", counted.ours),
                None => absent(),
            },
            Found::Words { text, met } => match self.met.get(&name) {
                Some(expected) if met >= expected => return None,
                Some(_) => format!("misses its target '{}': {text}", row.reach),
                None => absent(),
            },
        };
        Some(format!("{name}: {worse}"))
    }
}

fn absent() -> String {
    "is not in the table: measure it with --expect".to_owned()
}

fn name(row: &Row) -> String {
    match &*row.beside {
        "-" => row.work.clone(),
        beside => format!("{}, compared with {beside}", row.work),
    }
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("expected.toml")
}
