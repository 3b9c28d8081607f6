//! Requests of scripts in the emulated host to the lab (`/lab/outside`): changes of emulated hardware.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::config_edit::{Memory, Selector};
use super::state::State;

/// Answers each request in the shared folder.
pub fn serve(state: &State) -> Result<()> {
    for path in waiting(&state.share().join("request")) {
        let taken = path.with_extension("taken");
        // another command of the same lab may have answered it
        if fs::rename(&path, &taken).is_ok() {
            reply(state, &taken, &path.with_extension("answer"))?;
        }
    }
    Ok(())
}

fn reply(state: &State, request: &Path, file: &Path) -> Result<()> {
    let text = fs::read_to_string(request)
        .with_context(|| format!("cannot read '{}'", request.display()))?;
    let answer = match answer(state, &text) {
        Ok(text) => format!("0 {text}\n"),
        Err(error) => format!("1 {error:#}\n"),
    };
    // written to a temporary file, so that readers see a complete answer
    fs::write(request, answer)
        .and_then(|()| fs::rename(request, file))
        .with_context(|| format!("cannot write '{}'", file.display()))
}

fn waiting(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_none())
        .collect()
}

fn answer(state: &State, request: &str) -> Result<String> {
    let words: Vec<&str> = request.split_whitespace().collect();
    match words[..] {
        ["atomics", selector, bits] => atomics(state, selector, bits),
        _ => bail!("'{}' is no request", request.trim()),
    }
}

fn atomics(state: &State, selector: &str, bits: &str) -> Result<String> {
    let selector: Selector = selector.parse().map_err(anyhow::Error::msg)?;
    let atomics = bits.parse().map_err(anyhow::Error::msg)?;
    let qemu = state.qemu().context("the lab is not up")?;
    let value = Memory::open(qemu.pid())?.set_atomics(&selector, atomics)?;
    Ok(format!("DEVCAP2={value:#010x}"))
}
