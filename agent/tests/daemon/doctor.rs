//! `variantctl doctor` calls a running agent, and starts none.

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::Scene;

fn verdict(scene: &Scene, code: &str) -> (Option<i32>, Value) {
    let output = scene.variantctl(&["doctor", "--json", "--only", code]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    (output.status.code(), json["checks"][0]["verdict"].clone())
}

#[test]
fn an_agent_that_runs_passes_with_its_version_and_one_that_ended_fails() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    assert_eq!(verdict(&scene, "VD-AGT-001"), (Some(0), "pass".into()));
    assert_eq!(verdict(&scene, "VD-DOC-046"), (Some(0), "pass".into()));
    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    assert_eq!(verdict(&scene, "VD-AGT-001"), (Some(1), "fail".into()));
}
