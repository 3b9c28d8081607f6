//! `variantctl bind`, `release` and `recover` against the real agent, on a recorded host: what is read
//! and refused there. Its files take no writes of a kernel; those are tested on the modelled one.

use std::fs;

use crate::scene::Scene;

const GPU: &str = "0009:01:00.0";

#[test]
fn a_dry_run_prints_the_writes_and_changes_nothing() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let file = format!("host/sys/bus/pci/devices/{GPU}/driver_override");
    let before = fs::read_to_string(scene.path(&file)).expect("override");
    let said = scene.says(&["bind", "--dry-run", "--driver", "vfio-pci", GPU]);
    let devices = format!("/sys/bus/pci/devices/{GPU}/driver_override");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines[0], format!("{devices} <- vfio-pci"));
    let last = lines.last().expect("a line");
    assert_eq!(
        *last,
        format!("/sys/bus/pci/drivers/vfio-pci/bind <- {GPU}")
    );
    let after = fs::read_to_string(scene.path(&file)).expect("override");
    assert_eq!(before, after);
    let said = scene.says(&["recover"]);
    assert_eq!(said, "no device was left half-way\n");
    let said = scene.says(&["release", GPU]);
    assert!(said.contains("was not bound by variantd"), "{said}");
}

#[test]
fn each_mistake_has_its_exit_status() {
    let scene = Scene::new();
    assert_eq!(scene.fails(&["bind", GPU]).0, 4);
    let mut agent = scene.start();
    agent.says("serves");
    let (status, said) = scene.fails(&["bind", "0000:00:1f.0"]);
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("VD-DEV-001"), "{said}");
    assert_eq!(scene.fails(&["bind", "gpu"]).0, 2);
    assert_eq!(scene.fails(&["bind", "--driver", "../x", GPU]).0, 2);
    let (status, said) = scene.fails(&["bind", "--driver", "no_such", GPU]);
    assert_eq!(status, 1, "{said}");
    assert!(said.contains("VD-BND-001"), "{said}");
}

#[test]
fn only_the_agent_and_who_asks_libvirt_load_its_libraries() {
    let needs_libvirt = |program: &str| {
        let bytes = fs::read(program).expect("a program");
        bytes.windows(11).any(|part| part == b"libvirt.so.")
    };
    assert!(needs_libvirt(env!("CARGO_BIN_EXE_variantd")));
    assert!(needs_libvirt(env!("CARGO_BIN_EXE_variantd-libvirt")));
    assert!(!needs_libvirt(env!("CARGO_BIN_EXE_variantd-child")));
    assert!(!needs_libvirt(env!("CARGO_BIN_EXE_variantctl")));
}
