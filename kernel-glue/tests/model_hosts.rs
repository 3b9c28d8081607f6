//! The modelled hosts are what their generator writes, and read as the machines they model.

#[path = "../examples/model_hosts/machine.rs"]
mod machine;
#[path = "../examples/model_hosts/pci.rs"]
mod pci;
#[path = "../examples/model_hosts/srat.rs"]
mod srat;
#[path = "../examples/model_hosts/tree.rs"]
mod tree;

use std::fs;
use std::path::{Path, PathBuf};

use kernel_glue::address::PciAddress;
use kernel_glue::host::Host;
use kernel_glue::{alias, device::Device, record};

fn directory(name: &str) -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.join("../tests/data/hosts").join(name)
}

fn read(name: &str) -> Host {
    Host::read(&directory(name)).expect("modelled host")
}

/// What lies below `dir`, as the generator's tree.
fn found(dir: &Path, prefix: &str, tree: &mut tree::Tree) {
    for entry in fs::read_dir(dir).expect("directory") {
        let entry = entry.expect("entry");
        let name = entry.file_name().into_string().expect("name");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("type");
        if kind.is_dir() {
            found(&entry.path(), &format!("{path}/"), tree);
        } else if kind.is_symlink() {
            let target = fs::read_link(entry.path()).expect("link");
            let target = target.into_os_string().into_string().expect("target");
            tree.insert(path, tree::Entry::Link(target));
        } else {
            let content = fs::read(entry.path()).expect("file");
            tree.insert(path, tree::Entry::File(content));
        }
    }
}

/// A GPU's address, socket and initiators.
fn gpus(host: &Host) -> Vec<(String, u32, Vec<u32>)> {
    let srat = host.srat.as_ref().expect("table");
    let gpu = |device: &Device| {
        let nodes = srat.initiators[&device.address].iter().copied();
        let socket = device.numa_node.expect("node");
        (
            device.address.to_string(),
            socket.into(),
            nodes.map(u32::from).collect(),
        )
    };
    let devices = host.devices.values();
    devices
        .filter(|device| !device.is_bridge())
        .map(gpu)
        .collect()
}

fn assert_usual(host: &Host) {
    assert_eq!(host.gaps, []);
    for device in host.devices.values().filter(|device| !device.is_bridge()) {
        let position = host.position(device);
        assert!(position.is_directly_on_root_port());
        assert!(position.is_first_function() && position.is_single_function());
        let variant = alias::best(&host.variants, &device.modalias).expect("variant");
        assert_eq!(variant.module, "nvgrace_gpu_vfio_pci");
        let driver = device.driver.as_ref().expect("bound");
        assert_eq!(driver.as_str(), "nvidia");
        let group = device.iommu_group.expect("group");
        assert_eq!(host.group_endpoints(group).count(), 1);
    }
}

fn distance(host: &Host, from: u32, to: u32) -> u8 {
    let node = |id: u32| id.try_into().expect("node");
    host.numa.distance(node(from), node(to)).expect("distance")
}

#[test]
fn what_is_committed_is_what_the_generator_writes() {
    for machine in machine::all() {
        let mut committed = tree::Tree::new();
        found(&directory(machine.name), "", &mut committed);
        let written = machine.tree();
        let paths = |tree: &tree::Tree| tree.keys().cloned().collect::<Vec<_>>();
        assert_eq!(paths(&committed), paths(&written), "{}", machine.name);
        for (path, entry) in &written {
            assert!(committed[path] == *entry, "{} of {}", path, machine.name);
        }
    }
}

#[test]
fn a_gh200_has_nine_nodes_and_one_gpu() {
    let host = read("gh200-1gpu");
    assert_usual(&host);
    assert_eq!(host.numa.nodes.len(), 9);
    let initiators: Vec<u32> = (1..9).collect();
    assert_eq!(gpus(&host), [("0009:01:00.0".to_owned(), 0, initiators)]);
    assert_eq!((distance(&host, 0, 3), distance(&host, 3, 4)), (80, 11));
    let gpu: PciAddress = "0009:01:00.0".parse().expect("address");
    let express = *host.devices[&gpu].config.express().expect("express");
    assert_eq!(express.completer().to_string(), "32, 64");
    assert!(express.function_level_reset());
}

#[test]
fn a_gb200_has_thirty_four_nodes_and_four_gpus() {
    let host = read("gb200-4gpu");
    assert_usual(&host);
    assert_eq!(host.numa.nodes.len(), 34);
    let gpu = |address: &str, socket, first: u32| {
        (address.to_owned(), socket, (first..first + 8).collect())
    };
    let expected = [
        gpu("0008:01:00.0", 0, 2),
        gpu("0009:01:00.0", 0, 10),
        gpu("0018:01:00.0", 1, 18),
        gpu("0019:01:00.0", 1, 26),
    ];
    assert_eq!(gpus(&host), expected);
    let rows = [
        (0, 1, 40),
        (2, 9, 11),
        (2, 10, 40),
        (1, 26, 80),
        (26, 0, 120),
    ];
    for (from, to, value) in rows {
        assert_eq!(distance(&host, from, to), value, "{from} to {to}");
    }
}

#[test]
fn a_recording_of_a_modelled_host_reads_as_the_model() {
    for name in ["gh200-1gpu", "gb200-4gpu"] {
        let dir = tempfile::tempdir().expect("scratch directory");
        record::record(&directory(name), dir.path()).expect("recorded");
        assert_eq!(Host::read(dir.path()).expect("recording"), read(name));
    }
}
