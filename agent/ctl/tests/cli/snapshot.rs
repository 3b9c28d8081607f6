//! A snapshot instead of a recorded host: the same answers, and the error for an unreadable one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{data, failure, host, stdout, variantctl};

struct Pair {
    directory: PathBuf,
    snapshot: PathBuf,
    _keep: tempfile::TempDir,
}

/// A recorded host, and its snapshot as `variantctl snapshot` writes it.
fn pair(name: &str) -> Pair {
    let keep = tempfile::tempdir().expect("directory");
    let (directory, snapshot) = (host(name), keep.path().join("host.json"));
    let file = snapshot.to_str().expect("text").to_owned();
    assert_eq!(stdout(&variantctl(&directory, &["snapshot", &file])), "");
    Pair {
        directory,
        snapshot,
        _keep: keep,
    }
}

/// Exit status, output and complaints on a host, without the host's own name.
fn printed(on: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = variantctl(on, arguments);
    let text = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.replace(&*on.to_string_lossy(), "HOST")
    };
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

fn names(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(data(folder)).expect(folder).flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.ends_with(end)).collect()
}

#[test]
fn a_snapshot_gives_the_same_answers_as_its_host() {
    let (hosts, definitions) = (testing::hosts::names(), names("golden", ".xml"));
    assert!(hosts.len() > 10 && definitions.len() > 3);
    for name in hosts {
        let pair = pair(&name);
        let same = |arguments: &[&str]| {
            let files = printed(&pair.directory, arguments);
            assert_eq!(
                files,
                printed(&pair.snapshot, arguments),
                "{name}: {arguments:?}"
            );
            files
        };
        for verb in ["topology", "atomics"] {
            same(&["--json", verb]);
        }
        same(&["list", "--all"]);
        same(&["doctor"]);
        let (_, listed, _) = same(&["--json", "list"]);
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("JSON");
        if let Some(address) = listed["devices"][0]["address"].as_str() {
            same(&["show", address]);
        }
        for xml in definitions.iter().step_by(4) {
            same(&["plan", xml]);
        }
        same(&["--json", "plan", &definitions[0]]);
    }
}

#[test]
fn a_snapshot_of_a_snapshot_is_the_same_text() {
    let pair = pair("gb200-4gpu");
    let again = stdout(&variantctl(&pair.snapshot, &["snapshot"]));
    assert_eq!(again, fs::read_to_string(&pair.snapshot).expect("text"));
    assert!(again.len() < 128 << 10, "{} bytes", again.len());
}

#[test]
fn a_plan_is_for_the_versions_that_a_snapshot_names() {
    let keep = tempfile::tempdir().expect("directory");
    let file = keep.path().join("old.json");
    let name = file.to_str().expect("text");
    let versions = ["--target", "libvirt=11.3,qemu=10.0"];
    let write = [&["snapshot", name], &versions[..]].concat();
    stdout(&variantctl(&host("gh200-1gpu"), &write));
    let (_, asked, _) = printed(
        &host("gh200-1gpu"),
        &[&["plan", "gh200.xml"], &versions[..]].concat(),
    );
    let (_, named, notes) = printed(&file, &["plan", "gh200.xml"]);
    assert_eq!(asked, named);
    assert!(asked.contains("qemu:commandline"), "{asked}");
    assert!(!notes.contains("--target"), "{notes}");
}

#[test]
fn invalid_snapshot_is_refused_with_a_hint() {
    let (code, text) = failure(&variantctl(&data("golden/gh200.xml"), &["list"]));
    assert_eq!(code, 1);
    assert!(
        text.contains("VD-HST-001") && text.contains("variantctl snapshot"),
        "{text}"
    );
    let keep = tempfile::tempdir().expect("directory");
    let newer = keep.path().join("newer.json");
    fs::write(&newer, "{\"version\": 2}\n").expect("written");
    let (code, text) = failure(&variantctl(&newer, &["doctor"]));
    assert!(code == 1 && text.contains("VD-HST-002"), "{text}");
}

#[test]
fn a_bare_name_is_a_file_in_the_current_directory() {
    let keep = tempfile::tempdir().expect("directory");
    let written = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .current_dir(keep.path())
        .args(["--recipes", "/nonexistent", "--host"])
        .arg(host("gh200-1gpu"))
        .args(["snapshot", "host.json"])
        .output()
        .expect("variantctl runs");
    assert_eq!(stdout(&written), "");
    let list = variantctl(&keep.path().join("host.json"), &["list"]);
    assert!(stdout(&list).contains("0009:01:00.0"));
}

#[test]
fn a_plan_is_for_the_stack_that_a_snapshot_names() {
    let keep = tempfile::tempdir().expect("directory");
    let file = keep.path().join("vendor.json");
    let name = file.to_str().expect("text");
    let target = ["--target", "nvidia-10.1"];
    let write = [&["snapshot", name], &target[..]].concat();
    stdout(&variantctl(&host("gh200-1gpu"), &write));
    let rewrite = |host: &Path, arguments: &[&str]| {
        let all = [&["rewrite", "gh200.xml"], arguments].concat();
        stdout(&variantctl(host, &all))
    };
    let asked = rewrite(&host("gh200-1gpu"), &target);
    assert_eq!(asked, rewrite(&file, &[]));
    assert!(asked.contains("iommufd='yes'"), "{asked}");
    let text = fs::read_to_string(&file).expect("text");
    assert!(text.contains("11.9.0+nvidia4-1"), "{text}");
    let again = stdout(&variantctl(&file, &["snapshot"]));
    assert_eq!(again, text);
}

/// Runs `snapshot --nova FORM`: the text, and the content as JSON.
fn nova(host: &Path, form: &str) -> (String, serde_json::Value) {
    let text = stdout(&variantctl(host, &["snapshot", "--nova", form]));
    let json = variantctl(host, &["--json", "snapshot", "--nova", form]);
    (text, serde_json::from_str(&stdout(&json)).expect("JSON"))
}

#[test]
fn nova_gets_the_traits_of_the_host_and_its_devices() {
    let host = host("gb200-4gpu");
    let (provider, in_json) = nova(&host, "provider");
    let traits = &in_json["providers"][0]["traits"]["additional"];
    for one in traits.as_array().expect("traits") {
        let line = format!("        - {}\n", one.as_str().expect("a trait"));
        assert!(provider.contains(&line), "{line}");
    }
    let (specs, in_json) = nova(&host, "device-spec");
    for one in in_json["device_spec"].as_array().expect("a list") {
        assert!(specs.contains(&format!("device_spec = {one}\n")), "{one}");
    }
    insta::with_settings!({snapshot_path => data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("nova", format!("{provider}{specs}"));
    });
    let keep = tempfile::tempdir().expect("directory");
    let file = keep.path().join("provider.yaml");
    let arguments = [
        "snapshot",
        "--nova",
        "provider",
        file.to_str().expect("text"),
    ];
    assert_eq!(stdout(&variantctl(&host, &arguments)), "");
    assert_eq!(fs::read_to_string(file).expect("a file"), provider);
}

#[test]
fn nova_gets_no_trait_of_a_host_without_a_covered_device() {
    let keep = tempfile::tempdir().expect("directory");
    fs::create_dir_all(keep.path().join("sys/bus/pci/devices")).expect("directory");
    let output = variantctl(keep.path(), &["snapshot", "--nova", "provider"]);
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("no device of this host is covered"), "{text}");
    assert!(stdout(&output).ends_with("providers: []\n"));
    let (specs, in_json) = nova(keep.path(), "device-spec");
    assert!(specs.ends_with("[pci]\n"), "{specs}");
    assert_eq!(in_json, serde_json::json!({"device_spec": []}));
}

#[test]
fn nova_leaves_a_reserved_device_on_its_driver() {
    let pair = pair("gh200-1gpu");
    let text = fs::read_to_string(&pair.snapshot).expect("text");
    let mut snapshot: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let managed = || nova(&pair.snapshot, "device-spec").1["device_spec"][0]["managed"].clone();
    assert_eq!(managed(), serde_json::Value::Null);
    snapshot["reservations"] = serde_json::json!([{"device": "0009:01:00.0", "id": "10de:2342"}]);
    fs::write(&pair.snapshot, snapshot.to_string()).expect("a snapshot");
    assert_eq!(managed(), "no");
}
