//! Compares the pieces of a definition with those of QEMU arguments.

use std::collections::BTreeSet;

use anyhow::{Context, Result};
use roxmltree::Document;

use super::argument::Argument;
use super::definition::Definition;
use super::found;
use super::piece::Piece;

/// The result of one comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// All planned pieces.
    pub planned: BTreeSet<Piece>,
    /// One line per piece that is missing or not planned.
    pub faults: Vec<String>,
}

/// Searches the arguments for each piece of `written`; `completed` is libvirt's text of the definition.
pub fn check(written: &str, completed: &str, arguments: &[Argument]) -> Result<Verdict> {
    let written = Document::parse(written).context("the definition is not XML")?;
    let completed = Document::parse(completed).context("libvirt's definition is not XML")?;
    let planned = Definition::new(&written, &completed).pieces()?;
    let made = found::pieces(arguments, &found::places(arguments)?)?;
    let missing = planned
        .difference(&made)
        .map(|piece| format!("not in the arguments: {piece}"));
    let unplanned = made
        .difference(&planned)
        .filter(|piece| piece.must_be_planned());
    let unplanned = unplanned.map(|piece| format!("in the arguments, but not planned: {piece}"));
    Ok(Verdict {
        faults: missing.chain(unplanned).collect(),
        planned,
    })
}

#[cfg(test)]
mod tests;
