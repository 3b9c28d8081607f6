//! `variantctl plan` of several hosts as a process.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use super::{data, failure, host, stdout, variantctl};

/// A directory of snapshots: the first as it is, of older versions, one with another GPU, and one that is none.
fn folder() -> tempfile::TempDir {
    let keep = tempfile::tempdir().expect("directory");
    let path = |name: &str| keep.path().join(name).to_str().expect("text").to_owned();
    let versions = |text: &str| ["--target".to_owned(), text.to_owned()];
    for (name, on, target) in [
        ("a.json", "gh200-1gpu", "libvirt=12.8,qemu=11.1"),
        ("b.json", "gh200-1gpu", "libvirt=11.3,qemu=10.0"),
        ("c.json", "mi300x-8gpu", "libvirt=12.8,qemu=11.1"),
        ("d.json", "gh200-1gpu", "libvirt=12.8,qemu=11.1"),
    ] {
        let [option, target] = versions(target);
        let arguments = ["snapshot", &path(name), &option, &target];
        stdout(&variantctl(&host(on), &arguments));
    }
    fs::write(keep.path().join("e.json"), "{}").expect("written");
    keep
}

fn rows(output: &Output) -> Vec<String> {
    stdout(output).lines().map(str::to_owned).collect()
}

#[test]
fn each_host_of_a_directory_is_reported_as_fitting_or_with_differences() {
    let folder = folder();
    let rows = rows(&variantctl(folder.path(), &["plan", "gh200.xml"]));
    let has = |row: usize, host: &str, word: &str, code: &str| {
        let row = &rows[row];
        let host = format!("{host}.json");
        assert!(
            row.contains(&host) && row.contains(word) && row.contains(code),
            "{rows:#?}"
        );
    };
    has(0, "a", "  fits", "");
    has(1, "b", "  differs", "VD-FLT-004");
    has(2, "c", "  no", "VD-DEV-001");
    has(3, "d", "  fits", "");
    has(4, "e", "  no", "VD-HST-001");
    assert!(rows[5].starts_with("5 hosts: it fits on 2"), "{rows:#?}");
    assert_eq!(rows.len(), 6);
}

#[test]
fn a_network_that_no_snapshot_shows_is_named_as_not_judged() {
    let folder = folder();
    let network = "<interface type='network'><source network='p'/></interface></devices>";
    let text = fs::read_to_string(data("golden").join("gh200.xml")).expect("a definition");
    let file = folder.path().join("guest.xml");
    fs::write(&file, text.replace("</devices>", network)).expect("written");
    let file = file.to_str().expect("text");
    let rows = rows(&variantctl(folder.path(), &["plan", file]));
    assert!(rows[0].contains("network 'p' is not checked"), "{rows:#?}");
    assert!(
        rows[0].contains("  fits") && rows[0].contains("VD-DEV-008"),
        "{rows:#?}"
    );
    assert!(
        !rows[2].contains("network 'p'"),
        "it does not fit: {rows:#?}"
    );
}

#[test]
fn hosts_are_named_one_by_one_or_in_a_list() {
    let folder = folder();
    let path = |name: &str| folder.path().join(name);
    let (a, d) = (path("a.json"), path("d.json"));
    let d_text = d.to_str().expect("text");
    let by_name = variantctl(&a, &["--host", d_text, "plan", "gh200.xml"]);
    let list = path("list");
    fs::write(&list, format!("{}\n\n{d_text}\n", a.display())).expect("written");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_variantctl"));
    command
        .current_dir(data("golden"))
        .args(["--recipes", "/nonexistent", "plan", "--hosts-from"])
        .arg(&list)
        .arg("gh200.xml");
    let by_list = command.output().expect("variantctl runs");
    assert_eq!(rows(&by_name), rows(&by_list));
    assert_eq!(rows(&by_name).len(), 3);
    let around = variantctl(&a, &["plan", "gh200.xml", "--host", d_text]);
    assert_eq!(rows(&around), rows(&by_name), "on both sides of the verb");
}

#[test]
fn fleet_fails_when_no_host_fits_and_refuses_an_empty_list() {
    let folder = folder();
    let only = folder.path().join("only");
    fs::create_dir(&only).expect("directory");
    fs::rename(folder.path().join("c.json"), only.join("c.json")).expect("moved");
    let output = variantctl(&only, &["plan", "gh200.xml"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stdout).contains("does not fit on 1"));
    fs::remove_file(only.join("c.json")).expect("removed");
    let (code, text) = failure(&variantctl(&only, &["plan", "gh200.xml"]));
    assert!(code == 1 && text.contains("VD-FLT-008"), "{text}");
}

#[test]
fn only_a_plan_of_a_file_takes_several_hosts() {
    let folder = folder();
    let a: PathBuf = folder.path().join("a.json");
    let name = a.to_str().expect("text");
    let (code, text) = failure(&variantctl(&a, &["--host", name, "list"]));
    assert!(code == 2 && text.contains("one host"), "{text}");
    let (code, text) = failure(&variantctl(&a, &["list", "--host", name]));
    assert!(code == 2 && text.contains("one host"), "{text}");
    let (code, text) = failure(&variantctl(
        Path::new(name),
        &["--host", name, "plan", "guest"],
    ));
    assert!(code == 3 && text.contains("guest"), "{text}");
}
