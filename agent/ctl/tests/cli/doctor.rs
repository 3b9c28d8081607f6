//! `variantctl doctor` as a process: the screen of recorded and modelled hosts, its JSON and its exit status.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Output;

use serde_json::Value;
use tests::program;

use super::{damaged, damaged_one, host, variantctl};

const GPU: &str = "0018:01:00.0";

fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
    fs::write(path, text).expect("file");
}

/// The recorded host without an installed variantd.
fn untouched() -> tempfile::TempDir {
    damaged(|root| {
        put(root, "proc/cmdline", "root=/dev/nvme0n1p2 ro\n");
        for dir in [
            "sys/module",
            "etc/libvirt",
            "usr/share/dbus-1",
            "run/variantd",
            "etc/variantd",
        ] {
            fs::create_dir_all(root.join(dir)).expect("directory");
        }
        fs::create_dir_all(root.join("etc/systemd/system/multi-user.target.wants"))
            .expect("directory");
        let release = fs::read_to_string(root.join("proc/sys/kernel/osrelease")).expect("release");
        put(
            root,
            &format!("lib/modules/{}/modules.dep", release.trim()),
            "updates/nvgrace-gpu-vfio-pci.ko:\n",
        );
        put(
            root,
            &format!(
                "lib/modules/{}/updates/nvgrace-gpu-vfio-pci.ko",
                release.trim()
            ),
            "",
        );
        put(
            root,
            "sys/firmware/acpi/tables/SSDT1",
            "..nvidia,gpu-mem-size\0..",
        );
    })
}

fn doctor(root: &Path, arguments: &[&str]) -> (i32, String) {
    let output: Output = variantctl(root, &[&["doctor"], arguments].concat());
    assert!(
        output.stderr.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let text = String::from_utf8(output.stdout).expect("text");
    let shown = text.replace(&root.display().to_string(), "DIR");
    (output.status.code().expect("an exit status"), shown)
}

fn screen(name: &str, text: String) {
    insta::with_settings!({snapshot_path => super::data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!(name, text);
    });
}

#[test]
fn doctor_names_missing_parts_of_a_recorded_host() {
    let (status, text) = doctor(&host("gb200-4gpu"), &[]);
    assert_eq!(status, 0);
    screen("doctor_recorded", text);
}

#[test]
fn doctor_finds_the_missing_hook_and_policy_of_a_new_host() {
    let root = untouched();
    let (status, text) = doctor(root.path(), &[]);
    assert_eq!(status, 1);
    screen("doctor_untouched", text);
}

/// A host whose GPUs are bound, whose recipe requires EGM, and whose firmware has it off.
#[test]
fn doctor_names_the_firmware_when_the_recipe_asks_for_egm_and_the_class_is_empty() {
    let root = damaged_one("gb200-egm", |root| {
        let class = root.join("sys/class/egm");
        fs::remove_dir_all(&class).expect("regions");
        fs::create_dir(&class).expect("an empty class");
        let shipped = include_str!("../../../recipes/nvidia-grace.toml");
        let own = shipped.replacen("[egm]\nneed = \"ignore\"", "[egm]\nneed = \"require\"", 1);
        put(root, "recipes.d/nvidia-grace.toml", &own);
    });
    let recipes = root.path().join("recipes.d").display().to_string();
    let of_egm = |root: &Path| {
        let options = ["--recipes", &recipes, "-q", "--only", "VD-DOC-056"];
        doctor(root, &options)
    };
    let (status, text) = of_egm(root.path());
    assert_eq!(status, 1);
    screen("doctor_egm_off", text);
    let options = ["--recipes", &recipes, "-v", "--only", "VD-DOC-056"];
    let (_, text) = doctor(root.path(), &options);
    assert!(text.contains("\n    read from /sys/class/egm\n"), "{text}");
    assert_eq!(of_egm(&host("gb200-egm")), (0, String::new()));
}

#[test]
fn doctor_quiet_prints_only_warnings_and_failures() {
    let root = untouched();
    let (status, text) = doctor(root.path(), &["-q", "--only", "devices,host"]);
    assert_eq!((status, text.as_str()), (0, ""));
    let (status, text) = doctor(root.path(), &["-q", "--only", "VD-DOC-040"]);
    assert!(
        status == 1 && text.starts_with("installation\n  VD-DOC-040: "),
        "{text}"
    );
    assert_eq!(text.lines().count(), 2, "{text}");
}

/// What is changed of the untouched host, the code that shows it, and words of the line.
type Change = (fn(&Path), &'static str, &'static str);

#[rustfmt::skip]
const CHANGES: [Change; 9] = [
    (|root| put(root, "etc/modprobe.d/gpu.conf", "# mine\nblacklist nvgrace-gpu-vfio-pci\n"),
     "VD-DOC-012", "'sed -i 2s/^/#/ /etc/modprobe.d/gpu.conf'"),
    (|root| put(root, "proc/cmdline", "module_blacklist=nouveau,nvgrace_gpu_vfio_pci\n"), "VD-DOC-012", "command line"),
    (|root| put(root, "sys/module/vfio/parameters/enable_unsafe_noiommu_mode", "Y\n"), "VD-DOC-002", "WARN"),
    (|root| put(root, "sys/firmware/acpi/tables/SSDT1", "nothing"), "VD-BND-015", "no ACPI table"),
    (|root| put(root, &format!("sys/bus/pci/devices/{GPU}/reset_method"), "\n"), "VD-BND-008", "no reset method for it"),
    (|root| put(root, "etc/libvirt/hooks/qemu.d/variantd", "#!/bin/sh\nexit 0\n"), "VD-DOC-043", "to another name"),
    (|root| symlinked(root, "/opt/gone/variantd-hook"), "VD-DOC-040", "which is not there"),
    (|root| { symlinked(root, "/usr/sbin/variantd-hook"); put(root, "usr/sbin/variantd-hook", "\x7fELF") },
     "VD-DOC-041", "'chmod 755 /usr/sbin/variantd-hook"),
    (|root| put(root, "run/variantd/journal/6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11.json", DEGRADED), "VD-BND-004", "'variantctl recover 0018:01:00.0'"),
];

const DEGRADED: &str = r#"{"version": 1, "uuid": "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11", "name": "d0", "devices":
    [{"address": "0018:01:00.0", "driver": "nvgrace_gpu_vfio_pci", "before": null, "state": "degraded"}]}"#;

fn symlinked(root: &Path, target: &str) {
    let dir = root.join("etc/libvirt/hooks/qemu.d");
    fs::create_dir_all(&dir).expect("directory");
    symlink(target, dir.join("variantd")).expect("link");
}

#[test]
fn each_fault_of_a_modelled_host_is_found_by_its_code() {
    for (change, code, words) in CHANGES {
        let root = untouched();
        change(root.path());
        let (_, text) = doctor(root.path(), &["-q", "--only", code]);
        assert!(
            text.contains(code) && text.contains(words),
            "{code}: {text}"
        );
    }
}

#[test]
fn doctor_names_a_damaged_journal_and_keeps_it() {
    let root = untouched();
    let entry = "run/variantd/journal/6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11.json";
    put(root.path(), entry, "{");
    let (status, text) = doctor(root.path(), &["-q", "--only", "VD-BND-010"]);
    assert!(status == 1 && text.contains(entry), "{text}");
    assert!(root.path().join(entry).exists());
}

#[test]
fn a_warning_changes_the_exit_status_only_with_its_option() {
    let root = untouched();
    put(
        root.path(),
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    let (status, text) = doctor(root.path(), &["--only", "host"]);
    assert!(
        status == 0 && text.contains("do not change the exit status without --strict"),
        "{text}"
    );
    let (status, text) = doctor(root.path(), &["--only", "host", "--strict"]);
    assert!(status == 1 && !text.contains("without --strict"), "{text}");
}

#[test]
fn the_json_has_each_check_with_its_command() {
    let root = untouched();
    let (status, text) = doctor(root.path(), &["--json", "--only", "installation"]);
    let json: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!((status, &json["version"]), (1, &1.into()));
    let checks = json["checks"].as_array().expect("checks");
    let hook = checks
        .iter()
        .find(|check| check["code"] == "VD-DOC-040")
        .expect("the hook's");
    assert_eq!(
        (&hook["verdict"], &hook["group"]),
        (&"fail".into(), &"installation".into())
    );
    assert_eq!(
        json["summary"]["fail"],
        checks
            .iter()
            .filter(|check| check["verdict"] == "fail")
            .count()
    );
}

#[test]
fn doctor_refuses_an_unknown_group_or_code() {
    let output = variantctl(&host("gb200-4gpu"), &["doctor", "--only", "hostt"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2));
    assert!(
        printed.contains("host, devices, libvirt, domains, installation"),
        "{printed}"
    );
}

/// variantctl without its own program beside it, and without a package: what asks libvirt is missing, not libvirt.
#[test]
fn a_missing_helper_program_is_not_reported_as_a_stopped_libvirt() {
    let directory = tempfile::tempdir().expect("directory");
    let alone = directory.path().join("variantctl");
    program::copy(Path::new(env!("CARGO_BIN_EXE_variantctl")), &alone);
    if std::path::Path::new("/usr/libexec/variantd/variantd-libvirt").exists() {
        return println!("not run: variantd is installed here");
    }
    let output = std::process::Command::new(&alone)
        .args(["doctor", "--json", "--only", "VD-DOC-025"])
        .output()
        .expect("variantctl runs");
    let printed = String::from_utf8(output.stdout).expect("text");
    assert!(printed.contains("variantd-libvirt"), "{printed}");
    assert!(
        printed.contains("apt-get install --reinstall variantd"),
        "{printed}"
    );
    assert!(!printed.contains("systemctl start"), "{printed}");
}
