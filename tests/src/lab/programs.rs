//! Programs of this repository that are in no package, and the test `protocol` of their crate, whose client calls them, for scenarios.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::command;
use super::progress::Step;

/// The test of a crate with the client of its protocol.
const CLIENT: &str = "protocol";

/// A message of cargo (`--message-format=json`), as far as it is used.
#[derive(Deserialize)]
struct Message {
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
}

/// Builds each crate's programs and its test `protocol`; the files have no debug information, so that they fit into the emulated host.
pub fn build(crates: &[String]) -> Result<Vec<PathBuf>> {
    let mut all = Vec::new();
    for name in crates {
        let step = Step::begin(format!("building the programs of '{name}'"));
        let mut cargo = Command::new("cargo");
        cargo.args(["test", "--quiet", "--locked", "--no-run"]);
        cargo.args(["--message-format=json", "--package", name, "--test", CLIENT]);
        cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        let built = executables(&command::output(&mut cargo)?);
        if !built.iter().any(|(target, _)| target == CLIENT) || built.len() < 2 {
            bail!("crate '{name}' has no program, or no test '{CLIENT}'");
        }
        for (target, path) in built {
            all.push(stripped(&target, &path)?);
        }
        step.done();
    }
    Ok(all)
}

/// Name and path of each executable in cargo's messages.
fn executables(messages: &str) -> Vec<(String, PathBuf)> {
    let read = messages.lines().filter_map(|line| {
        let message: Message = serde_json::from_str(line).ok()?;
        Some((message.target?.name, message.executable?))
    });
    read.collect()
}

/// A copy without debug information, beside the program.
fn stripped(name: &str, program: &Path) -> Result<PathBuf> {
    let folder = program.with_file_name("for-the-lab");
    fs::create_dir_all(&folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    let copy = folder.join(name);
    command::run(Command::new("strip").arg("-o").arg(&copy).arg(program))?;
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn executables_are_read_from_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"ask"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"variantd-kubevirt"},"executable":"/t/debug/variantd-kubevirt"}
{"reason":"compiler-artifact","target":{"name":"protocol"},"executable":"/t/debug/deps/protocol-1"}
{"reason":"build-finished","success":true}
warning: not a message"#;
        let found = executables(messages);
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["variantd-kubevirt", "protocol"]);
    }
}
