//! Reads of complete and of incomplete hosts.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use crate::address::PciAddress;
use crate::cache::Cache;
use crate::config::{Config, ConfigError};
use crate::device::Device;
use crate::failure::Failure;
use crate::host::Host;
use crate::id::PciId;
use crate::kconfig;

const GPU: &str = "0009:01:00.0";
pub(crate) const GPU_DIR: &str = "sys/devices/pci0009:00/0009:00:00.0/0009:01:00.0";

/// A host with one port and one GPU, with every file that the reader reads.
pub(crate) fn host() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("scratch directory");
    let root = dir.path();
    device(root, "0009:00:00.0", "pci0009:00", "0x22b1", "0x060400");
    device(root, GPU, "pci0009:00/0009:00:00.0", "0x2342", "0x030200");
    let gpu = root.join(GPU_DIR);
    link(&gpu.join("driver"), "../../../../bus/pci/drivers/nvidia");
    link(
        &gpu.join("iommu_group"),
        "../../../../kernel/iommu_groups/7",
    );
    link(
        &gpu.join("iommu"),
        "../../../platform/arm-smmu-v3.3.auto/iommu/smmu3.0x11000000",
    );
    put(root, "proc/sys/kernel/osrelease", "7.2.12-arm64\n");
    put(
        root,
        "lib/modules/7.2.12-arm64/modules.alias",
        "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n",
    );
    put(root, "sys/devices/system/node/online", "0-1\n");
    put(root, "sys/devices/system/node/has_generic_initiator", "1\n");
    for (node, cpus, memory, distance) in [(0, "0-71", 1024, "10 80"), (1, "", 0, "80 10")] {
        let dir = format!("sys/devices/system/node/node{node}");
        put(root, &format!("{dir}/cpulist"), &format!("{cpus}\n"));
        let meminfo =
            format!("Node {node} MemTotal:       {memory} kB\nNode {node} MemFree: 1 kB\n");
        put(root, &format!("{dir}/meminfo"), &meminfo);
        put(root, &format!("{dir}/distance"), &format!("{distance}\n"));
    }
    dir
}

fn device(root: &Path, address: &str, parent: &str, id: &str, class: &str) {
    let dir = format!("sys/devices/{parent}/{address}");
    let bar = "0x0000042000000000 0x0000042000ffffff 0x000000000014220c\n";
    let resource = bar.to_owned() + &"0x0 0x0 0x0\n".repeat(6);
    let files = [
        ("vendor", "0x10de\n"),
        ("device", &format!("{id}\n")),
        ("class", &format!("{class}\n")),
        ("driver_override", "(null)\n"),
        ("numa_node", "0\n"),
        ("modalias", "pci:v000010DE\n"),
        ("resource", &resource),
        ("reset_method", "flr bus\n"),
    ];
    for (name, content) in files {
        put(root, &format!("{dir}/{name}"), content);
    }
    fs::write(root.join(&dir).join("config"), [0; 256]).expect("config");
    let link_dir = root.join("sys/bus/pci/devices");
    fs::create_dir_all(&link_dir).expect("directory of links");
    symlink(
        format!("../../../devices/{parent}/{address}"),
        link_dir.join(address),
    )
    .expect("link");
}

fn put(root: &Path, path: &str, content: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("parent")).expect("directory");
    fs::write(path, content).expect("file");
}

fn link(path: &Path, target: &str) {
    symlink(target, path).expect("link");
}

fn gpu(host: &Host) -> &Device {
    &host.devices[&GPU.parse().expect("address")]
}

/// Reads the host after a change of the GPU's file `name`.
fn changed(name: &str, content: &[u8]) -> Host {
    let dir = host();
    fs::write(dir.path().join(GPU_DIR).join(name), content).expect("file");
    Host::read(dir.path()).expect("host")
}

fn gaps(host: &Host) -> Vec<String> {
    let line = |gap: &crate::host::Gap| format!("{}: {}", gap.path, gap.reason);
    host.gaps.iter().map(line).collect()
}

#[test]
fn a_whole_host_has_no_gaps() {
    let dir = host();
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(gaps(&host), Vec::<String>::new());
    let gpu = gpu(&host);
    let port: PciAddress = "0009:00:00.0".parse().expect("address");
    assert_eq!(gpu.ancestors, [port]);
    assert_eq!(
        gpu.driver.as_ref().map(|name| name.as_str()),
        Some("nvidia")
    );
    assert_eq!(gpu.driver_override, None);
    assert_eq!(gpu.iommu_group, Some(7));
    assert_eq!(gpu.iommu.as_deref(), Some("smmu3.0x11000000"));
    assert_eq!(gpu.bars[0].size, 16 << 20);
    assert!(gpu.bars[0].is_64bit_prefetchable());
    assert_eq!(gpu.reset_methods, ["flr", "bus"]);
    assert_eq!(host.numa.nodes[0].memory_kib, 1024);
    assert_eq!(host.numa.nodes[1].distances, [80, 10]);
    assert_eq!(host.variants.len(), 1);
}

#[test]
fn one_device_reads_as_it_does_in_the_host() {
    let dir = host();
    fs::write(dir.path().join(GPU_DIR).join("numa_node"), "9999\n").expect("file");
    let host = Host::read(dir.path()).expect("host");
    let (device, gaps) = Device::read(dir.path(), gpu(&host).address).expect("device");
    assert_eq!(&device, gpu(&host));
    assert_eq!(gaps, host.gaps);
}

#[test]
fn reading_a_missing_device_fails() {
    let dir = host();
    let other = "0000:00:00.0".parse().expect("address");
    let failure = Device::read(dir.path(), other).expect_err("absent");
    assert!(failure.is_absent());
}

#[test]
fn directory_without_devices_reports_the_fix() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let failure = Host::read(dir.path()).expect_err("empty");
    assert!(matches!(failure, Failure::NoDevices { .. }));
    assert!(failure.to_string().contains("variantctl record-host"));
}

#[test]
fn a_host_with_nothing_but_ids_still_shows_its_devices() {
    let dir = tempfile::tempdir().expect("scratch directory");
    put(
        dir.path(),
        "sys/devices/pci0000:00/0000:00:01.0/vendor",
        "0x10de\n",
    );
    put(
        dir.path(),
        "sys/devices/pci0000:00/0000:00:01.0/device",
        "0x2342\n",
    );
    fs::create_dir_all(dir.path().join("sys/bus/pci/devices")).expect("directory");
    let target = "../../../devices/pci0000:00/0000:00:01.0";
    link(&dir.path().join("sys/bus/pci/devices/0000:00:01.0"), target);
    let host = Host::read(dir.path()).expect("host");
    let (vendor, device) = (0x10de, 0x2342);
    let found = host.devices.values().next().expect("device");
    assert_eq!(found.id, PciId { vendor, device });
    assert!(matches!(
        found.config,
        Config::Unreadable(ConfigError::Io(_))
    ));
    assert!(
        gaps(&host)
            .iter()
            .all(|gap| gap.ends_with("no such file or directory"))
    );
}

#[test]
fn a_device_without_an_id_is_only_a_gap() {
    let host = changed("vendor", b"junk\n");
    assert_eq!(host.devices.len(), 1);
    assert_eq!(
        gaps(&host),
        ["/sys/bus/pci/devices/0009:01:00.0/vendor: unexpected content 'junk'"]
    );
}

#[test]
fn malformed_file_of_one_device_is_only_a_gap() {
    let cases: [(&str, &[u8]); 9] = [
        ("class", b"0x1000000\n"),
        ("numa_node", b"1024\n"),
        ("numa_node", b"\n"),
        ("resource", b"0x0 0x0 0x0\n"),
        ("resource", &b"0x2 0x1 0x200\n".repeat(6)),
        ("resource", &b"0x0 0xffffffffffffffff 0x200\n".repeat(6)),
        ("modalias", b"\xff\xfe\n"),
        ("config", &[0xff; 4096]),
        ("config", b""),
    ];
    for (name, content) in cases {
        let host = changed(name, content);
        assert_eq!(host.devices.len(), 2, "{name}");
        assert_eq!(host.gaps.len(), 1, "{name}: {:?}", host.gaps);
        assert!(host.gaps[0].path.ends_with(name), "{name}");
    }
}

#[test]
fn modalias_has_the_ids_and_the_class() {
    let dir = host();
    let gpu = dir.path().join(GPU_DIR);
    for name in ["vendor", "device", "class"] {
        fs::remove_file(gpu.join(name)).expect("a file");
    }
    let modalias = "pci:v000010DEd00002342sv000010DEsd000016EBbc03sc02i01\n";
    fs::write(gpu.join("modalias"), modalias).expect("file");
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(gaps(&host), Vec::<String>::new());
    let gpu = self::gpu(&host);
    let (vendor, device) = (0x10de, 0x2342);
    assert_eq!((gpu.id, gpu.class), (PciId { vendor, device }, 0x03_0201));
}

#[test]
fn modalias_of_another_form_does_not_hide_the_files() {
    for other in [
        "pci:v000010DEd00012941sv000010DEsd000016EBbc03sc02i01",
        "pci:v*d00002941sv000010DEsd000016EBbc03sc02i01",
        "pci:v10DEd2941sv000010DEsd000016EBbc03sc02i01",
        "pci:v000010DEd00002941sv000010DEsd000016EBbc03sc02i001",
        "usb:v000010DEd00002941sv000010DEsd000016EBbc03sc02i01",
    ] {
        let host = changed("modalias", other.as_bytes());
        assert_eq!(gaps(&host), Vec::<String>::new());
        let (vendor, device) = (0x10de, 0x2342);
        let gpu = gpu(&host);
        assert_eq!(
            (gpu.id, gpu.class),
            (PciId { vendor, device }, 0x03_0200),
            "{other}"
        );
    }
}

#[test]
fn override_text_is_set_only_with_a_name() {
    let unset = |content: &[u8]| {
        gpu(&changed("driver_override", content))
            .driver_override
            .clone()
    };
    assert_eq!(unset(b"\n"), None);
    assert_eq!(unset(b""), None);
    assert_eq!(unset(b"(null)\n"), None);
    assert_eq!(unset(b"vfio-pci\n").as_deref(), Some("vfio-pci"));
}

#[test]
fn unknown_node_reads_as_none() {
    let host = changed("numa_node", b"-1\n");
    assert_eq!(gpu(&host).numa_node, None);
    assert!(host.gaps.is_empty());
}

#[test]
fn a_distance_row_of_another_length_is_a_gap() {
    let dir = host();
    put(
        dir.path(),
        "sys/devices/system/node/node1/distance",
        "80 10 20\n",
    );
    let host = Host::read(dir.path()).expect("host");
    assert!(host.numa.nodes[1].distances.is_empty());
    assert_eq!(host.gaps.len(), 1);
}

#[test]
fn an_empty_list_of_initiators_is_not_a_missing_one() {
    let dir = host();
    let path = "sys/devices/system/node/has_generic_initiator";
    put(dir.path(), path, "\n");
    let empty = Host::read(dir.path())
        .expect("host")
        .numa
        .generic_initiators;
    assert_eq!(empty, Some("".parse().expect("list")));
    fs::remove_file(dir.path().join(path)).expect("removed");
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(host.numa.generic_initiators, None);
    assert!(host.gaps.is_empty());
}

#[test]
fn nodes_without_cpus_and_memory_are_not_asked_for_them() {
    let dir = host();
    let node = |name: &str, text: &str| {
        put(dir.path(), &format!("sys/devices/system/node/{name}"), text);
    };
    node("online", "0-5\n");
    node("has_cpu", "0\n");
    node("has_memory", "0,2\n");
    for id in 0..6 {
        node(&format!("node{id}/distance"), "10 80 80 80 80 80\n");
        fs::remove_file(
            dir.path()
                .join(format!("sys/devices/system/node/node{id}/cpulist")),
        )
        .unwrap_or_default();
    }
    node("node0/cpulist", "0-71\n");
    node("node2/meminfo", "Node 2 MemTotal: 2048 kB\n");
    let read = Host::read(dir.path()).expect("host");
    assert!(read.gaps.is_empty(), "{:?}", read.gaps);
    let memory: Vec<u64> = read.numa.nodes.iter().map(|node| node.memory_kib).collect();
    assert_eq!(memory, [1024, 0, 2048, 0, 0, 0]);
    let sockets: Vec<u32> = read.numa.sockets().map(|node| node.id.into()).collect();
    assert_eq!(sockets, [0]);
    // A recording has their files, for other programs and earlier releases.
    node("node1/meminfo", "Node 1 MemTotal: 0 kB\n");
    let recorded = tempfile::tempdir().expect("directory");
    crate::record::record(dir.path(), recorded.path()).expect("recorded");
    let nodes = recorded.path().join("sys/devices/system/node");
    assert!(nodes.join("node1/meminfo").exists() && nodes.join("has_cpu").exists());
    assert_eq!(Host::read(recorded.path()).expect("host"), read);
    // A list that cannot be used hides no node.
    node("has_cpu", "x\n");
    fs::remove_file(dir.path().join("sys/devices/system/node/has_memory")).expect("removed");
    let read = Host::read(dir.path()).expect("host");
    assert!(
        gaps(&read)
            .iter()
            .any(|gap| gap.contains("/node/has_cpu: "))
    );
    for id in 1..6 {
        let asked = |name: &str| {
            let path = format!("/node{id}/{name}: ");
            gaps(&read).iter().any(|gap| gap.contains(&path))
        };
        assert!(asked("cpulist"), "{id}");
        assert_eq!(asked("meminfo"), id > 2, "{id}");
    }
}

#[test]
fn a_damaged_srat_is_a_gap() {
    let dir = host();
    put(dir.path(), "sys/firmware/acpi/tables/SRAT", "SRAT");
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(gaps(&host), ["/sys/firmware/acpi/tables/SRAT: not an SRAT"]);
}

#[test]
fn kernel_release_that_is_not_a_file_name_is_ignored() {
    let dir = host();
    put(dir.path(), "proc/sys/kernel/osrelease", "../../etc\n");
    let host = Host::read(dir.path()).expect("host");
    assert_eq!((host.kernel_release, host.variants.len()), (None, 0));
}

#[test]
fn a_wide_domain_below_a_volume_management_device_has_its_own_root() {
    let dir = host();
    let parent = "pci0000:00/0000:00:0e.0/pci10000:e0/10000:e0:06.0";
    device(dir.path(), "10000:e1:00.0", parent, "0x2342", "0x030200");
    let host = Host::read(dir.path()).expect("host");
    let device = &host.devices[&"10000:e1:00.0".parse().expect("address")];
    assert_eq!(device.ancestors, ["10000:e0:06.0".parse().expect("port")]);
}

#[test]
fn a_link_with_a_final_slash_does_not_make_a_device_its_own_ancestor() {
    let dir = host();
    let whole = Host::read(dir.path()).expect("host");
    let path = dir.path().join("sys/bus/pci/devices").join(GPU);
    for end in ["/", "//"] {
        fs::remove_file(&path).expect("removed");
        link(
            &path,
            &format!("../../../devices//pci0009:00/0009:00:00.0/{GPU}{end}"),
        );
        assert_eq!(Host::read(dir.path()).expect("host"), whole);
    }
}

#[test]
fn a_link_that_ends_at_another_device_or_passes_its_own_is_a_gap() {
    let dir = host();
    let path = dir.path().join("sys/bus/pci/devices").join(GPU);
    for end in ["0009:00:00.0", "0009:01:00.0/0009:01:00.0"] {
        let target = format!("../../../devices/pci0009:00/{end}");
        fs::remove_file(&path).expect("removed");
        link(&path, &target);
        let host = Host::read(dir.path()).expect("host");
        let device = host.devices.get(&GPU.parse().expect("address"));
        assert!(
            device.is_none_or(|device| device.ancestors.is_empty()),
            "{end}"
        );
        assert!(!host.gaps.is_empty(), "{end}");
    }
}

#[test]
fn values_that_a_recording_ends_with_nul_are_read() {
    let dir = host();
    let whole = Host::read(dir.path()).expect("host");
    let nodes = "sys/devices/system/node";
    for end in ["\0", "\n\0\0", "\0\n"] {
        put(dir.path(), &format!("{nodes}/online"), &format!("0-1{end}"));
        for (node, cpus, distance) in [(0, "0-71", "10 80"), (1, "", "80 10")] {
            put(
                dir.path(),
                &format!("{nodes}/node{node}/cpulist"),
                &format!("{cpus}{end}"),
            );
            put(
                dir.path(),
                &format!("{nodes}/node{node}/distance"),
                &format!("{distance}{end}"),
            );
        }
        put(
            dir.path(),
            &format!("{GPU_DIR}/numa_node"),
            &format!("0{end}"),
        );
        assert_eq!(Host::read(dir.path()).expect("host"), whole, "{end:?}");
    }
}

#[test]
fn invalid_address_is_a_gap() {
    let dir = host();
    put(dir.path(), "sys/bus/pci/devices/01:00.0/vendor", "0x10de\n");
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(host.devices.len(), 2);
    assert_eq!(host.gaps.len(), 1);
}

#[test]
fn a_bus_full_of_functions_is_read() {
    let dir = host();
    let links = dir.path().join("sys/bus/pci/devices");
    for devfn in 0..=255_u8 {
        let name = format!("0001:10:{:02x}.{}", devfn >> 3, devfn & 7);
        let target = "../../../devices/pci0009:00/0009:00:00.0/0009:01:00.0";
        link(&links.join(name), target);
    }
    let host = Host::read(dir.path()).expect("host");
    assert_eq!(host.devices.len(), 256 + 2);
}

#[test]
fn the_address_width_and_the_iommufd_device_are_read_where_there_are_any() {
    let with = |path: &str, content: &str| {
        let dir = host();
        put(dir.path(), path, content);
        Host::read(dir.path()).expect("host")
    };
    let cpuinfo = "processor\t: 0\naddress sizes\t: 46 bits physical, 57 bits virtual\n";
    let host = with("proc/cpuinfo", cpuinfo);
    assert_eq!((host.address_bits, host.iommufd), (Some(46), false));
    assert!(with("sys/class/misc/iommu/dev", "10:125\n").iommufd);
    let release = host.kernel_release.as_deref().expect("release");
    let config = |text: &str| with(&format!("boot/config-{release}"), text).nests_smmu;
    assert_eq!(host.nests_smmu, None);
    assert_eq!(config("CONFIG_ARM_SMMU_V3_IOMMUFD=y\n"), Some(true));
    assert_eq!(
        config("# CONFIG_ARM_SMMU_V3_IOMMUFD is not set\n"),
        Some(false)
    );
    let packed = |text: &str| {
        let dir = self::host();
        fs::create_dir_all(dir.path().join("proc")).expect("directory");
        let content = kconfig::packed(text.as_bytes()).expect("packed");
        fs::write(dir.path().join(kconfig::SHOWN), content).expect("file");
        Host::read(dir.path()).expect("host").nests_smmu
    };
    assert_eq!(packed("CONFIG_ARM_SMMU_V3_IOMMUFD=y\n"), Some(true));
    assert_eq!(packed("CONFIG_X=y\n"), Some(false));
    let queues = |text: &str| with(&format!("boot/config-{release}"), text).command_queues;
    assert_eq!(queues("CONFIG_TEGRA241_CMDQV=y\n"), Some(true));
    assert_eq!(queues("# CONFIG_TEGRA241_CMDQV is not set\n"), Some(false));
    for other in ["", "CONFIG_TEGRA241_CMDQV_X=y\n", "CONFIG_X=y\n"] {
        assert_eq!(queues(other), None, "{other}");
    }
    let strange = with("proc/cpuinfo", "address sizes\t: many\n");
    assert_eq!(strange.address_bits, None);
}

#[test]
fn cache_keeps_installed_files_until_they_change() {
    let dir = host();
    let path = dir.path().join("lib/modules/7.2.12-arm64/modules.alias");
    let line = |module: &str| format!("alias vfio_pci:v*d*sv*sd*bc*sc*i* {module}\n");
    let cache = Cache::default();
    let modules = || {
        let host = Host::read_again(dir.path(), &cache).expect("host");
        let modules = host.variants.into_iter().map(|variant| variant.module);
        modules.collect::<Vec<_>>()
    };
    fs::write(&path, line("one")).expect("written");
    assert_eq!(modules(), ["one"]);
    assert_eq!(modules(), ["one"]);
    let new = path.with_extension("new");
    fs::write(&new, line("two")).expect("written");
    fs::rename(&new, &path).expect("replaced, as depmod does it");
    assert_eq!(modules(), ["two"]);
    fs::write(&path, line("three")).expect("written in place");
    assert_eq!(modules(), ["three"]);
    fs::remove_file(&path).expect("removed");
    assert_eq!(modules(), [""; 0]);
}

#[test]
fn a_modules_alias_that_is_missing_or_huge_is_a_gap_and_costs_nothing_else() {
    let dir = host();
    let whole = Host::read(dir.path()).expect("host");
    let path = dir.path().join("lib/modules/7.2.12-arm64/modules.alias");
    let line = "alias vfio_pci:v*d*sv*sd*bc*sc*i* vfio_pci\n";
    for text in [None, Some(line.repeat((9 << 20) / line.len()))] {
        fs::remove_file(&path).expect("removed");
        if let Some(text) = text {
            fs::write(&path, text).expect("huge");
        }
        let host = Host::read(dir.path()).expect("still a host");
        assert!(host.variants.is_empty());
        assert_eq!(host.devices, whole.devices);
        let gaps = gaps(&host);
        assert!(
            matches!(&gaps[..], [gap] if gap.contains("modules.alias")),
            "{gaps:?}"
        );
        fs::write(&path, line).expect("as before");
    }
}

#[test]
fn egm_regions_are_read_in_each_of_the_three_forms() {
    let region = "sys/class/egm/egm4";
    let read = |write: &dyn Fn(&Path)| {
        let dir = host();
        put(dir.path(), &format!("{region}/dev"), "240:4\n");
        write(dir.path());
        let host = Host::read(dir.path()).expect("host");
        let copy = tempfile::tempdir().expect("scratch directory");
        crate::record::record(dir.path(), copy.path()).expect("recorded");
        assert_eq!(Host::read(copy.path()).expect("recording"), host);
        assert!(gaps(&host).is_empty(), "{:?}", host.gaps);
        host.egm
    };
    let size = |root: &Path| put(root, &format!("{region}/egm_size"), "0x6fc0000000\n");
    let listed = read(&|root| {
        size(root);
        put(root, &format!("{region}/gpu_devices"), &format!("{GPU}\n"));
    });
    assert_eq!((listed[0].number, listed[0].gpus.len()), (4, 1));
    assert_eq!(listed[0].bytes, Some(457_728 << 20));
    assert_eq!(listed[0].path(), "/dev/egm4");
    let linked = read(&|root| {
        size(root);
        link(&root.join(region).join(GPU), "../../../bus/pci/devices/x");
    });
    assert_eq!(linked, listed);
    let linking = read(&|root| {
        link(
            &root.join(GPU_DIR).join("egm4"),
            "../../../../class/egm/egm4",
        );
    });
    assert_eq!(
        (&linking[0].gpus, linking[0].bytes),
        (&listed[0].gpus, None)
    );
    let alone = read(&|_| {});
    assert!(alone[0].gpus.is_empty());
}

#[test]
fn strange_egm_entries_are_gaps_and_cost_nothing_else() {
    let with = |path: &str, content: &str| {
        let dir = host();
        put(dir.path(), path, content);
        Host::read(dir.path()).expect("host")
    };
    for (path, content) in [
        ("sys/class/egm/egm04/dev", "240:4\n"),
        ("sys/class/egm/egm4/egm_size", "0x0\n"),
        ("sys/class/egm/egm4/egm_size", "many\n"),
        ("sys/class/egm/egm4/gpu_devices", "0009:01:00.0 x\n"),
        ("sys/class/egm", "a file\n"),
    ] {
        let host = with(path, content);
        assert_eq!(gaps(&host).len(), 1, "{path} {content}: {:?}", host.gaps);
        assert!(
            host.egm
                .iter()
                .all(|region| region.bytes.is_none() && region.gpus.is_empty())
        );
        assert_eq!(host.devices.len(), 2);
    }
    let dir = host();
    for number in 0..100 {
        put(dir.path(), &format!("sys/class/egm/egm{number}/dev"), "\n");
    }
    let host = Host::read(dir.path()).expect("host");
    assert_eq!((host.egm.len(), gaps(&host).len()), (64, 1));
}

#[test]
fn a_snapshot_without_egm_regions_has_the_form_of_earlier_releases() {
    let text = serde_json::to_string(&Host::default()).expect("JSON");
    assert!(!text.contains("egm"), "{text}");
    assert_eq!(
        serde_json::from_str::<Host>(&text).expect("read"),
        Host::default()
    );
}

#[test]
fn threads_read_the_same_as_one() {
    let dir = host();
    let root = dir.path();
    for number in 0..600 {
        let (bus, slot) = (number / 32, number % 32);
        let address = format!("0001:{bus:02x}:{slot:02x}.0");
        device(root, &address, "pci0001:00", "0x2342", "0x030200");
        let file = |name: &str| root.join(format!("sys/devices/pci0001:00/{address}/{name}"));
        match number % 50 {
            0 => fs::remove_file(file("vendor")).expect("removed"),
            1 => fs::write(file("class"), "red").expect("written"),
            2 => fs::remove_file(file("config")).expect("removed"),
            _ => {}
        }
    }
    let hidden = "/sys/bus/pci/devices/0001:00:02.0/config";
    put(
        root,
        crate::reader::RECORDED_GAPS,
        &format!("{hidden}: permission denied\n"),
    );
    // The root itself is read by one thread.
    let tree = crate::sysfs::Root::new(root.to_owned()).expect("root");
    let one = Host::read_tree(&tree, root, &Cache::default()).expect("host");
    let many = Host::read(root).expect("host");
    assert_eq!(many, one);
    assert_eq!(many.devices.len(), 590);
    let reason = many.gaps.iter().find(|gap| gap.path == hidden);
    assert_eq!(reason.map(|gap| &*gap.reason), Some("permission denied"));
}
