//! `variantd --downgrade`, as the package's scripts run it before an older version is installed.

use std::fs;
use std::process::{Command, Output};

use nix::sys::signal::Signal;
use tests::program;

use crate::scene::Scene;

const DEVICE: &str = "0009:01:00.0";
const GUEST: &str = r#""guest": {"uuid": "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11", "name": "vm"},"#;

/// The record of a device that an administrator has bound, with more fields.
fn bound(more: &str) -> String {
    format!(
        r#"{{"version": 2, "device": "{DEVICE}", "owner": "admin", {more} "target": "nvgrace_gpu_vfio_pci",
        "before": {{"driver": "nvidia", "driver_override": null}}, "phase": "bound"}}"#
    )
}

fn downgrade(scene: &Scene, arguments: &[&str]) -> Output {
    let mut variantd = Command::new(program::built("agent", "variantd"));
    variantd.arg("--config").arg(scene.path("variantd.conf"));
    variantd.arg("--run-dir").arg(scene.path("run"));
    variantd.args(arguments).output().expect("variantd runs")
}

/// Exit status and error output.
fn ended(output: &Output) -> (Option<i32>, String) {
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.code(), text)
}

#[test]
fn records_go_to_the_form_of_0_1_once_the_agent_has_ended_and_come_back() {
    let scene = Scene::new();
    let record = format!("run/records/{DEVICE}.json");
    let older = format!("run/bound/{DEVICE}.json");
    scene.write(&record, &bound(""));
    let mut agent = scene.start();
    agent.says("serves");
    let (status, text) = ended(&downgrade(&scene, &["--downgrade", "0.1.0"]));
    assert_eq!(status, Some(5), "{text}");
    let pid = format!("another variantd (pid {})", agent.id());
    assert!(text.contains(&pid), "{text}");
    assert!(scene.path(&record).exists() && !scene.path(&older).exists());
    let check = downgrade(&scene, &["--downgrade", "0.1.0", "--check"]);
    assert_eq!(ended(&check), (Some(0), String::new()));
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());

    let output = downgrade(&scene, &["--downgrade", "0.1.0"]);
    assert_eq!(ended(&output), (Some(0), String::new()));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("1 devices"), "{text}");
    assert!(!scene.path(&record).exists());
    let text = fs::read_to_string(scene.path(&older)).expect("the older file");
    for part in [
        r#""version": 1"#,
        r#""done": true"#,
        r#""driver": "nvidia""#,
    ] {
        assert!(text.contains(part), "{text}");
    }

    let mut agent = scene.start();
    agent.says("serves");
    assert!(scene.path(&record).exists() && !scene.path(&older).exists());
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
}

#[test]
fn state_that_has_no_older_form_is_refused_and_stays() {
    let scene = Scene::new();
    let record = format!("run/records/{DEVICE}.json");
    scene.write(&record, &bound(GUEST));
    scene.write(
        "variantd.conf",
        "[[device]]\nid = \"10de:1\"\nrecipe = \"mlx5\"\nfunctions = \"any\"\n",
    );
    for arguments in [
        &["--downgrade", "0.1.0", "--check"][..],
        &["--downgrade", "0.1.0"],
    ] {
        let (status, text) = ended(&downgrade(&scene, arguments));
        assert_eq!(status, Some(1), "{text}");
        assert_eq!(
            text.matches("(VD-AGT-013); ").count(),
            2,
            "each obstacle: {text}"
        );
        for part in ["KubeVirt's guest 'vm'", "line 4", "'device.functions'"] {
            assert!(text.contains(part), "{text}");
        }
        let kept = fs::read_to_string(scene.path(&record)).expect("the record");
        assert_eq!(kept, bound(GUEST));
    }
    // A version that reads the records needs nothing.
    assert_eq!(
        ended(&downgrade(&scene, &["--downgrade", "0.2.0"])).0,
        Some(0)
    );
    for wrong in [
        &["--check"][..],
        &["--downgrade", "next"],
        &["--downgrade", "0.1", "--reserve"],
    ] {
        assert_eq!(ended(&downgrade(&scene, wrong)).0, Some(2), "{wrong:?}");
    }
}
