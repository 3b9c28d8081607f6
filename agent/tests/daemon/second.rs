//! A second agent beside the first: it reports the first one and exits without any change.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::Signal;
use tests::bus::Bus;
use zbus::connection;
use zbus::fdo::{RequestNameFlags, RequestNameReply};

use crate::scene::Scene;

/// Exit status of an agent that finds another one (variantd(8)).
const SECOND: i32 = 5;

const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";
const DEVICE: &str = "0009:01:00.0";

/// The record of a bind in progress, which an agent undoes when it starts.
fn binding() -> String {
    format!(
        r#"{{"version": 2, "device": "{DEVICE}", "owner": {{"domain": {{"uuid": "{UUID}", "name": "d0"}}}},
        "target": "nvgrace_gpu_vfio_pci", "before": {{"driver": "nvidia", "driver_override": null}}, "phase": "binding"}}"#
    )
}

/// Each file below a directory, with its inode, time and size.
fn tree(directory: &Path) -> BTreeMap<String, (u64, SystemTime, u64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("directory").flatten() {
        let (path, meta) = (entry.path(), entry.metadata().expect("metadata"));
        match meta.is_dir() {
            true => found.extend(tree(&path)),
            false => {
                let time = meta.modified().expect("time");
                found.insert(path.display().to_string(), (meta.ino(), time, meta.len()));
            }
        }
    }
    found
}

#[test]
fn a_second_agent_names_the_first_and_touches_nothing() {
    let scene = Scene::new();
    let entry = format!("run/records/{DEVICE}.json");
    scene.write(&entry, &binding());
    let mut first = scene.start();
    first.says("serves");
    // The recovery at start removes this record, and also the next one, until libvirt has reported which guests run. A
    // record that stays simulates a bind of the first agent: a second agent that recovers would unbind.
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut stays = false;
    while !stays {
        assert!(Instant::now() < deadline, "the first one does not recover");
        while scene.path(&entry).exists() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        scene.write(&entry, &binding());
        // On a busy machine more than a second passes until libvirt's report.
        std::thread::sleep(Duration::from_secs(4));
        stays = scene.path(&entry).exists();
    }
    let before = (tree(&scene.path("run")), tree(&scene.path("host")));
    let mut second = scene.start();
    let pid = format!(
        "another variantd (pid {}) uses the run directory",
        first.id()
    );
    second.says(&pid);
    assert_eq!(second.wait().code(), Some(SECOND));
    let after = (tree(&scene.path("run")), tree(&scene.path("host")));
    assert_eq!(before, after);
    // The first one still has names and socket.
    scene.says(&["recover"]);
    first.send(Signal::SIGKILL);
    first.wait();
    let mut third = scene.start();
    third.says("serves");
}

#[test]
fn an_agent_with_another_run_directory_leaves_the_names_to_the_first() {
    let scene = Scene::new();
    let mut first = scene.start();
    first.says("serves");
    let other = Bus::start().expect("another directory");
    let output = Command::new(env!("CARGO_BIN_EXE_variantd"))
        .arg("--run-dir")
        .arg(other.path("run"))
        .arg("--state-dir")
        .arg(other.path("state"))
        .arg("--config")
        .arg(other.path("variantd.conf"))
        .args(["--connect", "test:///default", "--root"])
        .arg(scene.path("host"))
        .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
        .output()
        .expect("variantd");
    let printed = String::from_utf8_lossy(&output.stderr);
    let pid = format!("(pid {}) owns the name 'org.variantd1'", first.id());
    assert!(printed.contains(&pid), "{printed}");
    assert_eq!(output.status.code(), Some(SECOND));
    scene.says(&["recover"]);
}

#[tokio::test]
async fn the_agents_name_cannot_be_taken_from_it() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let bus = connection::Builder::address(scene.bus.address()).build();
    let bus = bus.await.expect("bus");
    let flags = RequestNameFlags::REPLACE_EXISTING;
    let reply = bus.request_name_with_flags("org.variantd1", flags).await;
    assert_eq!(reply.expect("an answer"), RequestNameReply::InQueue);
}
