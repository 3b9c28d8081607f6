//! Runs whole processes from start to end, with their output.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Another tool or a privilege is missing: the row is skipped, which is not a failure.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unavailable(pub(crate) String);

/// A release binary of variantd that tests/bench/run installed.
pub(crate) fn binary(name: &str) -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("installed");
    let path = path.join(name);
    if !path.exists() {
        bail!("'{}' is not built: run tests/bench/run", path.display());
    }
    Ok(path)
}

/// The program of another tool, or the reason why it is missing.
pub(crate) fn rival(name: &str, package: &str) -> Result<PathBuf> {
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&folders).chain(["/usr/sbin".into()]);
    let mut found = folders.map(|folder| folder.join(name));
    let found = found.find(|path| path.exists());
    Ok(
        found
            .ok_or_else(|| Unavailable(format!("no '{name}': install the package '{package}'")))?,
    )
}

/// The first line of a program's version output.
pub(crate) fn version(program: &str, argument: &str) -> Option<String> {
    let printed = Command::new(program).arg(argument).output().ok()?;
    let text = [printed.stdout, printed.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().next().map(str::to_owned)
}

/// Runs a command to its end with `input` as its standard input, and returns its time.
pub(crate) fn run(command: &mut Command, input: Option<&Path>) -> Result<(Output, Duration)> {
    let input = match input {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    };
    command
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let start = Instant::now();
    let child = command.spawn();
    let child = child.with_context(|| format!("cannot run {command:?}"))?;
    let output = child.wait_with_output()?;
    Ok((output, start.elapsed()))
}

/// The same for one that must succeed; returns its output.
pub(crate) fn says(command: &mut Command, input: Option<&Path>) -> Result<(String, Duration)> {
    let (output, time) = run(command, input)?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        bail!(
            "{command:?} ends with {}: {}",
            output.status,
            complaint.trim()
        );
    }
    Ok((String::from_utf8(output.stdout)?, time))
}
