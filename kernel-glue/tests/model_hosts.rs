//! The modelled hosts read like the machines that they model.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config, ConfigError, Port};
use kernel_glue::host::Host;
use kernel_glue::peer::{Route, Shared};
use kernel_glue::{alias, device::Device, record};
use testing::hosts::{directory, modelled};

fn read(name: &str) -> Host {
    Host::read(&directory(name)).expect("modelled host")
}

/// A GPU's address, socket and initiators.
fn gpus(host: &Host) -> Vec<(String, u32, Vec<u32>)> {
    let srat = host.srat.as_ref().expect("table");
    let gpu = |device: &Device| {
        let nodes = srat.initiators.get(&device.address);
        let nodes = nodes.into_iter().flatten().copied();
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
    assert_eq!((host.address_bits, host.iommufd), (None, true));
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

/// Addresses, sockets and the first of eight initiators.
fn board(expected: &[(&str, u32, u32)]) -> Vec<(String, u32, Vec<u32>)> {
    let gpu = |(address, socket, first): &(&str, u32, u32)| {
        (
            (*address).to_owned(),
            *socket,
            (*first..first + 8).collect(),
        )
    };
    expected.iter().map(gpu).collect()
}

fn device<'a>(host: &'a Host, address: &str) -> &'a Device {
    &host.devices[&address.parse::<PciAddress>().expect("address")]
}

#[test]
fn a_gh200_with_four_sockets_has_thirty_six_nodes() {
    let host = read("gh200-4gpu");
    assert_usual(&host);
    assert_eq!(host.numa.nodes.len(), 36);
    let expected = [
        ("0009:01:00.0", 0, 4),
        ("0019:01:00.0", 1, 12),
        ("0029:01:00.0", 2, 20),
        ("0039:01:00.0", 3, 28),
    ];
    assert_eq!(gpus(&host), board(&expected));
    assert_eq!((distance(&host, 3, 35), distance(&host, 2, 35)), (80, 120));
}

#[test]
fn gpu_ten_may_precede_gpu_two_in_the_table() {
    let host = read("gh200-names");
    assert_usual(&host);
    let expected = [("0002:01:00.0", 0, 10), ("0010:01:00.0", 1, 2)];
    assert_eq!(gpus(&host), board(&expected));
    assert_eq!((distance(&host, 0, 10), distance(&host, 0, 2)), (80, 120));
}

#[test]
fn a_gb300_has_each_gpu_behind_two_switches_and_alone_in_its_group() {
    let host = read("gb300-4gpu");
    let groups: Vec<u32> = ["0008", "0009", "0018", "0019"]
        .map(|domain| device(&host, &format!("{domain}:06:00.0")))
        .iter()
        .filter_map(|gpu| gpu.iommu_group)
        .collect();
    assert_eq!(groups, [79, 80, 81, 82]);
    let gpu = device(&host, "0018:06:00.0");
    assert_eq!(gpu.id.to_string(), "10de:31c2");
    let position = host.position(gpu);
    assert!(!position.is_directly_on_root_port() && position.is_first_function());
    assert_eq!(position.between.len(), 4);
    let srat = host.srat.as_ref().expect("table");
    let first = srat.initiators[&gpu.address].first().copied();
    assert_eq!(first.map(u32::from), Some(18));
    let memory = |id: usize| host.numa.nodes[id].memory_kib >> 10;
    assert_eq!(
        [0, 1, 2, 3, 10].map(memory),
        [483_137, 481_768, 283_136, 0, 283_136]
    );
}

#[test]
fn a_gb300_with_acs_for_peer_to_peer_has_switch_ports_in_the_gpus_group() {
    let host = read("gb300-p2p");
    let members: Vec<String> = host.group(30).map(|one| one.address.to_string()).collect();
    let expected = [
        "0008:02:03.0",
        "0008:04:00.0",
        "0008:05:00.0",
        "0008:06:00.0",
    ];
    assert_eq!(members, expected);
    assert_eq!(host.group_endpoints(30).count(), 1);
}

#[test]
fn only_the_unrouted_gb300_has_switches_without_atomics() {
    for (name, routes) in [("gb300-4gpu", true), ("gb300-unrouted", false)] {
        let host = read(name);
        for port in [
            "0008:01:00.0",
            "0008:02:03.0",
            "0008:04:00.0",
            "0008:05:00.0",
        ] {
            let express = device(&host, port).config.express().expect("express");
            assert_eq!(express.routes_atomics(), routes, "{name} {port}");
        }
    }
}

#[test]
fn a_gh200_may_call_the_initiators_of_one_gpu_unreachable() {
    let host = read("gh200-255");
    assert_eq!((distance(&host, 0, 3), distance(&host, 3, 4)), (80, 255));
    let memory = |id: usize| host.numa.nodes[id].memory_kib >> 10;
    assert_eq!([0, 1, 2].map(memory), [490_037, 97_280, 0]);
}

#[test]
fn two_gpus_can_be_behind_one_smmu() {
    let host = read("gb200-shared-smmu");
    assert_usual(&host);
    let smmu = |address| device(&host, address).iommu.clone().expect("smmu");
    assert_eq!(smmu("0008:01:00.0"), smmu("0009:01:00.0"));
    let all: BTreeSet<String> = host
        .devices
        .values()
        .flat_map(|d| d.iommu.clone())
        .collect();
    assert_eq!(all.len(), 3);
}

#[test]
fn a_virtual_function_names_its_physical_one() {
    for (name, function, physical) in [
        ("gb200-nic", "0002:01:00.2", "0002:01:00.0"),
        ("hgx-8gpu", "0000:18:00.2", "0000:18:00.0"),
    ] {
        let host = read(name);
        let function = device(&host, function);
        assert_eq!(function.physical_function, physical.parse().ok());
        let variant = alias::best(&host.variants, &function.modalias).expect("variant");
        assert_eq!(variant.module, "mlx5_vfio_pci");
        assert_eq!(
            host.srat
                .as_ref()
                .map(|srat| srat.initiators.contains_key(&function.address)),
            Some(false)
        );
    }
}

fn redirected(ports: &[&str], no_ats: bool) -> Route {
    let ports = ports.iter().map(|port| port.parse().expect("address"));
    let ports = ports.collect();
    Route::Redirected { ports, no_ats }
}

/// The route from one device of a host to another, on the host and in a guest.
fn routes(host: &Host, from: &str, to: &str) -> [Route; 2] {
    let path = host.peer_path(device(host, from), device(host, to));
    [path.on_host(), path.in_guest()]
}

#[test]
fn access_control_and_ats_decide_the_route_below_a_switch() {
    let host = read("hgx-switched");
    let routes = |from, to| routes(&host, from, to);
    let [adapter, gpu] = ["0000:17:02.0", "0000:17:00.0"];
    let up = redirected(&[adapter, gpu], false);
    assert_eq!(routes("0000:1a:00.0", "0000:18:00.0"), [up.clone(), up]);
    let neither = redirected(&[gpu, adapter], true);
    let host_alone = redirected(&[gpu, adapter], false);
    assert_eq!(
        routes("0000:18:00.0", "0000:1a:00.0"),
        [host_alone, neither],
        "a GPU without ATS"
    );
    assert_eq!(
        routes("0000:3c:00.0", "0000:3a:00.0"),
        [Route::Direct, Route::Direct]
    );
    let untranslated = redirected(&["0000:99:02.0", "0000:99:00.0"], false);
    assert_eq!(
        routes("0000:9c:00.0", "0000:9a:00.0"),
        [untranslated, Route::Direct]
    );
    let untranslated = redirected(&["0000:99:03.0", "0000:99:00.0"], false);
    assert_eq!(
        routes("0000:9d:00.0", "0000:9a:00.0"),
        [untranslated, redirected(&[], true)]
    );
    assert_eq!(
        routes("0000:9c:00.0", "0000:18:00.0"),
        [Route::Apart, Route::Apart]
    );
}

#[test]
fn devices_on_root_ports_of_their_own_reach_each_other_through_the_root_complex() {
    for (name, from, to) in [
        ("hgx-8gpu", "0000:18:00.0", "0000:1b:00.0"),
        ("gb200-nic", "0002:01:00.0", "0008:01:00.0"),
    ] {
        let host = read(name);
        assert_eq!(routes(&host, from, to), [Route::Apart, Route::Apart]);
    }
}

#[test]
fn a_port_whose_config_space_is_not_visible_makes_the_route_unknown() {
    let mut host = read("hgx-switched");
    let port: PciAddress = "0000:17:02.0".parse().expect("address");
    let found = host.devices.get_mut(&port).expect("port");
    found.config = Config::Unreadable(ConfigError::Short(64));
    let unknown = [Route::Unknown(port), Route::Unknown(port)];
    assert_eq!(routes(&host, "0000:1a:00.0", "0000:18:00.0"), unknown);
    let gpus = routes(&host, "0000:18:00.0", "0000:19:00.0");
    assert!(gpus.iter().all(|route| !unknown.contains(route)));
}

#[test]
fn ats_that_is_not_known_makes_the_route_in_a_guest_unknown() {
    let mut host = read("hgx-switched");
    let adapter: PciAddress = "0000:3c:00.0".parse().expect("address");
    let found = host.devices.get_mut(&adapter).expect("adapter");
    let Config::Express(express) = &mut found.config else {
        unreachable!("an endpoint");
    };
    express.ats = None;
    assert_eq!(
        routes(&host, "0000:3c:00.0", "0000:3a:00.0"),
        [Route::Direct, Route::Unknown(adapter)]
    );
    assert_eq!(
        routes(&host, "0000:3c:00.0", "0000:18:00.0"),
        [Route::Apart, Route::Apart]
    );
}

#[test]
fn a_path_has_the_ports_between_two_devices_without_upstream_ports() {
    let host = read("gb300-4gpu");
    let path = host.peer_path(device(&host, "0008:03:00.0"), device(&host, "0008:06:00.0"));
    let ports: Vec<String> = path
        .ports
        .iter()
        .map(|port| port.address.to_string())
        .collect();
    assert_eq!(ports, ["0008:02:00.0", "0008:02:03.0", "0008:05:00.0"]);
    assert_eq!(path.shared, Shared::RootPort);
    assert_eq!(path.on_host(), Route::Direct);
}

#[test]
fn relaxed_ordering_of_a_virtual_function_is_that_of_its_physical_one() {
    let mut host = read("hgx-8gpu");
    let physical: PciAddress = "0000:18:00.0".parse().expect("address");
    let relaxed = |host: &Host| host.relaxed_ordering(device(host, "0000:18:00.2"));
    assert_eq!(relaxed(&host), Some(false));
    let Config::Express(express) = &mut host.devices.get_mut(&physical).expect("adapter").config
    else {
        unreachable!("an endpoint");
    };
    express.devctl |= 1 << 4;
    assert_eq!(relaxed(&host), Some(true));
    host.devices.remove(&physical);
    assert_eq!(relaxed(&host), None);
}

#[test]
fn the_kernel_disables_relaxed_ordering_below_root_ports_with_an_erratum() {
    let mut host = read("hgx-switched");
    let port: PciAddress = "0000:15:01.0".parse().expect("address");
    for (id, wanted) in [
        ("8086:352a", false),
        ("8086:2f00", false),
        ("8086:2f01", true),
        ("8086:6f0e", true),
        ("8086:6f0f", false),
        ("1022:1a02", true),
        ("10de:1a02", false),
    ] {
        host.devices.get_mut(&port).expect("port").id = id.parse().expect("id");
        let found = host.relaxed_ordering_erratum(device(&host, "0000:18:00.0"));
        assert_eq!(found, wanted.then_some(port), "{id}");
    }
}

#[test]
fn virtual_function_counts_as_present() {
    for name in ["gb200-nic", "hgx-8gpu"] {
        assert_eq!(read(name).gaps, []);
    }
}

#[test]
fn numa_node_may_be_the_first_initiator() {
    let host = read("gb200-node-head");
    let gpus = host.devices.values().filter(|device| !device.is_bridge());
    let nodes: Vec<u32> = gpus
        .filter_map(|gpu| gpu.numa_node)
        .map(u32::from)
        .collect();
    assert_eq!(nodes, [2, 10, 18, 26]);
}

#[test]
fn without_root_there_is_no_table_and_little_config_space() {
    for name in [
        "gb200-node-head",
        "gb200-user",
        "gb200-other-initiators-user",
    ] {
        let host = read(name);
        assert_eq!(host.srat, None);
        let reason = |end: &str| {
            let mut gaps = host.gaps.iter().filter(|gap| gap.path.ends_with(end));
            gaps.next().expect("gap").reason.clone()
        };
        assert_eq!(reason("/SRAT"), "permission denied");
        assert!(reason("/config").contains("64"), "{}", reason("/config"));
    }
}

#[test]
fn other_devices_may_have_initiators_among_those_of_the_gpus() {
    let host = read("gb200-other-initiators");
    assert_eq!(host.gaps, []);
    let mut expected = board(&[
        ("0008:01:00.0", 0, 3),
        ("0009:01:00.0", 0, 11),
        ("0018:01:00.0", 1, 20),
        ("0019:01:00.0", 1, 28),
    ]);
    expected.insert(0, ("0002:01:00.0".to_owned(), 0, vec![2]));
    expected.insert(3, ("0016:01:00.0".to_owned(), 1, vec![19]));
    assert_eq!(gpus(&host), expected);
}

#[test]
fn the_first_initiator_of_each_gpu_may_have_memory() {
    let host = read("gb200-memory-nodes");
    assert_usual(&host);
    let nodes = host.numa.nodes.iter().filter(|node| node.memory_kib > 0);
    let nodes: Vec<u32> = nodes.map(|node| node.id.into()).collect();
    assert_eq!(nodes, [0, 1, 2, 10, 18, 26]);
    let initiators = host.numa.generic_initiators.as_ref().expect("file");
    assert_eq!(initiators.to_string(), "2-33");
}

#[test]
fn the_egm_regions_of_a_host_name_their_gpus() {
    let host = read("gb200-egm");
    assert_eq!(host.gaps, []);
    let regions = host.egm.iter();
    let regions: Vec<(String, Option<u64>, usize)> = regions
        .map(|region| (region.path(), region.bytes, region.gpus.len()))
        .collect();
    let size = Some(457_728 << 20);
    let wanted = [("/dev/egm4", size, 2), ("/dev/egm5", size, 2)];
    assert_eq!(
        regions,
        wanted.map(|(path, size, gpus)| (path.to_owned(), size, gpus))
    );
    let gpu = "0018:01:00.0".parse().expect("address");
    assert_eq!(host.egm_region(gpu).map(|region| region.number), Some(5));
    assert_eq!(read("gb200-4gpu").egm, []);
}

#[test]
fn x86_hosts_have_eight_gpus_and_no_initiators() {
    for (name, id, remote) in [
        ("hgx-8gpu", "10de:2330", 21),
        ("mi300x-8gpu", "1002:74a1", 32),
    ] {
        let host = read(name);
        let gpus = host
            .devices
            .values()
            .filter(|device| device.id.to_string() == id);
        let sockets: Vec<u32> = gpus
            .filter_map(|gpu| gpu.numa_node)
            .map(u32::from)
            .collect();
        assert_eq!(sockets, [0, 0, 0, 0, 1, 1, 1, 1]);
        assert_eq!(host.srat.as_ref().expect("table").initiators.len(), 0);
        assert_eq!(
            host.numa.generic_initiators.as_ref().map(|list| list.len()),
            Some(0)
        );
        assert_eq!(distance(&host, 0, 1), remote);
        assert_eq!((host.address_bits, host.iommufd), (Some(52), false));
    }
}

#[test]
fn on_the_atomics_host_each_path_is_as_it_is_modelled() {
    let host = read("atomics");
    let path = |address: &str| {
        let device = device(&host, address);
        let express = |at: &PciAddress| *host.devices[at].config.express().expect("express");
        let above: Vec<_> = device.ancestors.iter().map(express).collect();
        (above, express(&device.address))
    };
    let (routed, gpu) = path("0000:03:00.0");
    assert_eq!(gpu.completer().to_string(), "32, 64");
    assert!(routed[1..].iter().all(|port| port.routes_atomics()));
    assert!(routed[2].redirects_peers() && !routed[1].redirects_peers());
    let (unrouted, _) = path("0000:04:00.0");
    assert!(unrouted[1].routes_atomics() && !unrouted[2].routes_atomics());
    let (blocked, _) = path("0000:23:00.0");
    assert!(blocked[1].egress_blocked());
    let (silent, _) = path("0000:41:00.0");
    assert!(silent[0].completer().is_empty() && silent[0].no_relaxed_peer_passing());
    let (alone, integrated) = path("0000:00:05.0");
    assert!(alone.is_empty() && integrated.port == Port::RootComplexEndpoint);
    assert!(path("0000:61:00.0").1.requester_enabled());
}

#[test]
fn a_recording_of_a_modelled_host_reads_as_the_model() {
    for name in modelled().map(|machine| machine.name) {
        let dir = tempfile::tempdir().expect("scratch directory");
        record::record(&directory(name), dir.path()).expect("recorded");
        let host = read(name);
        assert_eq!(Host::read(dir.path()).expect("recording"), host);
        // The reader takes these from `modalias`. Other programs and earlier releases read them.
        for (address, file) in (host.devices.keys())
            .flat_map(|address| ["vendor", "device", "class"].map(|file| (address, file)))
        {
            let path = format!("sys/bus/pci/devices/{address}/{file}");
            let text = |root: &Path| fs::read_to_string(root.join(&path)).expect("a file");
            assert_eq!(text(dir.path()), text(&directory(name)), "{name}: {path}");
        }
    }
}
