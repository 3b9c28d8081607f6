//! Writes the modelled hosts that tests read: `cargo run --example model_hosts -- tests/data/hosts`.
//!
//! Deterministic; a test of this crate fails when what is committed differs from what this writes.

mod atomics;
mod grace;
mod machine;
mod node;
mod pci;
mod srat;
mod tree;
mod x86;

use std::path::PathBuf;

fn main() -> std::io::Result<()> {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("usage: model_hosts DIR");
        std::process::exit(2);
    };
    let machines = grace::all().into_iter().chain(x86::all());
    for machine in machines.chain(atomics::all()) {
        tree::write(&dir.join(machine.name), &machine.tree())?;
    }
    Ok(())
}
