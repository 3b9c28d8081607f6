//! Files that a newer variantd wrote: the agent and `variantctl` refuse them with the way out, and change neither them nor the device.

use std::fs;

use nix::sys::signal::Signal;

use crate::scene::{GUEST, Scene};

const GPU: &str = "0009:01:00.0";

#[test]
fn record_of_a_newer_version_is_kept_and_its_device_refused_with_the_way_out() {
    let scene = Scene::new();
    let file = format!("run/records/{GPU}.json");
    let owners = [
        r#"{"domain":{"uuid":"6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11","name":"d0"}}"#,
        r#""admin""#,
        r#"{"pool":"a"}"#,
    ];
    let driver = scene.path(&format!("host/sys/bus/pci/devices/{GPU}/driver"));
    for owner in owners {
        let newer = format!(
            r#"{{"version":3,"device":"{GPU}","owner":{owner},"target":"nvidia","phase":"bound","more":1}}"#
        );
        scene.write(&file, &newer);
        let mut agent = scene.start();
        agent.says("keep their drivers; install that version again");
        agent.says("serves");
        for verb in ["release", "recover"] {
            let (status, refused) = scene.fails(&[verb, GPU]);
            assert_eq!(status, 1, "{refused}");
            for part in [
                &file,
                "has version 3",
                "VD-BND-011",
                "install that version again",
            ] {
                assert!(refused.contains(part), "{refused}");
            }
        }
        let (status, refused) = scene.fails(&["bind", GPU]);
        assert_eq!(status, 1, "{refused}");
        // libvirt reports the end of a guest that has the device.
        scene.asks_about("stopped", GUEST);
        agent.send(Signal::SIGTERM);
        assert!(agent.wait().success());
        assert_eq!(fs::read_to_string(scene.path(&file)).expect("kept"), newer);
        let now = fs::read_link(&driver).expect("a driver");
        assert!(now.ends_with("nvidia"), "{}", now.display());
    }
}

#[test]
fn snapshot_of_a_newer_version_is_refused_with_the_way_out() {
    let scene = Scene::new();
    let snapshot = scene.says(&["snapshot", "--host", "host"]);
    let newer = snapshot.replacen("\"version\":1", "\"version\":2", 1);
    assert_ne!(newer, snapshot);
    scene.write("newer.json", &newer);
    let (status, refused) = scene.fails(&["list", "--host", "newer.json"]);
    assert_eq!(status, 1, "{refused}");
    for part in [
        "'newer.json'",
        "version 2",
        "VD-HST-002",
        "use a newer variantctl",
    ] {
        assert!(refused.contains(part), "{refused}");
    }
}
