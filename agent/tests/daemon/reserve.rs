//! `variantctl reserve`, `variantd --reserve` and `variantctl list` together, on a recorded host. Its files bind
//! nothing, so a reservation is in force only if the device is already bound.

use std::fs;
use std::process::{Command, Output};

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";
const NIC: &str = "0000:00:1f.0";
/// The port above the GPU.
const PORT: &str = "0009:00:00.0";

/// Runs the command of the unit at boot.
pub(crate) fn boot(scene: &Scene) -> (bool, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_variantd"))
        .arg("--reserve")
        .args(["--config".as_ref(), scene.path("variantd.conf").as_os_str()])
        .args(["--run-dir".as_ref(), scene.path("run").as_os_str()])
        .args(["--state-dir".as_ref(), scene.path("state").as_os_str()])
        .args(["--root".as_ref(), scene.path("host").as_os_str()])
        .env("VARIANTD_LOG", "info,agent::child=debug")
        .output()
        .expect("variantd runs");
    let log = String::from_utf8(output.stderr).expect("text");
    (output.status.success(), log)
}

/// Runs the command of the udev rule.
fn claim(scene: &Scene, device: &str) -> Output {
    Command::new("timeout")
        .args(["60", env!("CARGO_BIN_EXE_variantd"), "--reserved", device])
        .args(["--config".as_ref(), scene.path("variantd.conf").as_os_str()])
        .args(["--run-dir".as_ref(), scene.path("run").as_os_str()])
        .args(["--state-dir".as_ref(), scene.path("state").as_os_str()])
        .args(["--root".as_ref(), scene.path("host").as_os_str()])
        .output()
        .expect("variantd runs")
}

#[test]
fn claim_reads_only_the_device_that_appeared() {
    let scene = Scene::new();
    let reserved = |device: &str, id: &str| {
        let text = format!("device = \"{device}\"\nid = \"{id}\"\n");
        scene.write(&format!("reserved.d/{device}.toml"), &text);
    };
    let devices = scene.path("host/sys/bus/pci/devices");
    fs::remove_file(devices.join(GPU).join("driver")).expect("off its driver");
    reserved(GPU, "10de:2342");
    // A reader of all devices would block here until there is a writer.
    let pipe = devices.join(PORT).join("config");
    fs::remove_file(&pipe).expect("removed");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("a pipe");
    let output = claim(&scene, GPU);
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(printed.trim(), "nvgrace_gpu_vfio_pci", "{complaint}");
    reserved("0009:42:00.0", "10de:2342");
    let output = claim(&scene, "0009:42:00.0");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(complaint.contains("VD-DEV-001"), "{complaint}");
}

fn list(scene: &Scene, arguments: &[&str]) -> Output {
    let host = ["--host", "host", "--recipes", "recipes.d"];
    let output = scene.variantctl(&[&["list"], &host[..], arguments].concat());
    assert!(output.status.success());
    output
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn a_reservation_in_force_is_listed_and_applied_without_a_bus() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let printed = scene.says(&["reserve", "--driver", "nvidia", GPU]);
    assert_eq!(
        printed,
        format!("'{GPU}' is reserved: it is bound at each boot\n")
    );
    let printed = scene.says(&["reserve", "--driver", "nvidia", GPU]);
    assert_eq!(printed, format!("'{GPU}' is already reserved\n"));
    drop(agent);
    let (success, log) = boot(&scene);
    assert!(success, "{log}");
    assert!(
        log.contains("is reserved and bound to 'nvidia' already"),
        "{log}"
    );
    let listed = complaint(&list(&scene, &[]));
    assert_eq!(listed, format!("reserved for guests: {GPU}\n"));
}

#[test]
fn reservation_not_in_force_is_logged_and_listed() {
    let scene = Scene::new();
    let (success, log) = boot(&scene);
    assert!(success && log.is_empty(), "{log}");
    // A registered driver, so that no module is loaded; a write to it binds nothing.
    let driver = scene.path("host/sys/bus/pci/drivers/nvgrace_gpu_vfio_pci");
    fs::create_dir_all(driver).expect("driver");
    scene.write(
        &format!("reserved.d/{GPU}.toml"),
        &format!("device = \"{GPU}\"\nid = \"10de:2342\"\n"),
    );
    scene.write(
        &format!("reserved.d/{NIC}.toml"),
        &format!("device = \"{NIC}\"\nid = \"10de:2342\"\n"),
    );
    scene.write("reserved.d/x.toml", "devise = 1\n");
    let (success, log) = boot(&scene);
    assert!(!success);
    for part in [
        &format!("cannot bind '{GPU}'"),
        "VD-DEV-001",
        "unknown key 'devise'",
    ] {
        assert!(log.contains(part), "{part}: {log}");
    }
    let printed = complaint(&list(&scene, &[]));
    for part in [
        "instead of 'nvgrace_gpu_vfio_pci'",
        "VD-DEV-001",
        "unknown key 'devise'",
    ] {
        assert!(printed.contains(part), "{part}: {printed}");
    }
    let json: serde_json::Value =
        serde_json::from_slice(&list(&scene, &["--json"]).stdout).expect("JSON");
    let sentences = json["reservations"].as_array().expect("reservations");
    assert_eq!(sentences.len(), 3);
    assert!(sentences.iter().all(|one| one["sentence"].is_string()));
}

#[test]
fn dry_run_lists_the_first_writes_of_a_real_agent() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    // Files that accept the writes without an effect.
    for file in ["nvidia/unbind", "nvgrace_gpu_vfio_pci/bind"] {
        scene.write(&format!("host/sys/bus/pci/drivers/{file}"), "");
    }
    let planned = scene.says(&["bind", "--dry-run", GPU]);
    scene.says(&["reserve", GPU]);
    let (success, log) = boot(&scene);
    assert!(!success && log.contains("it is bound to 'nvidia'"), "{log}");
    let written = log.lines().filter_map(|line| line.strip_prefix("DEBUG "));
    let written: Vec<&str> = written.filter(|line| line.contains(" <- ")).collect();
    let planned: Vec<&str> = planned.lines().collect();
    assert_eq!(planned.len(), 3);
    assert_eq!(written[..3], planned);
}

#[test]
fn a_reservation_ends_even_when_its_device_is_gone() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    scene.write(&format!("reserved.d/{NIC}.toml"), "nonsense");
    let printed = scene.says(&["unreserve", NIC]);
    assert_eq!(printed, format!("'{NIC}' is no longer reserved\n"));
    let printed = scene.says(&["unreserve", NIC]);
    assert_eq!(printed, format!("'{NIC}' was not reserved\n"));
    assert_eq!(scene.fails(&["reserve", NIC]).0, 3);
}
