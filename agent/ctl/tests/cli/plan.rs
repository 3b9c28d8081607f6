//! `variantctl plan`: reasons beside the hunks, and colour.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use crate::{data, host, stdout, variantctl};

#[test]
fn diff_prints_each_reason_once() {
    let targets = ["libvirt=12.8,qemu=11.1", "libvirt=11.3,qemu=10.0"];
    let cases = [
        ("gh200-1gpu", "gh200.xml"),
        ("gb200-4gpu", "gb200-third-and-fourth.xml"),
    ];
    let mut planned = 0;
    for (target, (name, file)) in targets.iter().flat_map(|t| cases.map(|case| (t, case))) {
        let arguments = ["plan", "--json", "--target", target, file];
        let output = variantctl(&host(name), &arguments);
        if !output.status.success() {
            continue;
        }
        planned += 1;
        let plan: serde_json::Value = serde_json::from_str(&stdout(&output)).expect("JSON");
        let list = |value: &serde_json::Value| value.as_array().expect("a list").clone();
        let printed = |item: &serde_json::Value, text: &str| {
            let parts = [&item["code"], &item["device"], &item["path"], &item[text]];
            parts.map(ToString::to_string)
        };
        let hunks = list(&plan["hunks"]);
        let reasons = hunks.iter().flat_map(|hunk| list(&hunk["reasons"]));
        let first = reasons.filter(|reason| reason["again"] == false);
        let mut reasons: Vec<_> = first.map(|reason| printed(&reason, "text")).collect();
        let changes = list(&plan["changes"]);
        let mut wanted: Vec<_> = changes.iter().map(|c| printed(c, "reason")).collect();
        reasons.sort();
        wanted.sort();
        assert!(!wanted.is_empty(), "{file} for {target}");
        assert_eq!(reasons, wanted, "{file} for {target}");
    }
    assert!(planned >= 2);
}

/// What `plan` prints on a terminal.
fn on_a_terminal(arguments: &[&str], no_color: bool) -> String {
    let terminal = nix::pty::openpty(None, None).expect("a terminal");
    let mut command = Command::new(env!("CARGO_BIN_EXE_variantctl"));
    command
        .current_dir(data("golden"))
        .arg("--host")
        .arg(host("gh200-1gpu"))
        .args(["plan", "--diff", "gh200.xml"])
        .args(arguments)
        .env_clear()
        .env("TERM", "xterm")
        .stdin(Stdio::null())
        .stdout(terminal.slave)
        .stderr(Stdio::null());
    if no_color {
        command.env("NO_COLOR", "1");
    }
    let mut child = command.spawn().expect("variantctl runs");
    // Ours is closed with the command, so that reading ends when the child does.
    drop(command);
    let mut bytes = Vec::new();
    let _ = fs::File::from(terminal.master).read_to_end(&mut bytes);
    assert!(child.wait().expect("status").success());
    String::from_utf8(bytes).expect("text")
}

#[test]
fn a_diff_has_colours_only_on_a_terminal_by_default() {
    let piped = |arguments: &[&str]| {
        let arguments = [&["plan", "--diff", "gh200.xml"][..], arguments].concat();
        stdout(&variantctl(&host("gh200-1gpu"), &arguments))
    };
    let coloured = |text: &str| text.contains("\u{1b}[32m+") && text.contains("\u{1b}[33m# VD-");
    let plain = |text: &str| text.contains("\n+") && !text.contains('\u{1b}');
    assert!(plain(&piped(&[])) && plain(&piped(&["--color", "never"])));
    assert!(coloured(&piped(&["--color", "always"])));
    assert!(coloured(&on_a_terminal(&[], false)));
    assert!(plain(&on_a_terminal(&[], true)));
    assert!(plain(&on_a_terminal(&["--color", "never"], false)));
    assert!(coloured(&on_a_terminal(&["--color", "always"], true)));
}

/// A Grace GPU at a place that its recipe rules out.
const MISPLACED: &str = "<domain type='kvm'><name>g</name><memory unit='GiB'>4</memory><vcpu>4</vcpu>\
    <os firmware='efi'><type arch='aarch64' machine='virt'>hvm</type></os><features><acpi/></features><devices><controller type='pci' index='0' model='pcie-root'/>\
    <hostdev mode='subsystem' type='pci'><source><address domain='9' bus='1'/></source>\
    <address type='pci' bus='0' slot='5' function='0'/></hostdev></devices></domain>";

#[test]
fn topology_draws_an_incomplete_definition_unchanged() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    fs::write(&file, MISPLACED).expect("written");
    let file = file.to_string_lossy();
    let gh200 = host("gh200-1gpu");
    let plan = variantctl(&gh200, &["plan", &file]);
    assert_eq!(plan.status.code(), Some(1));
    let printed = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(printed.contains("VD-TOP-004"), "{printed}");
    let forms: [&[&str]; 4] = [&[], &["--dot"], &["--nccl"], &["--svg", "-"]];
    for form in forms {
        let drawn = variantctl(
            &gh200,
            &[&["topology", "--file", &*file][..], form].concat(),
        );
        assert!(stdout(&drawn).contains("0000:00:05.0"), "{form:?}");
        let printed = String::from_utf8_lossy(&drawn.stderr).into_owned();
        assert!(
            printed.contains("note: the definition is drawn unchanged"),
            "{printed}"
        );
    }
}

#[test]
fn hints_name_the_recorded_host() {
    let lab = host("lab");
    let output = variantctl(&lab, &["show", "0042:00:00.0"]);
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    let command = format!("'variantctl --host {} list --all'", lab.display());
    assert!(printed.contains(&command), "{printed}");
}

#[test]
fn a_device_without_initiators_is_printed_without_initiators() {
    let shown = stdout(&variantctl(&host("hgx-8gpu"), &["show", "0000:1b:00.0"]));
    let line = shown
        .lines()
        .find(|line| line.starts_with("initiators"))
        .expect("a line");
    assert!(line.ends_with("none: its guest driver uses none"), "{line}");
}

/// A guest without any port, and a GPU at `place`.
fn ports_left_out(machine: &str, place: &str) -> String {
    format!(
        "<domain type='kvm'><name>g</name><memory unit='GiB'>4</memory><vcpu>4</vcpu>\
         <os><type arch='x86_64' machine='{machine}'>hvm</type></os><features><acpi/></features><devices>\
         <hostdev mode='subsystem' type='pci' managed='yes'><source><address domain='0' bus='0x1b' slot='0' function='0'/></source>\
         {place}</hostdev></devices></domain>"
    )
}

#[test]
fn a_bus_without_a_controller_gets_the_root_port_that_libvirt_adds() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    let planned = |machine: &str, place: &str| {
        fs::write(&file, ports_left_out(machine, place)).expect("written");
        let output = variantctl(&host("hgx-8gpu"), &["plan", &file.to_string_lossy()]);
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code(), printed)
    };
    let at = |bus: u32, slot: u32| {
        format!("<address type='pci' domain='0' bus='{bus}' slot='{slot}' function='0'/>")
    };
    for bus in [1, 3] {
        let (status, printed) = planned("q35", &at(bus, 0));
        assert_eq!(status, Some(0), "{printed}");
        assert!(!printed.contains("VD-TOP"), "{printed}");
    }
    let (_, printed) = planned("q35", &at(1, 5));
    assert!(
        printed.contains("VD-TOP-001") && !printed.contains("missing"),
        "{printed}"
    );
    let (_, printed) = planned("pc", &at(1, 5));
    assert!(
        printed.contains("'pci-bridge'") || printed.contains("machine"),
        "{printed}"
    );
}

#[test]
fn nccl_file_is_printed_when_places_are_missing() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("guest.xml");
    let expander = "<controller type='pci' index='1' model='pcie-expander-bus'><target busNr='254'/></controller>\
        <controller type='pci' index='2' model='pcie-root-port'><address type='pci' bus='1' slot='0' function='0'/></controller>\
        <controller type='pci' index='3' model='pcie-root-port'><address type='pci' bus='1' slot='1' function='0'/></controller>\
        <hostdev mode";
    let place = "<address type='pci' domain='0' bus='2' slot='0' function='0'/>";
    let crowded = ports_left_out("q35", place).replace("<hostdev mode", expander);
    for (text, code) in [
        (ports_left_out("q35", ""), "VD-TOP-006"),
        (crowded, "VD-TOP-008"),
    ] {
        fs::write(&file, text).expect("written");
        let drawn = variantctl(
            &host("hgx-8gpu"),
            &["topology", "--nccl", "--file", &file.to_string_lossy()],
        );
        let printed = String::from_utf8_lossy(&drawn.stderr).into_owned();
        assert!(stdout(&drawn).contains("</system>"), "{printed}");
        assert!(
            printed.contains("warning: ") && printed.contains(code),
            "{printed}"
        );
    }
}

#[test]
fn a_target_is_a_named_stack_or_a_file_of_one() {
    let keep = tempfile::tempdir().expect("folder");
    let file = keep.path().join("stack.json");
    let name = file.to_str().expect("text");
    let rewritten = |target: &str| {
        let arguments = ["rewrite", "--target", target, "gh200.xml"];
        stdout(&variantctl(&host("gh200-1gpu"), &arguments))
    };
    let libvirt = r#"{"version": "11.9.0", "name": "11.9.0+vendor1"}"#;
    let yes = r#"{"value": true, "how": "asked"}"#;
    let with = |answers: &str| {
        let qemu = r#"{"version": "10.1.0"}"#;
        let text = format!(r#"{{"libvirt": {libvirt}, "qemu": {qemu}, "answers": {{{answers}}}}}"#);
        fs::write(&file, text).expect("written");
    };
    let iommufd = "iommufd='yes'";
    assert!(!rewritten("libvirt=11.9,qemu=10.1").contains(iommufd));
    with("");
    assert!(!rewritten(name).contains(iommufd));
    with(&format!(
        r#""hostdev_iommufd": {yes}, "smmu_accel": {yes}, "qemu_smmu_accel": {yes}"#
    ));
    assert!(rewritten(name).contains(iommufd));
    assert!(rewritten(&format!("{name},arch=aarch64")).contains(iommufd));
    assert!(rewritten("nvidia-10.1").contains(iommufd));
    with(r#""hostdev_iommufd": {"value": "pasid", "how": "asked"}"#);
    for (target, why) in [
        (name, "wrong kind"),
        ("/nonexistent/stack.json", "cannot read"),
        ("nvidia-9", "nvidia-10.1, nvidia-11.0"),
    ] {
        let output = variantctl(
            &host("gh200-1gpu"),
            &["plan", "--target", target, "gh200.xml"],
        );
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(why), "{text}");
    }
}

#[test]
fn a_vera_rubin_gpu_joins_the_recipe_by_the_configuration() {
    let directory = tempfile::tempdir().expect("directory");
    let path = |name: &str| directory.path().join(name);
    let device = "[[device]]\nid = \"10de:3041\"\nrecipe = \"nvidia-grace\"\nwindow_gib = 1024\n";
    fs::write(path("variantd.conf"), device).expect("written");
    let definition = fs::read_to_string(data("case/gh200/domain.xml")).expect("definition");
    let definition = definition.replace("domain='0x0009'", "domain='0x0008'");
    fs::write(path("rubin.xml"), definition).expect("written");
    let output = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .arg("--recipes")
        .arg(path("recipes.d"))
        .arg("--host")
        .arg(host("vera-rubin"))
        .args(["plan", "--target", "libvirt=12.8,qemu=11.1"])
        .arg(path("rubin.xml"))
        .stdin(Stdio::null())
        .output()
        .expect("variantctl runs");
    let text = stdout(&output);
    assert!(text.contains("a 64-bit MMIO window of 2048 GiB"), "{text}");
}

/// The GPU is behind two switches of the host, and directly on a root port in the guest.
#[test]
fn only_switches_that_do_not_route_atomics_are_named() {
    for (name, named) in [("gb300-4gpu", false), ("gb300-unrouted", true)] {
        let output = variantctl(&host(name), &["atomics", "0018:06:00.0"]);
        let text = String::from_utf8(output.stdout).expect("text");
        assert!(text.contains("0018:06:00.0"), "{name}: {text}");
        assert_eq!(text.contains("VD-ATM-005"), named, "{name}: {text}");
    }
}
