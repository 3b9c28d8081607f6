//! `connect` on a tree with libvirt.conf, and its lines in libvirt's own client library.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use nix::unistd::geteuid;
use tempfile::TempDir;
use tests::program;

use super::{failure, schema, stdout, variantctl};

const OTHERS: &str = "# of the administrator\nlog_level = 1";

/// A tree with the transport, and with this libvirt.conf.
fn tree(text: Option<&str>) -> TempDir {
    let tree = tempfile::tempdir().expect("a folder");
    let program = tree.path().join("usr/libexec/variantd/variantd-connect");
    fs::create_dir_all(program.parent().expect("a folder")).expect("folders");
    fs::write(program, "").expect("a program");
    fs::create_dir_all(file(&tree).parent().expect("a folder")).expect("folders");
    if let Some(text) = text {
        fs::write(file(&tree), text).expect("a file");
    }
    tree
}

fn file(tree: &TempDir) -> PathBuf {
    tree.path().join("etc/libvirt/libvirt.conf")
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("a folder");
    let names = entries.map(|entry| entry.expect("an entry").file_name());
    let mut names: Vec<_> = names
        .map(|name| name.to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

fn connect(tree: &TempDir, option: &str) -> String {
    stdout(&variantctl(tree.path(), &["connect", option]))
}

fn outcome(tree: &TempDir, option: &str) -> String {
    let printed = variantctl(tree.path(), &["--json", "connect", option]);
    let printed = schema::check("connect", &stdout(&printed));
    printed["outcome"].as_str().expect("text").to_owned()
}

#[test]
fn enable_and_disable_restore_file_mode_owner_and_link() {
    let tree = tree(None);
    let target = tree.path().join("etc/own.conf");
    fs::write(&target, OTHERS).expect("a file");
    fs::set_permissions(&target, fs::Permissions::from_mode(0o640)).expect("mode");
    if geteuid().is_root() {
        std::os::unix::fs::chown(&target, Some(4711), Some(4712)).expect("owner");
    }
    symlink(&target, file(&tree)).expect("a link");
    let access = || {
        let kind = fs::metadata(&target).expect("a file");
        (kind.mode(), kind.uid(), kind.gid())
    };
    let before = access();
    assert_eq!(outcome(&tree, "--enable"), "enabled");
    let enabled = fs::read_to_string(file(&tree)).expect("text");
    assert!(enabled.starts_with("# variantd: begin") && enabled.ends_with(OTHERS));
    assert_eq!(outcome(&tree, "--enable"), "already-so");
    assert_eq!(fs::read_to_string(&target).expect("text"), enabled);
    assert_eq!(access(), before);
    let backup = tree.path().join("etc/own.conf.before-variantd");
    assert_eq!(fs::read_to_string(&backup).expect("a copy"), OTHERS);
    assert_eq!(fs::metadata(backup).expect("a copy").mode(), before.0);
    assert_eq!(outcome(&tree, "--disable"), "disabled");
    assert_eq!(fs::read_to_string(&target).expect("text"), OTHERS);
    assert_eq!(access(), before);
    assert_eq!(outcome(&tree, "--disable"), "already-so");
    assert!(
        fs::symlink_metadata(file(&tree))
            .expect("a link")
            .is_symlink()
    );
    assert_eq!(names(&tree.path().join("etc")), ["libvirt", "own.conf"]);
}

#[test]
fn enable_makes_a_file_that_disable_removes() {
    let tree = tree(None);
    let printed = connect(&tree, "--enable");
    let path = file(&tree).display().to_string();
    assert_eq!(
        printed,
        format!("'{path}': the transport is now the default of root's clients\n")
    );
    let mode = fs::metadata(file(&tree)).expect("a file").mode();
    assert_eq!(mode & 0o777, 0o644);
    connect(&tree, "--disable");
    assert!(names(file(&tree).parent().expect("a folder")).is_empty());
}

#[test]
fn how_names_state_and_clients_and_changes_nothing() {
    let tree = tree(Some(OTHERS));
    let path = file(&tree).display().to_string();
    let printed = connect(&tree, "--how").replace(&path, "FILE");
    insta::with_settings!({snapshot_path => super::data("golden"), prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::assert_snapshot!("connect_how", printed);
    });
    assert_eq!(outcome(&tree, "--how"), "unchanged");
    assert_eq!(fs::read_to_string(file(&tree)).expect("text"), OTHERS);
    connect(&tree, "--enable");
    let printed = connect(&tree, "--how");
    let first = format!("'{path}' has the transport as default of root's clients\n");
    assert!(printed.starts_with(&first), "{printed}");
}

#[test]
fn enable_refuses_another_default_and_a_missing_program() {
    let other = "uri_default = \"qemu:///session\"\n";
    let tree = tree(Some(other));
    let (status, printed) = failure(&variantctl(tree.path(), &["connect", "--enable"]));
    assert_eq!(status, 1);
    for part in ["line 1: uri_default is", "VD-CON-001", "remove that line"] {
        assert!(printed.contains(part), "{printed}");
    }
    assert_eq!(fs::read_to_string(file(&tree)).expect("text"), other);
    fs::remove_dir_all(tree.path().join("usr")).expect("removed");
    let (_, printed) = failure(&variantctl(tree.path(), &["connect", "--enable"]));
    assert!(
        printed.contains("variantd-connect' does not exist"),
        "{printed}"
    );
    assert_eq!(
        names(file(&tree).parent().expect("a folder")),
        ["libvirt.conf"]
    );
    for arguments in [&["connect"][..], &["connect", "--how", "--enable"]] {
        let output = variantctl(tree.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}

/// The log of libvirt's client names the program of the transport, which the test does not install.
#[test]
fn libvirts_own_client_reads_the_lines() {
    let tree = tree(Some(
        "uri_list = [ \"x\" ] # a setting that libvirt does not know",
    ));
    let virsh = |arguments: &[&str]| {
        // For root libvirt reads /etc.
        let mut virsh = program::unprivileged("virsh");
        virsh
            .env("LIBVIRT_DEBUG", "1")
            .env("XDG_CONFIG_HOME", tree.path().join("etc"))
            .env_remove("LIBVIRT_DEFAULT_URI")
            .env_remove("VIRSH_DEFAULT_CONNECT_URI");
        let output = virsh.args(arguments).arg("uri").output();
        let output = output.expect("install the packages 'libvirt-clients' and 'util-linux'");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let names = |printed: &str| printed.contains("/usr/libexec/variantd/variantd-connect");
    assert!(!names(&virsh(&["-c", "variantd"])));
    connect(&tree, "--enable");
    for arguments in [&["-c", "variantd"][..], &[]] {
        let printed = virsh(arguments);
        assert!(names(&printed), "{arguments:?}: {printed}");
    }
    connect(&tree, "--disable");
    assert!(!names(&virsh(&["-c", "variantd"])));
}
