//! Where programs of our own lie that nobody runs by hand.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// Where packages install them.
const LIBEXEC: &str = "/usr/libexec/variantd";

/// A program of ours cannot be found.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// The running program does not know where it is, or cannot look there.
    #[error("cannot look for our own programs: {0}")]
    Running(#[from] io::Error),
    /// It is in neither place.
    #[error("'{}' is not there, nor '{}': install the package again", beside.display(), installed.display())]
    Absent {
        /// Where it lies in a build's tree.
        beside: PathBuf,
        /// Where a package puts it.
        installed: PathBuf,
    },
}

/// The program of this name: beside the running one where both were built, in libexec where they are installed.
///
/// # Errors
/// When it is in neither place.
pub fn find(name: &str) -> Result<PathBuf, ProgramError> {
    let beside = std::env::current_exe()?.with_file_name(name);
    let installed = Path::new(LIBEXEC).join(name);
    for place in [&beside, &installed] {
        if place.try_exists()? {
            return Ok(place.clone());
        }
    }
    Err(ProgramError::Absent { beside, installed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_neither_place_is_named_with_both() {
        let said = find("variantd-nobody").expect_err("absent").to_string();
        assert!(
            said.contains("/usr/libexec/variantd/variantd-nobody"),
            "{said}"
        );
        assert!(said.ends_with("install the package again"), "{said}");
    }
}
