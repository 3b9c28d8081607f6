//! `variantctl atomics`: golden verdicts for a good place and each bad one, and what it refuses to do.

use crate::{data, failure, host, stdout, variantctl};

golden!(atomics_host, "atomics", "atomics");
golden!(atomics_good, "atomics", "atomics", "--file", "atomics.xml");
golden!(
    atomics_good_json,
    "atomics",
    "atomics",
    "--json",
    "--file",
    "atomics.xml"
);
golden!(
    atomics_misplaced,
    "atomics",
    "atomics",
    "--file",
    "atomics-misplaced.xml"
);
golden!(
    atomics_misplaced_json,
    "atomics",
    "atomics",
    "0000:03:00.0",
    "--json",
    "--file",
    "atomics-misplaced.xml"
);
golden!(
    atomics_attach,
    "atomics",
    "atomics",
    "0000:61:00.0",
    "--file",
    "atomics.xml"
);
golden!(
    atomics_older,
    "atomics",
    "atomics",
    "--qemu",
    "7.2",
    "--kernel",
    "6.1",
    "--file",
    "atomics.xml"
);
golden!(
    atomics_hidden,
    "gb200-user",
    "atomics",
    "0008:01:00.0",
    "--file",
    "gh200.xml"
);
golden!(atomics_topology, "atomics", "topology");

#[test]
fn a_recorded_host_has_neither_vfio_nor_libvirt_to_ask() {
    let asked = variantctl(&host("atomics"), &["atomics", "--ask-vfio", "0000:03:00.0"]);
    let printed = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(
        printed.contains("a recorded host has no device to open"),
        "{printed}"
    );
    assert_eq!(asked.status.code(), Some(1));
    let shown = String::from_utf8_lossy(&asked.stdout).into_owned();
    assert!(shown.contains("0000:03:00.0"), "{shown}");
    let (status, printed) = failure(&variantctl(&host("atomics"), &["atomics", "--domain", "d"]));
    assert!(status == 2 && printed.contains("--file"), "{printed}");
}

/// What the child that asks VFIO answers below a recorded host, where no device can be opened.
#[test]
fn the_asking_child_does_not_open_a_device_of_another_driver() {
    let program = tests::program::built("agent", "variantd-child");
    let device = "0000:03:00.0".parse().expect("address");
    let answer = agent::probe::ask_atomics(&program, &host("atomics"), device);
    let driver = "amdgpu".parse().expect("driver");
    let wanted = kernel_glue::region::RegionError::NotVfio(Some(driver));
    assert_eq!(answer, Err(wanted));
}

#[test]
fn invalid_arguments_exit_with_2_and_missing_devices_with_3() {
    for arguments in [
        &["atomics", "--kernel", "new"][..],
        &["atomics", "--qemu", "new"],
        &["atomics", "--ask-vfio"],
        &["atomics", "--file", "atomics.xml", "--domain", "d"],
    ] {
        let status = variantctl(&host("atomics"), arguments).status.code();
        assert_eq!(status, Some(2), "{arguments:?}");
    }
    for arguments in [
        &["atomics", "0042:00:00.0"][..],
        &["atomics", "--file", "no-such.xml"],
        &["atomics", "--file", "gh200.xml"],
    ] {
        let (status, printed) = failure(&variantctl(&host("atomics"), arguments));
        assert_eq!(status, 3, "{printed}");
    }
}

#[test]
fn a_completed_definition_gives_the_planned_atomics() {
    let host = host("mi300x-8gpu");
    let text = stdout(&variantctl(
        &host,
        &["rewrite", "../case/q35-mi300x-all/domain.xml"],
    ));
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    std::fs::write(&file, text).expect("written");
    let arguments = ["atomics", "--json", "--file", &file.to_string_lossy()];
    let json = stdout(&variantctl(&host, &arguments));
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    let devices = json["devices"].as_array().expect("devices");
    assert_eq!(devices.len(), 8);
    for device in devices {
        assert_eq!(device["place"]["predicted"], serde_json::Value::Null);
        assert_eq!(device["verdict"]["driver"]["ok"], true, "{device}");
        assert_eq!(device["verdict"]["128"]["ok"], false, "{device}");
    }
}

#[test]
fn fix_moves_the_device_to_a_good_place() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    std::fs::copy(data("golden/atomics-misplaced.xml"), &file).expect("copied");
    let judge = |json: bool| {
        let file = file.to_string_lossy();
        let mut arguments = vec!["atomics", "--file", &*file];
        arguments.extend(json.then_some("--json"));
        stdout(&variantctl(&host("atomics"), &arguments))
    };
    let text = judge(false);
    let diff = &text[text.find("--- ").expect("a diff")..];
    let patch = folder.path().join("fix.diff");
    std::fs::write(&patch, diff).expect("written");
    let patched = std::process::Command::new("patch")
        .arg("--silent")
        .arg(&file)
        .arg(&patch)
        .status();
    if patched.is_err() {
        eprintln!("no patch(1): nothing to apply the diff with");
        return;
    }
    let after: serde_json::Value = serde_json::from_str(&judge(true)).expect("JSON");
    assert!(after["fix"].is_null());
    for device in after["devices"].as_array().expect("devices") {
        // Of the others one completes too few widths, one has no known driver, and one is behind a switch of the guest.
        let moved = device["address"] == "0000:03:00.0";
        assert_eq!(device["guest"]["32"]["ok"], moved, "{device}");
    }
}

/// Runs `atomics` on a guest of one device at a guest address.
fn judged(device: (&str, &str), address: &str, more: &[&str]) -> std::process::Output {
    let (bus, function) = device;
    let text = format!(
        "<domain type='kvm'><name>g</name><memory>1</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>\n\
         <controller type='pci' index='0' model='pcie-root'/>\n<controller type='pci' index='1' model='pcie-root-port'/>\n\
         <hostdev mode='subsystem' type='pci'><source><address bus='{bus}' function='{function}'/></source>\n\
         <address type='pci' {address}/>\n</hostdev></devices></domain>"
    );
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    std::fs::write(&file, text).expect("written");
    let file = file.to_string_lossy();
    let arguments = [&["atomics", "--json", "--file", &*file], more].concat();
    variantctl(&host("atomics"), &arguments)
}

#[test]
fn fix_moves_a_device_only_when_its_driver_gets_atomics() {
    let fix = |device, more: &[&str]| {
        let json = stdout(&judged(device, "bus='0' slot='5'", more));
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        !json["fix"].is_null()
    };
    assert!(
        fix(("0x03", "0"), &[]),
        "required, and the host passes them"
    );
    assert!(
        !fix(("0x03", "0"), &["--kernel", "6.1"]),
        "the kernel tells QEMU nothing"
    );
    assert!(
        !fix(("0x03", "0"), &["--qemu", "7.2"]),
        "QEMU passes nothing on"
    );
    assert!(
        !fix(("0x61", "0"), &[]),
        "the device completes 32 bits, 64 are required, too"
    );
    assert!(!fix(("0x81", "0"), &[]), "no driver is known to want them");
}
