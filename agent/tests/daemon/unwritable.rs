//! A run directory that is full or read-only: the agent starts and is asked, assigns nothing, and goes on when there is room.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Uid;

use crate::scene::{Agent, Scene};

const GPU: &str = "0009:01:00.0";

/// Whether a mount namespace can be had.
fn can_mount() -> bool {
    let can = Uid::effective().is_root()
        && Command::new("unshare")
            .args(["--mount", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !can {
        println!("not run: needs root and mount namespaces");
    }
    can
}

/// A path as the agent sees it.
fn seen_by(agent: &Agent, path: &Path) -> PathBuf {
    Path::new("/proc")
        .join(agent.id().to_string())
        .join("root")
        .join(path.strip_prefix("/").expect("absolute"))
}

fn runs_without_a_place_to_write(scene: &Scene, mut agent: Agent, mend: impl Fn(&Agent)) {
    let warned =
        agent.says("no device is assigned to a guest until the run directory can be written");
    assert!(warned.contains("VD-BND-010"), "{warned}");
    agent.says("serves");
    // What needs no file is served.
    let shown = scene.says(&["recover"]);
    assert_eq!(shown, "no device was left half-way\n");
    let (status, refused) = scene.fails(&["bind", GPU]);
    assert_eq!(status, 1);
    assert!(refused.contains("VD-BND-010"), "{refused}");
    let driver = fs::read_link(scene.path(&format!("host/sys/bus/pci/devices/{GPU}/driver")));
    mend(&agent);
    let devices = seen_by(&agent, &scene.path("run/devices"));
    let since = Instant::now();
    while fs::read_to_string(&devices).ok().as_deref() != Some("0009:01:00.0\n") {
        assert!(
            since.elapsed() < Duration::from_secs(30),
            "the list is not written"
        );
        thread::sleep(Duration::from_millis(50));
    }
    let (_, refused) = scene.fails(&["bind", "--driver", "no_such", GPU]);
    assert!(!refused.contains("VD-BND-010"), "{refused}");
    let after = fs::read_link(scene.path(&format!("host/sys/bus/pci/devices/{GPU}/driver")));
    assert_eq!(driver.ok(), after.ok());
}

#[test]
fn an_agent_whose_run_directory_is_full_is_asked_and_goes_on_when_there_is_room() {
    if !can_mount() {
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.path("run")).expect("run directory");
    let run = scene.path("run").display().to_string();
    let agent = scene.start_behind(&format!(
        "mount -t tmpfs -o size=64k none {run}; dd if=/dev/zero of={run}/filler bs=4k count=64 2>/dev/null || true"
    ));
    let filler = scene.path("run/filler");
    runs_without_a_place_to_write(&scene, agent, |agent| {
        fs::remove_file(seen_by(agent, &filler)).expect("room");
    });
}

#[test]
fn an_agent_whose_run_directory_is_read_only_is_asked_and_goes_on_when_it_is_not() {
    if !can_mount() {
        return;
    }
    let scene = Scene::new();
    fs::create_dir(scene.path("run")).expect("run directory");
    let run = scene.path("run").display().to_string();
    let agent = scene.start_behind(&format!(
        "mount -t tmpfs none {run}; mount -o remount,ro {run}"
    ));
    runs_without_a_place_to_write(&scene, agent, |agent| {
        let mounted = Command::new("nsenter")
            .args(["--mount", "--target", &agent.id().to_string()])
            .args(["mount", "-o", "remount,rw", &run])
            .status();
        assert!(mounted.expect("nsenter").success());
    });
}
