//! `variantctl layout` on modelled hosts: Grace, HGX with SMT, sub-NUMA clustering, offline CPUs, no huge pages, and other guests.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use testing::hosts::machine::{Machine, Processors};
use testing::hosts::numa::{GRACE_PAGES, PAGES, definition, desktop, hgx, nps4, with};
use testing::hosts::tree;

use super::{data, failure, schema, stdout, variantctl};

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
    ($($name:ident: $machine:expr, $vcpus:literal vCPUs, $gib:literal GiB;)+) => {
        $(
            #[test]
            fn $name() {
                let machine = $machine;
                let scene = Scene::new(&machine);
                let file = scene.write("guest.xml", &definition(&machine, $vcpus, $gib));
                golden!($name, scene.layout(&[&file]).0);
            }
        )+
    };
}

layouts! {
    layout_gb200: with("gb200-4gpu", Processors { pages: GRACE_PAGES, ..Processors::PLAIN }), 120 vCPUs, 512 GiB;
    layout_gh200: with("gh200-1gpu", Processors::PLAIN), 64 vCPUs, 400 GiB;
    layout_gb300: with("gb300-4gpu", Processors { pages: GRACE_PAGES, ..Processors::PLAIN }), 144 vCPUs, 512 GiB;
    layout_hgx: hgx(), 96 vCPUs, 512 GiB;
    layout_mi300x: with("mi300x-8gpu", Processors { pages: PAGES, ..Processors::PLAIN }), 128 vCPUs, 512 GiB;
    layout_nps4: nps4(), 128 vCPUs, 512 GiB;
    layout_desktop: desktop(), 12 vCPUs, 32 GiB;
    layout_offline: with("hgx-8gpu", Processors { offline: &[0, 3, 60], ..Processors::SMT }), 48 vCPUs, 256 GiB;
}

#[test]
fn guests_beside_it_are_left_their_cpus_and_named() {
    let machine = hgx();
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &definition(&machine, 64, 256));
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
        let file = scene.write("guest.xml", &definition(&machine, vcpus, gib));
        let (status, text) = failure(&variantctl(&scene.host(), &["layout", &file]));
        assert_eq!(status, 1);
        assert!(text.contains(why) && text.contains("VD-NUM-017"), "{text}");
    }
}

#[test]
fn the_written_definition_can_be_completed_and_is_not_written_again() {
    let machine = with("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &definition(&machine, 8, 64));
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
    let machine = with("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &definition(&machine, 8, 64));
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
    let machine = with("gb200-4gpu", Processors::PLAIN);
    let scene = Scene::new(&machine);
    let file = scene.write("guest.xml", &definition(&machine, 8, 64));
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
