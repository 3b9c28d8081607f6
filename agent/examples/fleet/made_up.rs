//! The snapshot of a host of a made-up fleet.

use agent::snapshot::{Runs, Snapshot};
use kernel_glue::host::Host;
use planner::target::Versions;

/// Memory, kernel and, now and then, versions and drivers are its own.
pub(crate) fn snapshot(mut host: Host, number: usize) -> Snapshot {
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
        ..Runs::default()
    };
    Snapshot::new(host, runs, Vec::new())
}
