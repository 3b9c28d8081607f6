//! Chores of the repository that Cargo has no command for: `cargo xtask help`.

mod cycle;
mod graph;
mod language;
mod map;
mod regen;
mod tidy;
mod tree;

use std::path::{Path, PathBuf};

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
    /// Write all generated files that need no lab; review the diff afterwards
    Regen {
        /// Only these; all, if none is named
        #[arg(value_enum)]
        parts: Vec<regen::Part>,
    },
    /// Print all messages of the programs, for a review of their language
    Messages,
    /// Print sentences of messages, comments and documents that are drawn at random
    Sentences {
        /// The same seed draws the same sentences from the same tree
        seed: u64,
        #[arg(default_value_t = 20)]
        count: usize,
    },
    /// Check what Cargo cannot: directions of dependencies, file headers, language, the README's map
    Tidy,
}

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.canonicalize().unwrap_or(root)
}

fn main() -> Result<()> {
    match Chore::parse() {
        Chore::Hosts { dir } => testing::hosts::write(&dir)
            .with_context(|| format!("cannot write hosts to '{}'", dir.display())),
        Chore::Regen { parts } => regen::run(&root(), &parts),
        Chore::Messages => language::print_messages(&root()),
        Chore::Sentences { seed, count } => language::print_sentences(&root(), seed, count),
        Chore::Tidy => tidy::run(&root()),
    }
}
