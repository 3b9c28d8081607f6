//! A run directory that is full or read-only: the agent starts and answers, assigns nothing, and continues when there
//! is space; `doctor` reports the reason.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::unistd::Uid;
use serde_json::Value;
use tests::program;

use crate::scene::{Agent, Scene};

const GPU: &str = "0009:01:00.0";

/// A scene with a run directory, below `host` for `doctor`; `None` if no mount namespace is available.
fn scene(run: &str) -> Option<(Scene, String)> {
    let can_mount = Uid::effective().is_root()
        && Command::new("unshare")
            .args(["--mount", "true"])
            .status()
            .is_ok_and(|status| status.success());
    if !can_mount {
        println!("not run: needs root and mount namespaces");
        return None;
    }
    let scene = Scene::new();
    let run = scene.path(run);
    fs::create_dir_all(&run).expect("run directory");
    Some((scene, run.display().to_string()))
}

/// Shell commands that fill a separate file system in the run directory.
fn full(run: &str) -> String {
    format!(
        "mount -t tmpfs -o size=64k none {run}; dd if=/dev/zero of={run}/filler bs=4k count=64 2>/dev/null || true"
    )
}

/// The same for a read-only one.
fn read_only(run: &str) -> String {
    format!("mount -t tmpfs none {run}; mount -o remount,ro {run}")
}

/// A path as the agent sees it.
fn seen_by(agent: &Agent, path: &Path) -> PathBuf {
    Path::new("/proc")
        .join(agent.id().to_string())
        .join("root")
        .join(path.strip_prefix("/").expect("absolute"))
}

fn runs_without_a_place_to_write(scene: &Scene, mut agent: Agent, hint: impl Fn(&Agent)) {
    let warned = agent.says("no device is assigned to a guest until the run directory is writable");
    assert!(warned.contains("VD-BND-010"), "{warned}");
    agent.says("serves");
    // Operations without files work.
    let shown = scene.says(&["recover"]);
    assert_eq!(shown, "no device has an interrupted change\n");
    let (status, refused) = scene.fails(&["bind", GPU]);
    assert_eq!(status, 1);
    assert!(refused.contains("VD-BND-010"), "{refused}");
    let driver = fs::read_link(scene.path(&format!("host/sys/bus/pci/devices/{GPU}/driver")));
    hint(&agent);
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
    let Some((scene, run)) = scene("run") else {
        return;
    };
    let agent = scene.start_behind(&full(&run));
    let filler = scene.path("run/filler");
    runs_without_a_place_to_write(&scene, agent, |agent| {
        fs::remove_file(seen_by(agent, &filler)).expect("room");
    });
}

#[test]
fn an_agent_whose_run_directory_is_read_only_is_asked_and_goes_on_when_it_is_not() {
    let Some((scene, run)) = scene("run") else {
        return;
    };
    let agent = scene.start_behind(&read_only(&run));
    runs_without_a_place_to_write(&scene, agent, |agent| {
        let mounted = Command::new("nsenter")
            .args(["--mount", "--target", &agent.id().to_string()])
            .args(["mount", "-o", "remount,rw", &run])
            .status();
        assert!(mounted.expect("nsenter").success());
    });
}

/// The finding of `doctor` about the run directory of a host after `shell` has run.
fn finding(scene: &Scene, shell: &str) -> Option<String> {
    let doctor = "exec \"$1\" --host \"$2\" --json doctor --only VD-BND-010";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-ec", &format!("{shell}; {doctor}"), "sh"])
        .arg(program::built("ctl", "variantctl"))
        .arg(scene.path("host"))
        .output()
        .expect("unshare");
    let printed = String::from_utf8_lossy(&output.stderr);
    let json: Value = serde_json::from_slice(&output.stdout).expect(&printed);
    let checks = json["checks"].as_array().expect("checks");
    let failed = checks.iter().find(|check| check["verdict"] == "fail");
    failed.map(|check| check.to_string())
}

#[test]
fn doctor_names_a_run_directory_that_is_full_or_read_only() {
    let Some((scene, run)) = scene("host/run/variantd") else {
        return;
    };
    let inodes = format!("mount -t tmpfs -o nr_inodes=1 none {run}");
    for (shell, why) in [
        (full(&run), "its file system is full"),
        (read_only(&run), "its file system is read-only"),
        (inodes, "its file system has no inode left"),
    ] {
        let found = finding(&scene, &shell).expect(why);
        let words = format!("no device is assigned to a guest: {why}");
        assert!(found.contains(&words), "{found}");
        assert!(found.contains("df -h /run/variantd"), "{found}");
    }
    let usual = format!("mount -t tmpfs none {run}");
    assert_eq!(finding(&scene, &usual), None);
}
