//! The lists of devices and ids that recipes cover, published for the hook.
//!
//! `devices` in the run directory has one address a line, `ids` one PCI id. The hook reads them to recognise unrelated
//! guests without contacting the agent. By its id it recognises a device that appeared after `devices` was written.

use std::collections::BTreeSet;
use std::path::Path;

use hooks::relevance::MAX_LIST;
use kernel_glue::device::Device;
use kernel_glue::host::Host;
use thiserror::Error;

use crate::context::Context;
use domain::refusal::Refusal;
use planner::recipe::{Functions, Prepare, Recipe, Recipes};
use settings::file;

/// The hook's lists could not be published.
#[derive(Debug, Error)]
pub enum PublishError {
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] Refusal),
    /// The file cannot be written.
    #[error("cannot write '{path}': {why}")]
    Write {
        /// The file.
        path: String,
        /// Why.
        why: std::io::Error,
    },
}

/// Writes both lists into the run directory; returns how many devices are covered.
///
/// # Errors
/// When the host cannot be read or a file cannot be written.
pub fn publish(context: &Context, run: &Path) -> Result<usize, PublishError> {
    update(&context.host()?, &context.rules().recipes, run)
}

/// Like [`publish`], for a host that was just read.
///
/// # Errors
/// A file cannot be written.
pub fn update(host: &Host, recipes: &Recipes, run: &Path) -> Result<usize, PublishError> {
    let lines = devices(host, recipes);
    write(&run.join("ids"), &ids(recipes))?;
    write(&run.join("devices"), &lines)?;
    Ok(lines.lines().count())
}

/// Replaces a file that the hook reads, if its text has changed.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), PublishError> {
    if file::read(path).is_ok_and(|old| old == text) {
        return Ok(());
    }
    file::replace_up_to(MAX_LIST, path, text, 0o644).map_err(|why| PublishError::Write {
        path: path.display().to_string(),
        why,
    })
}

fn devices(host: &Host, recipes: &Recipes) -> String {
    let due = |device: &&Device| recipes.for_device(device).is_some_and(is_due);
    let devices = host.devices.values().filter(due);
    devices
        .map(|device| format!("{}\n", device.address))
        .collect()
}

/// Ids, with the kind of function unless physical; the hook reads them.
fn ids(recipes: &Recipes) -> String {
    let members = recipes.iter().filter(|recipe| is_due(recipe));
    let members = members.flat_map(|recipe| &recipe.devices);
    let ids: BTreeSet<String> = members
        .map(|member| match member.functions {
            Functions::Physical => format!("{}\n", member.id),
            other => format!("{} {}\n", member.id, other.as_str()),
        })
        .collect();
    ids.into_iter().collect()
}

/// Whether guests with its devices are prepared without a request.
fn is_due(recipe: &Recipe) -> bool {
    recipe.prepare == Prepare::OnDefine
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::*;
    use crate::fixture::{GPU, NIC, context, host};
    use settings::config::Config;

    #[test]
    fn only_devices_with_a_recipe_are_listed() {
        let (directory, context) = context(Config::default());
        assert_eq!(publish(&context, directory.path()).expect("published"), 1);
        let text = std::fs::read_to_string(directory.path().join("devices"));
        assert_eq!(text.expect("list"), format!("{GPU}\n"));
    }

    #[test]
    fn the_ids_of_recipes_that_prepare_on_request_are_not_listed() {
        let (directory, context) = context(Config::default());
        publish(&context, directory.path()).expect("published");
        let ids = fs::read_to_string(directory.path().join("ids")).expect("ids");
        assert!(ids.lines().any(|id| id == "10de:2342"), "{ids}");
        let on_request = context.rules().recipes.clone();
        let on_request = on_request.iter().find(|recipe| !is_due(recipe));
        let other = on_request.map(|recipe| recipe.devices[0].id.to_string());
        assert!(other.is_none_or(|id| !ids.contains(&id)), "{ids}");
    }

    #[test]
    fn an_unchanged_list_is_not_written_again() {
        let (directory, context) = context(Config::default());
        let publish = |host| update(&host, &context.rules().recipes, directory.path());
        let inode = || fs::metadata(directory.path().join("devices")).map(|meta| meta.ino());
        publish(host()).expect("published");
        let first = inode().expect("list");
        publish(host()).expect("published");
        assert_eq!(inode().expect("list"), first);
        let mut without = host();
        without
            .devices
            .retain(|_, device| device.address.to_string() == NIC);
        assert_eq!(publish(without).expect("published"), 0);
        assert_ne!(inode().expect("list"), first);
    }
}
