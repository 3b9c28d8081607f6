//! Writes snapshots of a made-up fleet, to measure `variantctl plan --host DIR` with: every host differs a little.
//!
//! `cargo run --release -p agent --example fleet -- COUNT DIR HOST...`: each HOST is a recorded host, taken in turn.

use std::fs;
use std::path::Path;

use agent::snapshot::{Runs, Snapshot};
use agent::target::Versions;
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
        let snapshot = made_up(hosts[number % hosts.len()].clone(), number);
        let path = Path::new(&directory).join(format!("{number:05}.json"));
        fs::write(path, snapshot.text())?;
    }
    Ok(())
}

/// Memory, kernel and, now and then, versions and drivers are its own.
fn made_up(mut host: Host, number: usize) -> Snapshot {
    host.kernel_release = Some(format!("7.2.12-{number}"));
    for node in &mut host.numa.nodes {
        node.memory_kib = node.memory_kib.saturating_sub(number as u64 * 4);
    }
    if number % 50 == 49 {
        host.variants.retain(|one| one.module == "vfio_pci");
        for device in host.devices.values_mut() {
            device.driver = None;
        }
    }
    let old = "libvirt=11.3,qemu=10.0".parse();
    let versions = match number % 20 {
        19 => old.unwrap_or(Versions::NEWEST_TESTED),
        _ => Versions::NEWEST_TESTED,
    };
    let runs = Runs {
        versions: Some(versions),
        arch: None,
    };
    Snapshot::new(host, runs, Vec::new())
}
