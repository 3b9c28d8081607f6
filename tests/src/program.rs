//! Paths of this workspace's programs, for tests of other packages.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The path of the program beside the folder of the running test; builds it if it is missing.
///
/// # Panics
/// When the build fails.
#[must_use]
pub fn built(package: &str, name: &str) -> PathBuf {
    let own = env::current_exe().expect("the path of this test");
    let folder = own.parent().and_then(Path::parent).expect("a folder");
    let path = folder.join(name);
    if !path.exists() {
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--locked", "--package", package]);
        cargo.args(["--bin", name]);
        cargo.args((!cfg!(debug_assertions)).then_some("--release"));
        assert!(cargo.status().expect("cargo runs").success());
    }
    path
}
