//! Hosts and guests for NUMA layouts: HGX with adapters and SMT, sub-NUMA clustering, a desktop.

use super::machine::{Endpoint, Machine, Platform, Processors};
use super::{modelled, x86};

/// Huge pages of 2 MiB and 1 GiB.
pub const PAGES: &[(u64, u64, u64)] = &[(2048, 65_536, 65_536), (1_048_576, 384, 384)];
/// Pages of a kernel with normal pages of 64 KiB.
pub const GRACE_PAGES: &[(u64, u64, u64)] =
    &[(2048, 0, 0), (524_288, 600, 600), (16_777_216, 0, 0)];

/// A modelled machine with other processors.
///
/// # Panics
/// If no machine has this name.
#[must_use]
pub fn with(name: &str, processors: Processors) -> Machine {
    let machine = modelled().find(|one| one.name == name);
    let machine = machine.expect("a modelled host");
    Machine {
        processors,
        ..machine
    }
}

/// A desktop with one GPU and eight cores with two threads each; no huge pages.
#[must_use]
pub fn desktop() -> Machine {
    Machine {
        sockets: 1,
        cpus: 16,
        memory_kib: &[65_536_000],
        endpoints: with("hgx-8gpu", Processors::PLAIN).endpoints[..1].to_vec(),
        platform: Platform::Amd,
        ..with("hgx-8gpu", Processors::SMT)
    }
}

/// Eight GPUs, each with a network adapter on the same socket, and two threads for each core.
#[must_use]
pub fn hgx() -> Machine {
    let machine = with(
        "hgx-8gpu",
        Processors {
            pages: PAGES,
            ..Processors::SMT
        },
    );
    const ADAPTERS: [[&str; 2]; 8] = [
        ["0000:1a:03.0", "0000:1c:00.0"],
        ["0000:42:03.0", "0000:44:00.0"],
        ["0000:51:03.0", "0000:53:00.0"],
        ["0000:60:03.0", "0000:62:00.0"],
        ["0000:9c:03.0", "0000:9e:00.0"],
        ["0000:c2:03.0", "0000:c4:00.0"],
        ["0000:d0:03.0", "0000:d2:00.0"],
        ["0000:de:03.0", "0000:e0:00.0"],
    ];
    let gpus = machine.endpoints[..8].iter();
    let adapters = gpus.zip(ADAPTERS).map(|(gpu, [port, address])| {
        x86::endpoint(x86::CONNECTX, [port, address, gpu.iommu], gpu.socket)
    });
    let endpoints: Vec<Endpoint> = machine.endpoints[..8]
        .iter()
        .cloned()
        .chain(adapters)
        .collect();
    Machine {
        endpoints,
        ..machine
    }
}

/// MI300X in NPS4: four nodes for each package, CCX of eight cores.
#[must_use]
pub fn nps4() -> Machine {
    let machine = with(
        "mi300x-8gpu",
        Processors {
            cache_cores: 8,
            package_nodes: 4,
            pages: PAGES,
            ..Processors::SMT
        },
    );
    let mut endpoints = machine.endpoints.clone();
    for (index, endpoint) in (0..).zip(&mut endpoints) {
        endpoint.socket = index;
    }
    Machine {
        sockets: 8,
        cpus: 48,
        endpoints,
        ..machine
    }
}

/// A guest with all GPUs and adapters of a machine.
#[must_use]
pub fn definition(machine: &Machine, vcpus: u32, gib: u64) -> String {
    let devices = machine.endpoints.iter().map(|one| {
        let (segment, rest) = one.address.split_once(':').expect("an address");
        let (bus, _) = rest.split_once(':').expect("an address");
        format!(
            "    <hostdev mode='subsystem' type='pci' managed='no'>\n      <source>\n        <address domain='0x{segment}' bus='0x{bus}' slot='0x00' function='0x0'/>\n      </source>\n    </hostdev>\n"
        )
    });
    let devices: String = devices.collect();
    let (arch, board) = match machine.platform {
        Platform::Grace => ("aarch64", "virt"),
        Platform::Intel | Platform::Amd => ("x86_64", "q35"),
    };
    format!(
        "<domain type='kvm'>\n  <name>guest</name>\n  <memory unit='GiB'>{gib}</memory>\n  <vcpu>{vcpus}</vcpu>\n  <os>\n    <type arch='{arch}' machine='{board}'>hvm</type>\n    <loader type='pflash'>/usr/share/firmware.fd</loader>\n  </os>\n  <features>\n    <acpi/>\n  </features>\n  <cpu mode='host-passthrough'/>\n  <devices>\n{devices}  </devices>\n</domain>\n"
    )
}
