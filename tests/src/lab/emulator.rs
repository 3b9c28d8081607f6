//! The emulator that runs single programs for aarch64: that of Debian testing, since Debian 12's does not know openat2(2).

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::architecture::Architecture;
use super::cache::{Cache, Key, remove};
use super::debian::{self, Suite};
use super::progress::Step;

const PACKAGE: &str = "qemu-user";
/// Linked statically, so nothing else of the package is kept.
const PROGRAM: &str = "qemu-aarch64";

/// Its path in the cache; `fresh` looks at the archive again.
pub fn user_emulator(cache: &Cache, fresh: bool) -> Result<PathBuf> {
    let suite = Suite::Testing;
    let key = Key::new()
        .with(PACKAGE)
        .with(PROGRAM)
        .with(debian::release(cache, suite, fresh)?);
    let artefact = cache.artefact("emulator", key, |folder| {
        let step = Step::begin("unpacking the emulator of aarch64 programs");
        let root = folder.join("root");
        let packages = debian::owned(&[PACKAGE]);
        debian::unpack(suite, &[Architecture::X86_64], &packages, &root)?;
        fs::rename(root.join("usr/bin").join(PROGRAM), folder.join(PROGRAM))
            .with_context(|| format!("Debian {suite}'s {PACKAGE} has no '{PROGRAM}'"))?;
        remove(&root)?;
        step.done();
        Ok(())
    })?;
    Ok(artefact.join(PROGRAM))
}
