//! The list of host devices that some recipe covers, published for the hook.
//!
//! `devices` in the run directory, one address a line: the hook reads it to know, without asking the
//! agent, which guests are none of its business.

use std::path::Path;

use kernel_glue::device::Device;
use kernel_glue::host::Host;
use thiserror::Error;

use crate::file;
use crate::recipe::{Prepare, Recipes};
use crate::refusal::Refusal;
use crate::site::Site;

/// What the hook is to read could not be published.
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

/// Writes the list into the run directory; returns how many devices are on it.
///
/// # Errors
/// When the host cannot be read or the file cannot be written.
pub fn publish(site: &Site, run: &Path) -> Result<usize, PublishError> {
    let lines = lines(&site.host()?, &site.rules().recipes);
    write(&run.join("devices"), &lines)?;
    Ok(lines.lines().count())
}

/// Replaces a file that the hook reads.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), PublishError> {
    file::replace(path, text, 0o644).map_err(|why| PublishError::Write {
        path: path.display().to_string(),
        why,
    })
}

fn lines(host: &Host, recipes: &Recipes) -> String {
    let due = |device: &&Device| {
        let recipe = recipes.for_device(device);
        recipe.is_some_and(|recipe| recipe.prepare == Prepare::OnDefine)
    };
    let devices = host.devices.values();
    devices
        .filter(due)
        .map(|device| format!("{}\n", device.address))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::fixture::{GPU, site};

    #[test]
    fn only_devices_with_a_recipe_are_listed() {
        let (directory, site) = site(Config::default());
        assert_eq!(publish(&site, directory.path()).expect("published"), 1);
        let text = std::fs::read_to_string(directory.path().join("devices"));
        assert_eq!(text.expect("list"), format!("{GPU}\n"));
    }
}
