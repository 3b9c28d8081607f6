//! `--host` and `--recipes` with verbs that act, and `bind --dry-run` from the read side.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::{failure, host, stdout, variantctl};

const GPU: &str = "0018:01:00.0";

/// Every verb that acts through the agent.
const ACTING: [&[&str]; 12] = [
    &["bind", GPU],
    &["bind", "--stop-services", GPU],
    &["release", GPU],
    &["recover"],
    &["recover", GPU],
    &["reserve", GPU],
    &["unreserve", GPU],
    &["monitor"],
    &["prepare", "d0"],
    &["create", "gh200.xml"],
    &["revert", "d0"],
    &["wait", "d0"],
];

/// With no bus at all.
fn alone(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .current_dir(crate::data("golden"))
        .args(arguments)
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .output()
        .expect("variantctl runs")
}

#[test]
fn a_verb_that_changes_the_host_refuses_other_hosts_and_recipes() {
    let other = host("gb200-4gpu");
    let other = other.to_str().expect("a path");
    for verb in ACTING {
        for option in [["--host", other], ["--recipes", "/nonexistent"]] {
            let arguments = [&option[..], verb].concat();
            let (status, printed) = failure(&alone(&arguments));
            assert_eq!(status, 2, "{arguments:?}: {printed}");
            assert!(printed.contains(&format!("'{}'", verb[0])), "{printed}");
            let behind = [verb, &option[..]].concat();
            assert_eq!(failure(&alone(&behind)).0, 2, "{behind:?}");
        }
        let (status, printed) = failure(&alone(verb));
        assert_eq!(status, 4, "{verb:?}: {printed}");
    }
    let (status, _) = failure(&alone(&["--host", "/", "release", GPU]));
    assert_eq!(status, 4, "it is this host");
}

#[test]
fn a_libvirt_domain_is_refused_for_a_recorded_host() {
    for verb in [
        &["topology", "--domain", "d0"][..],
        &["atomics", "--domain", "d0"],
    ] {
        let (status, printed) = failure(&variantctl(&host("gb200-4gpu"), verb));
        assert_eq!(status, 2, "{printed}");
        assert!(printed.contains("--file"), "{printed}");
    }
}

fn writes(host: &Path, arguments: &[&str]) -> String {
    let arguments = [&["bind", "--dry-run", GPU][..], arguments].concat();
    stdout(&variantctl(host, &arguments))
}

#[test]
fn a_bind_is_planned_on_a_recorded_host_and_on_its_snapshot() {
    let recorded = host("gb200-4gpu");
    let wanted = writes(&recorded, &[]);
    let override_first =
        format!("/sys/bus/pci/devices/{GPU}/driver_override <- nvgrace_gpu_vfio_pci\n");
    assert!(wanted.contains(&override_first), "{wanted}");
    assert!(wanted.lines().all(|line| line.contains(" <- ")), "{wanted}");
    let other = writes(&recorded, &["--driver", "vfio-pci"]);
    assert!(other.contains("driver_override <- vfio-pci"), "{other}");
    let directory = tempfile::tempdir().expect("directory");
    let snapshot: PathBuf = directory.path().join("host.json");
    let file = snapshot.to_str().expect("a path");
    stdout(&variantctl(&recorded, &["snapshot", file]));
    assert_eq!(writes(&snapshot, &[]), wanted);
    let json = writes(&recorded, &["--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(json["report"]["outcome"], "planned");
    assert_eq!(json["report"]["device"], GPU);
}

#[test]
fn planning_a_bind_refuses_a_missing_device() {
    let dry = |device| variantctl(&host("gb200-4gpu"), &["bind", "--dry-run", device]);
    let (status, printed) = failure(&dry("0042:01:00.0"));
    assert_eq!(status, 3, "{printed}");
    let (status, printed) = failure(&dry("0018:00:00.0"));
    assert_eq!(status, 1, "no recipe covers a port: {printed}");
}

#[test]
fn a_dry_run_without_an_agent_is_planned_from_this_host() {
    let output = alone(&["bind", "--dry-run", "ffff:ff:1f.7"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert!(
        printed.starts_with("note: planned without the agent: "),
        "{printed}"
    );
    assert!(printed.contains("VD-AGT-001"), "{printed}");
}
