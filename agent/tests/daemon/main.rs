//! The real `variantd` on a private bus.

mod bus_loss;
mod contract;
mod doctor;
mod downgrade;
mod fault;
mod flood;
mod full_queue;
mod hostile;
mod log;
mod manual;
mod metrics;
mod newer;
mod power_cut;
mod priority;
mod reserve;
mod rounds;
mod saved_plan;
mod scene;
mod second;
mod service;
mod socket;
mod unwritable;
mod vdsm;

use std::collections::HashMap;
use std::fs;

use agent::snapshot::Snapshot;
use api::client::{Fault, ManagerProxy};
use nix::sys::signal::Signal;
use zbus::connection;

use scene::Scene;

#[tokio::test]
async fn it_publishes_its_devices_serves_reloads_and_ends() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let devices = fs::read_to_string(scene.path("run/devices")).expect("devices");
    assert_eq!(devices, "0009:01:00.0\n");
    let ids = fs::read_to_string(scene.path("run/ids")).expect("ids");
    assert!(ids.lines().any(|id| id == "10de:2342"), "{ids}");
    let snapshot = Snapshot::read(&scene.path("run/host.json")).expect("a snapshot");
    assert!(
        snapshot
            .host
            .devices
            .contains_key(&"0009:01:00.0".parse().expect("address"))
    );

    let bus = connection::Builder::address(scene.bus.address()).build();
    let bus = bus.await.expect("bus");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let rows = manager.list_devices(HashMap::new()).await.expect("list");
    assert_eq!(rows.len(), 1);
    let json = manager.wait("test", 10_000, HashMap::new()).await;
    assert!(json.expect("answer").contains(r#""outcome":"foreign""#));

    fs::write(scene.path("variantd.conf"), "repairs = true\n").expect("configuration");
    let fault = manager.reload(HashMap::new()).await.expect_err("a mistake");
    let Fault::Failed(sentence) = Fault::from(fault) else {
        unreachable!("a mistake in a file is a failure");
    };
    assert!(
        sentence.ends_with("line 1: unknown key 'repairs'; did you mean 'repair'? (VD-CFG-001)")
    );
    fs::write(scene.path("variantd.conf"), "repair = false\n").expect("configuration");
    let grace = include_str!("../../recipes/nvidia-grace.toml");
    let slow = grace.replacen("[[device]]", "bind_seconds = 260\n[[device]]", 1);
    scene.write("recipes.d/nvidia-grace.toml", &slow);
    agent.send(Signal::SIGHUP);
    agent.says("configuration read again");

    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    let versions = fs::read_to_string(scene.path("state/versions")).expect("learned versions");
    assert!(versions.starts_with("libvirt="));
}

#[test]
fn a_mistake_in_the_configuration_is_named_and_ends_it() {
    let scene = Scene::new();
    fs::write(scene.path("variantd.conf"), "\nprepairs = 1\n").expect("configuration");
    let mut agent = scene.start();
    let line = agent.says("ERROR");
    assert!(line.contains("variantd.conf', line 2"), "{line}");
    assert_eq!(agent.wait().code(), Some(1));
}
