//! `variantctl stack` on a folder with the agent's state.

use std::fs;
use std::path::Path;

use super::{stdout, variantctl};

/// A host whose agent has asked; `oas` is the type that QEMU takes.
fn asked(root: &Path, oas: &str) {
    let state = root.join("var/lib/variantd");
    fs::create_dir_all(&state).expect("a folder");
    fs::create_dir_all(root.join("usr/bin")).expect("a folder");
    let emulator = root.join("usr/bin/qemu-system-aarch64");
    fs::write(&emulator, "QEMU").expect("written");
    let build = agent::stack::emulator::Build::of(&emulator).expect("a build");
    fs::write(state.join("versions"), "libvirt=12.8,qemu=11.1.2\n").expect("written");
    let answer = |value: &str, how: &str| serde_json::json!({"value": value, "how": how});
    let found = serde_json::json!({
        "key": {"emulator": "/usr/bin/qemu-system-aarch64", "build": build, "libvirt": "12.8.0", "driver_ctime": null, "iommufd": false, "questions": 1},
        "stack": {
            "libvirt": {"version": "12.8.0", "name": "12.8.0-1"},
            "qemu": {"version": "11.1.2", "name": "Debian 1:11.1.2+ds-3"},
            "answers": {"smmu_oas_type": answer("text", "translated"), "qemu_smmu_oas_type": answer(oas, "asked")},
        },
        "notes": ["a source did not answer"],
    });
    fs::write(state.join("stack.json"), found.to_string()).expect("written");
}

#[test]
fn stack_names_both_packages_and_how_each_answer_is_known() {
    let root = tempfile::tempdir().expect("a folder");
    asked(root.path(), "auto");
    let output = variantctl(root.path(), &["stack"]);
    let text = stdout(&output);
    for part in [
        "libvirt  12.8.0  12.8.0-1\n",
        "Debian 1:11.1.2+ds-3",
        "/usr/bin/qemu-system-aarch64",
        "libvirt and QEMU fit each other",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let line = |name: &str| text.lines().find(|line| line.starts_with(name));
    let words = |name: &str| {
        line(name)
            .expect(name)
            .split_whitespace()
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(
        words("smmu_oas_type"),
        ["smmu_oas_type", "libvirt", "text", "translated"]
    );
    assert_eq!(
        words("qemu_smmu_oas_type"),
        ["qemu_smmu_oas_type", "QEMU", "auto", "asked"]
    );
    assert_eq!(words("fast_link"), ["fast_link", "QEMU", "yes", "assumed"]);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("note: a source did not answer"), "{notes}");
}

#[test]
fn halves_that_do_not_fit_are_named_with_exit_status_1() {
    let root = tempfile::tempdir().expect("a folder");
    asked(root.path(), "integer");
    let output = variantctl(root.path(), &["stack"]);
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8_lossy(&output.stdout);
    let wanted = "libvirt 12.8.0-1 and QEMU Debian 1:11.1.2+ds-3 do not fit each other: 'oas' (libvirt writes text, QEMU takes integer); \
                  upgrade the older one\n";
    assert!(text.ends_with(wanted), "{text}");
}

#[test]
fn stack_of_other_programs_is_not_shown() {
    let root = tempfile::tempdir().expect("a folder");
    asked(root.path(), "integer");
    fs::write(
        root.path().join("usr/bin/qemu-system-aarch64"),
        "another QEMU",
    )
    .expect("written");
    let output = variantctl(root.path(), &["stack"]);
    let notes = String::from_utf8_lossy(&output.stderr);
    assert!(notes.contains("were not asked yet"), "{notes}");
    assert!(stdout(&output).contains("fit each other"));
    fs::remove_dir_all(root.path().join("var")).expect("removed");
    let output = variantctl(root.path(), &["stack"]);
    assert_eq!(output.status.code(), Some(1));
    let why = String::from_utf8_lossy(&output.stderr);
    assert!(
        why.contains("the versions of libvirt and QEMU are unknown here"),
        "{why}"
    );
}

#[test]
fn stack_as_json_follows_its_schema() {
    let root = tempfile::tempdir().expect("a folder");
    for oas in ["auto", "integer"] {
        asked(root.path(), oas);
        let output = variantctl(root.path(), &["--json", "stack"]);
        let text = String::from_utf8_lossy(&output.stdout);
        let printed = super::schema::check("stack", &text);
        assert_eq!(printed["fits"], oas == "auto");
        assert_eq!(printed["emulator"], "/usr/bin/qemu-system-aarch64");
    }
    let target = ["--json", "stack", "--target", "libvirt=12.8,qemu=10.0"];
    let printed = super::schema::check("stack", &stdout(&variantctl(root.path(), &target)));
    assert!(printed["emulator"].is_null());
    // This QEMU has no accelerated SMMUv3, so guests do without.
    assert_eq!(printed["fits"], true);
}
