//! Chores of the repository that Cargo has no command for: `cargo xtask help`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Chores of the repository")]
enum Chore {
    /// Write the modelled hosts as folders of DIR, for `variantctl --host DIR/NAME`
    Hosts {
        /// Created if it does not exist; a folder in it that has a host's name is replaced
        dir: PathBuf,
    },
}

fn main() -> Result<()> {
    match Chore::parse() {
        Chore::Hosts { dir } => testing::hosts::write(&dir)
            .with_context(|| format!("cannot write hosts to '{}'", dir.display())),
    }
}
