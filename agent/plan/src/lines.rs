//! The difference of two texts, line by line.
//!
//! `similar::TextDiff` would be compiled here with all algorithms of `similar`, for many types: nearly a quarter of the code of this
//! crate before optimisation.

use similar::DiffOp;
use similar::algorithms::{Capture, Compact, Replace, myers};

/// The lines of a text, each with its line end.
pub(crate) fn of(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// The operations that turn the old lines into the new ones (Myers' algorithm).
pub(crate) fn diff(old: &[&str], new: &[&str]) -> Vec<DiffOp> {
    let mut found = Compact::new(Replace::new(Capture::new()), old, new);
    let Ok(()) = myers::diff(&mut found, old, 0..old.len(), new, 0..new.len());
    found.into_inner().into_inner().into_ops()
}
