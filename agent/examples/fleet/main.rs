//! Writes snapshots of a made-up fleet, to measure `variantctl plan --host DIR` with: every host differs a little.
//!
//! `cargo run --release -p agent --example fleet -- COUNT DIR HOST...`: each HOST is a recorded host, taken in turn.

mod made_up;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use kernel_glue::host::Host;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: usize = arguments.next().context("COUNT is missing")?.parse()?;
    let directory = arguments.next().context("DIR is missing")?;
    let hosts: Result<Vec<Host>, _> = arguments.map(|path| Host::read(Path::new(&path))).collect();
    let hosts = hosts?;
    anyhow::ensure!(!hosts.is_empty(), "no HOST is named");
    fs::create_dir_all(&directory)?;
    for number in 0..count {
        let snapshot = made_up::snapshot(hosts[number % hosts.len()].clone(), number);
        let path = Path::new(&directory).join(format!("{number:05}.json"));
        fs::write(path, snapshot.text())?;
    }
    Ok(())
}
