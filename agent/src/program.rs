//! Finds our own programs that are not run by users.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The directory of installed packages.
const LIBEXEC: &str = "/usr/libexec/variantd";

/// One of our programs was not found.
#[derive(Debug, Error)]
pub enum ProgramError {
    /// The path of the running program is unknown, or its directory cannot be read.
    #[error("cannot find variantd's own programs: {0}")]
    Running(#[from] io::Error),
    /// It is in neither directory.
    #[error("neither '{}' nor '{}' exists; install the package again", beside.display(), installed.display())]
    Absent {
        /// Its path in a build tree.
        beside: PathBuf,
        /// Its path in a package.
        installed: PathBuf,
    },
}

/// The program of this name: beside the running one in a build tree, in libexec if installed.
///
/// # Errors
/// It is in neither directory.
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
    fn missing_program_is_reported_with_both_paths() {
        let printed = find("variantd-missing").expect_err("absent").to_string();
        assert!(
            printed.contains("/usr/libexec/variantd/variantd-missing"),
            "{printed}"
        );
        assert!(printed.ends_with("install the package again"), "{printed}");
    }
}
