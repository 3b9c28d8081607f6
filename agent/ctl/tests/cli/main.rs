//! `variantctl` as a process: golden output on recorded hosts, and what bad input gets.

mod assigned;
mod completion;
mod connect;
mod defined;
mod doctor;
mod edited;
mod fleet;
mod function;
mod help;
mod holder;
mod layout;
mod other_host;
mod plan;
mod record;
mod schema;
mod snapshot;
mod stack;
mod terminal;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn data(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/data")
        .join(path)
}

fn host(name: &str) -> PathBuf {
    testing::hosts::directory(name)
}

/// Runs variantctl in the folder of golden definitions.
fn variantctl(host: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .current_dir(data("golden"))
        .args(["--recipes", "/nonexistent"])
        .arg("--host")
        .arg(host)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("variantctl runs")
}

fn stdout(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout.clone()).expect("text")
}

/// Exit status and standard error of a run that must fail, with nothing on standard output.
fn failure(output: &Output) -> (i32, String) {
    assert!(
        output.stdout.is_empty(),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    let text = String::from_utf8(output.stderr.clone()).expect("text");
    assert!(text.starts_with("error: "), "{text}");
    (output.status.code().expect("an exit status"), text)
}

macro_rules! golden {
    ($name:ident, $host:literal, $($argument:literal),+) => {
        #[test]
        fn $name() {
            // Hints repeat the path of the recorded host.
            let path = host($host).display().to_string();
            let text = stdout(&variantctl(&host($host), &[$($argument),+])).replace(&path, "HOST");
            insta::with_settings!({snapshot_path => data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
                insta::assert_snapshot!(stringify!($name), text);
            });
        }
    };
}

mod atomics;

golden!(gh200_list, "gh200-1gpu", "list");
golden!(gh200_topology, "gh200-1gpu", "topology");
golden!(gh200_rewrite, "gh200-1gpu", "rewrite", "gh200.xml");
golden!(gb200_list, "gb200-4gpu", "list", "--json");
golden!(gb200_show, "gb200-4gpu", "show", "pci_0018_01_00_0");
golden!(gb200_topology, "gb200-4gpu", "topology");
golden!(
    gb200_plan,
    "gb200-4gpu",
    "plan",
    "--diff",
    "gb200-third-and-fourth.xml"
);
golden!(
    gb200_rewrite,
    "gb200-4gpu",
    "rewrite",
    "gb200-third-and-fourth.xml"
);
golden!(egm_list, "gb200-egm", "list");
golden!(egm_list_json, "gb200-egm", "list", "--json");
golden!(egm_show, "gb200-egm", "show", "0018:01:00.0");
golden!(egm_topology, "gb200-egm", "topology");
golden!(explain_list, "lab", "explain");
golden!(explain_one, "lab", "explain", "vd-top-002");
golden!(recipe_list, "lab", "recipe", "list");
golden!(lab_list, "lab", "list");
golden!(lab_topology, "lab", "topology");
golden!(gb200_matrix, "gb200-4gpu", "topology", "--matrix");
golden!(hgx_switched_matrix, "hgx-switched", "topology", "--matrix");
golden!(lab_dot, "lab", "topology", "--dot");
golden!(hgx_nccl, "hgx-8gpu", "topology", "--nccl");
golden!(
    gh200_beside_its_guest,
    "gh200-4gpu",
    "topology",
    "--file",
    "../case/gh200-all/domain.xml"
);
golden!(
    hgx_beside_its_mirrored_guest,
    "hgx-8gpu",
    "topology",
    "--file",
    "../case/q35-h100-mirror/domain.xml"
);
golden!(
    gh200_drawing,
    "gh200-4gpu",
    "topology",
    "--svg",
    "-",
    "--file",
    "../case/gh200-all/domain.xml"
);
golden!(lab_arm_list, "lab-arm", "list");
golden!(lab_arm_topology, "lab-arm", "topology");

#[test]
fn empty_matrix_names_the_reason() {
    let dir = tempfile::tempdir().expect("scratch directory");
    let device = dir.path().join("sys/devices/pci0000:00/0000:00:01.0");
    fs::create_dir_all(&device).expect("device");
    for (name, id) in [("vendor", "0x8086\n"), ("device", "0x1234\n")] {
        fs::write(device.join(name), id).expect("id");
    }
    let links = dir.path().join("sys/bus/pci/devices");
    fs::create_dir_all(&links).expect("links");
    let target = "../../../devices/pci0000:00/0000:00:01.0";
    std::os::unix::fs::symlink(target, links.join("0000:00:01.0")).expect("link");
    for arguments in [&["topology", "--matrix"][..], &["list"][..]] {
        let output = variantctl(dir.path(), arguments);
        assert_eq!(stdout(&output), "");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            printed.contains("no device of this host is covered by a recipe"),
            "{printed}"
        );
    }
}

#[test]
fn the_third_and_fourth_gpu_get_the_distances_of_their_own_socket() {
    let text = stdout(&variantctl(
        &host("gb200-4gpu"),
        &["plan", "--json", "gb200-third-and-fourth.xml"],
    ));
    let plan: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let nodes: Vec<u64> = plan["devices"]
        .as_array()
        .expect("devices")
        .iter()
        .flat_map(|device| device["host_nodes"].as_array().expect("nodes"))
        .map(|node| node.as_u64().expect("a number"))
        .collect();
    assert_eq!(nodes, (18..34).collect::<Vec<u64>>());
}

#[test]
fn show_prints_a_recorded_host_without_its_regions() {
    let output = variantctl(&host("gh200-1gpu"), &["show", "--regions", "0009:01:00.0"]);
    let complaint = String::from_utf8(output.stderr).expect("text");
    assert!(
        complaint.contains("error: a recorded host has no device to open"),
        "{complaint}"
    );
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).expect("text");
    assert!(shown.contains("10de:2342"), "{shown}");
}

#[test]
fn plan_names_a_device_whose_regions_vfio_did_not_report() {
    let output = variantctl(
        &host("gb200-4gpu"),
        &["rewrite", "--regions", "gb200-third-and-fourth.xml"],
    );
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        note.contains("only 'nvgrace_gpu_vfio_pci' reports its BARs (VD-REG-001)"),
        "{note}"
    );
    let without = variantctl(
        &host("gb200-4gpu"),
        &["rewrite", "gb200-third-and-fourth.xml"],
    );
    assert_eq!(stdout(&output), stdout(&without));
}

#[test]
fn rewriting_the_rewritten_changes_nothing() {
    let once = stdout(&variantctl(
        &host("gb200-4gpu"),
        &["rewrite", "gb200-third-and-fourth.xml"],
    ));
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("once.xml");
    fs::write(&file, &once).expect("file");
    let twice = stdout(&variantctl(
        &host("gb200-4gpu"),
        &["rewrite", &file.to_string_lossy()],
    ));
    assert_eq!(once, twice);
}

#[test]
fn reverting_the_rewritten_gives_the_text_from_before() {
    for name in ["gh200.xml", "gb200-third-and-fourth.xml"] {
        let host = host(if name.starts_with("gh") {
            "gh200-1gpu"
        } else {
            "gb200-4gpu"
        });
        let dir = tempfile::tempdir().expect("folder");
        let file = dir.path().join("with.xml");
        fs::write(&file, stdout(&variantctl(&host, &["rewrite", name]))).expect("file");
        let text = stdout(&variantctl(
            &host,
            &["revert", "--file", &file.to_string_lossy()],
        ));
        assert_eq!(
            text,
            fs::read_to_string(data("golden").join(name)).expect("file")
        );
    }
}

#[test]
fn rewrite_returns_a_guest_without_a_gpu_unchanged() {
    let text = stdout(&variantctl(&host("gb200-4gpu"), &["rewrite", "plain.xml"]));
    assert_eq!(
        text,
        fs::read_to_string(data("golden/plain.xml")).expect("file")
    );
}

#[test]
fn a_definition_on_standard_input_is_read() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .args([
            "--host",
            &host("gb200-4gpu").to_string_lossy(),
            "rewrite",
            "-",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("variantctl runs");
    let text = fs::read(data("golden/plain.xml")).expect("file");
    child
        .stdin
        .take()
        .expect("stdin")
        .write_all(&text)
        .expect("written");
    assert_eq!(child.wait_with_output().expect("ended").stdout, text);
}

/// Runs `rewrite` on a definition given as text.
fn rewritten(text: &[u8]) -> Output {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("guest.xml");
    fs::write(&file, text).expect("file");
    variantctl(&host("gb200-4gpu"), &["rewrite", &file.to_string_lossy()])
}

#[test]
fn bad_definitions_are_refused_by_code_with_nothing_printed() {
    let large = format!("<domain>{}</domain>", " ".repeat(1 << 20));
    let missing = fs::read_to_string(data("golden/gh200.xml"))
        .expect("file")
        .replace("0x0009", "0x0042");
    let cases: [(&[u8], &str); 7] = [
        (b"<domain><name>x</domain>", "VD-XML-001"),
        (
            b"<!DOCTYPE d SYSTEM 'file:///etc/passwd'><domain/>",
            "VD-XML-002",
        ),
        (large.as_bytes(), "VD-XML-003"),
        (b"<network/>", "VD-XML-004"),
        (b"", "VD-XML-001"),
        (
            b"<domain><name>x</name><memory>lots</memory><devices/></domain>",
            "VD-XML-005",
        ),
        (missing.as_bytes(), "VD-DEV-001"),
    ];
    for (text, code) in cases {
        let (status, printed) = failure(&rewritten(text));
        assert_eq!(status, 1, "{code}: {printed}");
        assert!(printed.contains(code), "expected {code}: {printed}");
    }
}

#[test]
fn text_that_is_not_utf8_is_refused() {
    let (status, printed) = failure(&rewritten(b"<domain>\xff\xfe</domain>"));
    assert_eq!(status, 1);
    assert!(printed.contains("UTF-8"), "{printed}");
}

#[test]
fn missing_object_exits_with_3() {
    let (status, printed) = failure(&variantctl(&host("gb200-4gpu"), &["show", "0042:00:00.0"]));
    assert_eq!(status, 3, "{printed}");
    assert!(
        printed.contains("0042:00:00.0") && printed.contains("list --all"),
        "{printed}"
    );
    let (status, printed) = failure(&variantctl(
        &host("gb200-4gpu"),
        &["rewrite", "no-such.xml"],
    ));
    assert_eq!(status, 3, "{printed}");
}

#[test]
fn a_recipe_file_is_checked_before_it_is_used() {
    let dir = tempfile::tempdir().expect("folder");
    let file = dir.path().join("nvidia-grace.toml");
    let shipped = stdout(&variantctl(
        &host("lab"),
        &["recipe", "show", "nvidia-grace"],
    ));
    fs::write(&file, &shipped).expect("file");
    let printed = stdout(&variantctl(
        &host("lab"),
        &["recipe", "check", &file.to_string_lossy()],
    ));
    assert!(printed.contains("recipe 'nvidia-grace' for "), "{printed}");
    fs::write(&file, shipped.replace("cells = 8", "cels = 8")).expect("file");
    let (status, printed) = failure(&variantctl(
        &host("lab"),
        &["recipe", "check", &file.to_string_lossy()],
    ));
    assert_eq!(status, 1);
    assert!(
        printed.contains("nvidia-grace.toml") && printed.contains("did you mean 'cells'?"),
        "{printed}"
    );
    // As the shell leaves it before 'recipe show nvidia-grace > nvidia-grace.toml' runs.
    fs::write(&file, "").expect("emptied");
    let (status, printed) = failure(&variantctl(
        &host("lab"),
        &["recipe", "check", &file.to_string_lossy()],
    ));
    assert_eq!(status, 1);
    let hint = "run 'variantctl recipe show --shipped nvidia-grace > ";
    assert!(
        printed.contains("is empty") && printed.contains(hint),
        "{printed}"
    );
    let over = ["--recipes", &dir.path().to_string_lossy()].map(String::from);
    let with = |verb: &[&'static str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_variantctl"));
        command.args(&over).args(["recipe", "show", "nvidia-grace"]);
        command.args(verb).output().expect("variantctl runs")
    };
    assert!(failure(&with(&[])).1.contains(hint));
    assert_eq!(stdout(&with(&["--shipped"])), shipped);
    assert_eq!(
        failure(&variantctl(&host("lab"), &["recipe", "show", "no-such"])).0,
        3
    );
    assert_eq!(
        failure(&variantctl(
            &host("lab"),
            &["recipe", "check", "no-such.toml"]
        ))
        .0,
        3
    );
}

#[test]
fn wrong_usage_exits_with_2() {
    for arguments in [
        &["show", "not-an-address"][..],
        &["rewrite"],
        &["no-such-verb"],
        &["plan", "--target", "xen=4", "plain.xml"],
    ] {
        let output = variantctl(&host("gb200-4gpu"), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_folder_that_is_not_a_host_is_refused() {
    let dir = tempfile::tempdir().expect("folder");
    let (status, printed) = failure(&variantctl(dir.path(), &["list"]));
    assert_eq!(status, 1);
    assert!(printed.contains("record-host"), "{printed}");
}

/// A copy of a recorded host that a test may damage.
fn damaged(damage: impl Fn(&Path)) -> tempfile::TempDir {
    damaged_one("gb200-4gpu", damage)
}

/// The same for a host by its name.
fn damaged_one(name: &str, damage: impl Fn(&Path)) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let status = Command::new("cp")
        .arg("-a")
        .arg(host(name).join("."))
        .arg(dir.path())
        .status();
    assert!(status.expect("cp runs").success());
    damage(dir.path());
    dir
}

type Damage<'a> = (&'a str, &'a dyn Fn(&Path));

#[test]
fn damaged_host_is_read_partly_and_gaps_are_named() {
    let gpu = "sys/bus/pci/devices/0018:01:00.0";
    let damages: [Damage<'_>; 5] = [
        ("numa_node", &|root| {
            fs::write(root.join(gpu).join("numa_node"), "").expect("emptied")
        }),
        ("resource", &|root| {
            fs::remove_file(root.join(gpu).join("resource")).expect("removed")
        }),
        ("config", &|root| {
            fs::write(root.join(gpu).join("config"), [0u8; 7]).expect("truncated")
        }),
        ("driver_override", &|root| {
            let file = root.join(gpu).join("driver_override");
            fs::remove_file(&file).expect("removed");
            fs::create_dir(&file).expect("a folder cannot be read as a file");
        }),
        ("vendor", &|root| {
            // It is read only where modalias does not have it.
            fs::write(root.join(gpu).join("modalias"), "\u{0}garbage").expect("damaged");
            fs::write(root.join(gpu).join("vendor"), "\u{0}garbage").expect("damaged")
        }),
    ];
    for (file, damage) in damages {
        let root = damaged(|root| damage(root));
        let output = variantctl(root.path(), &["list"]);
        assert!(output.status.success(), "{file}");
        let printed = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            printed.contains(file) && printed.contains("0018:01:00.0"),
            "{file}: {printed}"
        );
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(
            listed.contains("0019:01:00.0"),
            "the other devices are listed: {listed}"
        );
    }
}

#[test]
fn a_plan_with_missing_input_is_refused() {
    let root = damaged(|root| {
        fs::remove_file(root.join("sys/firmware/acpi/tables/SRAT")).expect("removed");
        fs::write(root.join("sys/devices/system/node/node20/distance"), "").expect("emptied");
    });
    let (status, printed) = failure(&variantctl(
        root.path(),
        &["rewrite", "gb200-third-and-fourth.xml"],
    ));
    assert_eq!(status, 1);
    assert!(
        printed.contains("VD-NUM-001") || printed.contains("VD-NUM-002"),
        "{printed}"
    );
}

#[test]
fn prepare_exits_with_4_without_an_agent() {
    let output = Command::new(env!("CARGO_BIN_EXE_variantctl"))
        .args(["prepare", "d0"])
        .env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus")
        .output()
        .expect("variantctl runs");
    let (status, printed) = failure(&output);
    assert_eq!(status, 4);
    assert!(printed.contains("systemctl start variantd"), "{printed}");
    assert!(printed.contains("VD-AGT-001"), "{printed}");
}
