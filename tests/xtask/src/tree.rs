//! The files of the repository.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// The files that exist and that git tracks or does not ignore; with `patterns` only those that match one of them.
pub(crate) fn files(root: &Path, patterns: &[&str]) -> Result<Vec<PathBuf>> {
    let mut git = Command::new("git");
    git.args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "-z",
    ]);
    let output = git.args(patterns).current_dir(root).output();
    let output = output.context("cannot run git")?;
    ensure!(output.status.success(), "'git ls-files' fails");
    let names = String::from_utf8(output.stdout).context("names of files")?;
    let names = names.split('\0').filter(|name| !name.is_empty());
    // A file that is deleted but not yet committed is listed, too.
    let files = names.filter(|name| root.join(name).is_file());
    Ok(files.map(PathBuf::from).collect())
}
