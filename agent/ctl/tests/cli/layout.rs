//! `variantctl layout` on modelled hosts: Grace, HGX with SMT, sub-NUMA clustering, offline CPUs, no huge pages, and other guests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testing::hosts::machine::{Endpoint, Machine, Platform, Processors};
use testing::hosts::{modelled, tree, x86};

use super::{data, failure, schema, stdout, variantctl};

const PAGES: &[(u64, u64, u64)] = &[(2048, 65_536, 65_536), (1_048_576, 384, 384)];
/// Pages of a kernel with normal pages of 64 KiB.
const GRACE_PAGES: &[(u64, u64, u64)] = &[(2048, 0, 0), (524_288, 600, 600), (16_777_216, 0, 0)];

/// A modelled machine with other processors.
fn machine(name: &str, processors: Processors) -> Machine {
    let machine = modelled().find(|one| one.name == name);
    let machine = machine.expect("a modelled host");
    Machine {
        processors,
        ..machine
    }
}

/// A desktop with one GPU and eight cores with two threads each; no huge pages.
fn desktop() -> Machine {
    Machine {
        sockets: 1,
        cpus: 16,
        memory_kib: &[65_536_000],
        endpoints: machine("hgx-8gpu", Processors::PLAIN).endpoints[..1].to_vec(),
        platform: Platform::Amd,
        ..machine("hgx-8gpu", Processors::SMT)
    }
}

/// Eight GPUs, each with a network adapter on the same socket, and two threads for each core.
fn hgx() -> Machine {
    let machine = machine(
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
fn nps4() -> Machine {
    let machine = machine(
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

/// A scratch folder with a host and definitions.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new(machine: &Machine) -> Self {
        let dir = tempfile::tempdir().expect("scratch directory");
        tree::write(&dir.path().join("host"), &machine.tree()).expect("a host");
        Self { dir }
    }

    fn host(&self) -> PathBuf {
        self.dir.path().join("host")
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).expect("a definition");
        path.to_str().expect("text").to_owned()
    }

    /// Text and notes, and the JSON, which has the schema and the same notes.
    fn layout(&self, arguments: &[&str]) -> (String, Value) {
        let output = variantctl(&self.host(), &[&["layout"], arguments].concat());
        let notes = String::from_utf8(output.stderr.clone()).expect("text");
        let printed = variantctl(&self.host(), &[&["--json", "layout"], arguments].concat());
        let json = schema::check("layout", &stdout(&printed));
        let count = json["notes"].as_array().expect("notes").len();
        assert_eq!(notes.lines().count(), count, "{notes}");
        (stdout(&output) + &notes, json)
    }
}

/// A guest with all GPUs and adapters of a machine.
fn guest(machine: &Machine, vcpus: u32, gib: u64, arch: &str) -> String {
    let devices = machine.endpoints.iter().map(|one| {
        let (segment, rest) = one.address.split_once(':').expect("an address");
        let (bus, _) = rest.split_once(':').expect("an address");
        format!(
            "    <hostdev mode='subsystem' type='pci' managed='no'>\n      <source>\n        <address domain='0x{segment}' bus='0x{bus}' slot='0x00' function='0x0'/>\n      </source>\n    </hostdev>\n"
        )
    });
    let devices: String = devices.collect();
    let board = if arch == "aarch64" { "virt" } else { "q35" };
    format!(
        "<domain type='kvm'>\n  <name>guest</name>\n  <memory unit='GiB'>{gib}</memory>\n  <vcpu>{vcpus}</vcpu>\n  <os>\n    <type arch='{arch}' machine='{board}'>hvm</type>\n    <loader type='pflash'>/usr/share/firmware.fd</loader>\n  </os>\n  <features>\n    <acpi/>\n  </features>\n  <cpu mode='host-passthrough'/>\n  <devices>\n{devices}  </devices>\n</domain>\n"
    )
}

/// The definition of a guest that is pinned to some CPUs.
fn pinned(name: &str, cpus: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><memory>1</memory><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{cpus}'/></cputune><os><type>hvm</type></os><devices/></domain>"
    )
}

macro_rules! golden {
    ($name:ident, $text:expr) => {
        insta::with_settings!({snapshot_path => data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
            insta::assert_snapshot!(stringify!($name), $text);
        });
    };
}

macro_rules! layouts {
    ($($name:ident: $machine:expr, $vcpus:literal vCPUs, $gib:literal GiB, $arch:literal;)+) => {
        $(
            #[test]
            fn $name() {
                let machine = $machine;
                let scene = Scene::new(&machine);
                let file = scene.write("guest.xml", &guest(&machine, $vcpus, $gib, $arch));
                golden!($name, scene.layout(&[&file]).0);
            }
        )+
    };
}

layouts! {
    layout_gb200: machine("gb200-4gpu", Processors { pages: GRACE_PAGES, ..Processors::PLAIN }), 120 vCPUs, 512 GiB, "aarch64";
    layout_gh200: machine("gh200-1gpu", Processors::PLAIN), 64 vCPUs, 400 GiB, "aarch64";
    layout_gb300: machine("gb300-4gpu", Processors { pages: GRACE_PAGES, ..Processors::PLAIN }), 144 vCPUs, 512 GiB, "aarch64";
    layout_hgx: hgx(), 96 vCPUs, 512 GiB, "x86_64";
    layout_mi300x: machine("mi300x-8gpu", Processors { pages: PAGES, ..Processors::PLAIN }), 128 vCPUs, 512 GiB, "x86_64";
    layout_nps4: nps4(), 128 vCPUs, 512 GiB, "x86_64";
    layout_desktop: desktop(), 12 vCPUs, 32 GiB, "x86_64";
    layout_offline: machine("hgx-8gpu", Processors { offline: &[0, 3, 60], ..Processors::SMT }), 48 vCPUs, 256 GiB, "x86_64";
}

#[test]
fn guests_beside_it_are_left_their_cpus_and_named() {
    let machine = hgx();
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &guest(&machine, 64, 256, "x86_64"));
    let first = scene.write("first.xml", &pinned("first", "0-15,56-71"));
    let second = scene.write("second.xml", &pinned("second", "28-29"));
    let own = scene.write("own.xml", &pinned("guest", "20-27"));
    let beside = [
        "--beside", &first, "--beside", &second, "--beside", &own, &file,
    ];
    let (text, json) = scene.layout(&beside);
    golden!(layout_beside, text);
    for cell in json["cells"].as_array().expect("cells") {
        for cpu in cell["pins"].as_array().expect("pins") {
            let cpu = cpu.as_u64().expect("a CPU");
            assert!(!matches!(cpu, 0..=15 | 56..=71 | 28..=29), "{cpu}");
        }
    }
}

#[test]
fn a_guest_without_room_is_refused_with_both_values() {
    let machine = desktop();
    let scene = Scene::new(&machine);
    for (vcpus, gib, why) in [
        (
            17,
            8,
            "the guest has 17 vCPUs, and 16 CPUs of the host are free",
        ),
        (
            4,
            64,
            "the guest has 65536 MiB of memory, and 64000 MiB of the host's nodes are free",
        ),
    ] {
        let file = scene.write("guest.xml", &guest(&machine, vcpus, gib, "x86_64"));
        let (status, text) = failure(&variantctl(&scene.host(), &["layout", &file]));
        assert_eq!(status, 1);
        assert!(text.contains(why) && text.contains("VD-NUM-017"), "{text}");
    }
}

#[test]
fn the_written_definition_can_be_completed_and_is_not_written_again() {
    let machine = machine("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &guest(&machine, 8, 64, "aarch64"));
    let text = stdout(&variantctl(&scene.host(), &["layout", "--xml", &file]));
    golden!(layout_xml, &text);
    let written = scene.write("written.xml", &text);
    let completed = stdout(&variantctl(&scene.host(), &["rewrite", &written]));
    let cells = completed.matches("<cell id=").count();
    assert_eq!(cells, 2 + 4 * 8, "{completed}");
    let (status, why) = failure(&variantctl(&scene.host(), &["layout", "--xml", &written]));
    assert!(status == 1 && why.contains("VD-NUM-023"), "{why}");
    let again = scene.layout(&[&written]).1;
    assert_eq!(again["cells"], scene.layout(&[&file]).1["cells"]);
}

#[test]
fn a_snapshot_has_the_cores_and_one_of_an_earlier_release_says_that_it_has_none() {
    let machine = machine("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &guest(&machine, 8, 64, "aarch64"));
    let output = variantctl(&scene.host(), &["snapshot"]);
    assert!(output.status.success());
    let text = stdout(&output);
    let snapshot = scene.write("host.json", &text);
    let cells = |host: &str| {
        let output = variantctl(Path::new(host), &["--json", "layout", &file]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let json: Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        (json["cells"].clone(), said)
    };
    let (from_snapshot, said) = cells(&snapshot);
    assert_eq!(from_snapshot, scene.layout(&[&file]).1["cells"]);
    assert!(!said.contains("has no cores"), "{said}");
    let mut older: Value = serde_json::from_str(&text).expect("JSON");
    older.as_object_mut().expect("an object").remove("capacity");
    let older = scene.write("older.json", &older.to_string());
    assert!(cells(&older).1.contains("this snapshot has no cores"));
    let mirror = ["plan", "--numa", "mirror", &file];
    let (status, why) = failure(&variantctl(Path::new(&older), &mirror));
    assert!(status == 1 && why.contains("VD-NUM-028"), "{why}");
    let planned = stdout(&variantctl(Path::new(&snapshot), &mirror));
    assert!(
        planned.contains("the NUMA layout of the host nodes"),
        "{planned}"
    );
}

#[test]
fn rewrite_mirrors_the_layout_once_and_revert_leaves_the_option() {
    let machine = machine("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &guest(&machine, 8, 64, "aarch64"));
    let host = scene.host();
    let text = stdout(&variantctl(&host, &["rewrite", "--numa", "mirror", &file]));
    assert_eq!(text.matches("<vcpupin").count(), 8, "{text}");
    let done = scene.write("done.xml", &text);
    assert_eq!(stdout(&variantctl(&host, &["rewrite", &done])), text);
    let reverted = stdout(&variantctl(&host, &["revert", "--file", &done]));
    assert!(
        reverted.contains("numa='mirror'") && !reverted.contains("<vcpupin"),
        "{reverted}"
    );
    let reverted = scene.write("reverted.xml", &reverted);
    assert_eq!(stdout(&variantctl(&host, &["rewrite", &reverted])), text);
    // The drawing completes a definition, so it has the layout that the option asks for.
    let drawn = |file: &str| stdout(&variantctl(&host, &["topology", "--file", file]));
    assert_eq!(drawn(&reverted), drawn(&done));
}
