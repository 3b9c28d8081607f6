//! Files that `variantctl` writes: libvirt.conf with its copy, and a snapshot.

use std::path::Path;
use std::process::Command;

use tests::power_cut::{Component, Node, Report, Tree};
use tests::program;
use tests::trace::Call;

use super::{Run, assert_none, view};
use crate::scene::Scene;

const TRANSPORT: &str = "tree/usr/libexec/variantd/variantd-connect";
const SETTINGS: &str = "tree/etc/libvirt/libvirt.conf";
const BACKUP: &str = "tree/etc/libvirt/libvirt.conf.before-variantd";
const TEXT: &str = "# of the administrator\nremote_mode = \"auto\"\n";

fn variantctl(scene: &Scene, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::built("ctl", "variantctl"));
    command.args(arguments);
    command.env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address());
    command
}

fn connect(scene: Scene, verb: &str) -> Run {
    scene.write(TRANSPORT, "");
    let root = scene.path("tree").display().to_string();
    let command = variantctl(&scene, &["--host", &root, "connect", verb]);
    Run::of(scene, &command)
}

fn is_tree(path: &Path) -> bool {
    path.starts_with("tree")
}

fn text(tree: &Tree, path: &str) -> Option<String> {
    match tree.get(Path::new(path))? {
        Node::File(bytes) => String::from_utf8(bytes.clone()).ok(),
        Node::Directory => None,
    }
}

/// Both files, and the administrator's lines are in one of them.
fn settings(tree: &Tree) -> Result<String, String> {
    let (now, backup) = (text(tree, SETTINGS), text(tree, BACKUP));
    Ok(format!("{now:?} {backup:?}"))
}

fn checked(run: &Run) -> Report {
    run.check(&Component {
        keep: &is_tree,
        commits: &|call| *call == Call::Exit,
        view: &settings,
    })
}

#[test]
fn libvirts_configuration_survives_a_power_cut_at_each_write_of_connect() {
    let edited = Scene::new();
    edited.write(SETTINGS, TEXT);
    let run = connect(edited, "--enable");
    assert_none(&checked(&run));
    let run = connect(run.scene, "--disable");
    assert_none(&checked(&run));
    let without = Scene::new();
    without.write("tree/etc/README", "");
    let run = connect(without, "--enable");
    assert_none(&checked(&run));
    let run = connect(run.scene, "--disable");
    assert_none(&checked(&run));
}

#[test]
fn a_saved_snapshot_survives_a_power_cut_at_each_write() {
    let scene = Scene::new();
    scene.write("saved/host.json", "old");
    let (host, file) = (scene.path("host"), scene.path("saved/host.json"));
    let [host, file] = [host, file].map(|path| path.display().to_string());
    let command = variantctl(&scene, &["--host", &host, "snapshot", &file]);
    let run = Run::of(scene, &command);
    let report = run.check(&Component {
        keep: &|path| path.starts_with("saved"),
        commits: &|call| *call == Call::Exit,
        view: &view::whole,
    });
    assert_none(&report);
}
