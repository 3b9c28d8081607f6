//! Who comes before whom: the thread that libvirt's hook waits for before the agent's others, guests before a driver's probe.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use crate::scene::Scene;

/// The nice value of a process or thread, from -20 to 19 (proc_pid_stat(5), field 19).
fn nice(task: &Path) -> i32 {
    let stat = fs::read_to_string(task.join("stat")).expect("stat");
    let (_, behind_name) = stat.rsplit_once(')').expect("its name");
    let field = behind_name.split_whitespace().nth(16).expect("field 19");
    field.parse().expect("a number")
}

#[test]
fn all_other_threads_stand_back_behind_the_hooks() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let ours = nice(Path::new("/proc/self"));
    let tasks = fs::read_dir(format!("/proc/{}/task", agent.id())).expect("threads");
    let mut hooks = 0;
    for task in tasks {
        let task = task.expect("a thread").path();
        let name = fs::read_to_string(task.join("comm")).expect("comm");
        let behind = nice(&task) - ours;
        match name.trim() {
            "hook" => {
                assert_eq!(behind, 0);
                hooks += 1;
            }
            other => assert!(behind >= 10, "{other}: {behind}"),
        }
    }
    assert_eq!(hooks, 1);
}

#[test]
fn a_write_for_the_hook_does_not_come_before_guests() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to come before others");
    }
    let root = tempfile::tempdir().expect("a root");
    let knob = root.path().join("sys/bus/pci/drivers_probe");
    fs::create_dir_all(knob.parent().expect("a folder")).expect("sysfs");
    // Who opens it for writing waits until somebody reads.
    mkfifo(&knob, Mode::S_IRUSR | Mode::S_IWUSR).expect("pipe");
    let mut child = Command::new("nice")
        .args([
            "-n",
            "-10",
            env!("CARGO_BIN_EXE_variantd-child"),
            "write-knob",
        ])
        .arg(root.path())
        .args(["probe", "", "0009:01:00.0"])
        .stdin(Stdio::null())
        .spawn()
        .expect("nice");
    let process = format!("/proc/{}", child.id());
    let writes = || {
        let name = fs::read_to_string(format!("{process}/comm")).expect("comm");
        name.starts_with("variantd-child") && nice(Path::new(&process)) == 0
    };
    while !writes() {
        assert!(child.try_wait().expect("its status").is_none(), "it ended");
        std::thread::yield_now();
    }
    drop(File::open(&knob).expect("pipe"));
    child.wait().expect("its status");
}
