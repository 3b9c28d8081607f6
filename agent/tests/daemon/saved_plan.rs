//! `variantctl plan DOMAIN` and `prepare --plan` with the real agent. libvirt's test driver has one domain, `test`,
//! without devices; plans of other domains are tested on a libvirt in memory.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::scene::Scene;

/// Saves the plan of `test`.
fn save(scene: &Scene, arguments: &[&str]) -> Value {
    let text = scene.says(arguments);
    scene.write("p", &text);
    serde_json::from_str(&text).expect("JSON")
}

const PLAN: [&str; 3] = ["plan", "--json", "test"];
const APPLY: [&str; 3] = ["prepare", "--plan", "p"];

#[test]
fn a_domain_is_planned_by_name_and_its_plan_applied() {
    let scene = Scene::new();
    let _agent = started(&scene);
    let printed = scene.says(&["plan", "test"]);
    assert_eq!(
        printed,
        "domain 'test' has no device that a recipe covers\n"
    );
    let plan = save(&scene, &PLAN);
    assert_eq!(
        (&plan["domain"], &plan["changed"]),
        (&"test".into(), &false.into())
    );
    let uuid = plan["uuid"].as_str().expect("uuid").to_owned();
    assert_eq!(save(&scene, &["plan", "--json", &uuid]), plan);
    assert_eq!(scene.says(&APPLY), printed);
    assert_eq!(scene.says(&["prepare", "--plan", "p", "test"]), printed);
}

#[test]
fn a_plan_of_a_file_is_applied_to_the_domain_that_has_this_text() {
    let scene = Scene::new();
    let _agent = started(&scene);
    let plan = save(&scene, &PLAN);
    let basis = |key: &str| plan["basis"][key].as_str().expect(key).to_owned();
    let target = format!("libvirt={},qemu={}", basis("libvirt"), basis("qemu"));
    // As 'virsh dumpxml' prints it: with an additional newline.
    scene.write(
        "test.xml",
        &format!("{}\n", plan["text"].as_str().expect("text")),
    );
    let host = [
        "--host",
        "host",
        "--recipes",
        "recipes.d",
        "--target",
        &target,
    ];
    let arguments = [&["plan", "--json", "test.xml"][..], &host].concat();
    assert_eq!(save(&scene, &arguments), plan);
    scene.says(&APPLY);
}

#[test]
fn a_plan_is_stale_once_the_host_the_recipes_or_the_versions_change() {
    let scene = Scene::new();
    let mut agent = started(&scene);
    let plan = save(&scene, &PLAN);
    let distance = "host/sys/devices/system/node/node0/distance";
    let before = fs::read_to_string(scene.path(distance)).expect("distances");
    scene.write(distance, &before.replace("80", "90"));
    let stale = |what: &str| {
        let (status, printed) = scene.fails(&APPLY);
        assert_eq!(status, 1, "{printed}");
        assert!(
            printed.contains(&format!("changed since: {what} (VD-PLN-001)")),
            "{printed}"
        );
        assert!(printed.contains("variantctl plan --json test"), "{printed}");
    };
    stale("the host's NUMA nodes");
    let json = scene.fails(&[&["--json"][..], &APPLY].concat()).1;
    let error: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(error["error"]["code"], "VD-PLN-001");
    scene.write(distance, &before);
    scene.says(&APPLY);
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/mlx5.toml");
    let recipe = fs::read_to_string(recipe).expect("recipe");
    scene.write("recipes.d/mlx5.toml", &format!("# ours\n{recipe}"));
    agent.send(Signal::SIGHUP);
    agent.says("configuration read again");
    stale("recipe mlx5");
    let mut other = plan;
    other["basis"]["qemu"] = "0.1.0".into();
    other["basis"]["definition"] = format!("sha256:{}", "0".repeat(64)).into();
    scene.write("p", &other.to_string());
    let (_, printed) = scene.fails(&APPLY);
    for what in ["the definition", "recipe mlx5", "QEMU (0.1.0 to "] {
        assert!(printed.contains(what), "{printed}");
    }
}

#[test]
fn invalid_plan_is_refused_before_a_call() {
    let scene = Scene::new();
    scene.write("p", "{\"version\": 1}");
    let (status, printed) = scene.fails(&APPLY);
    assert_eq!(status, 1);
    assert!(
        printed.contains("VD-PLN-002") && printed.contains("missing field"),
        "{printed}"
    );
    assert_eq!(scene.fails(&["prepare", "--plan", "no-such"]).0, 3);
    scene.write("p", &" ".repeat(9 << 20));
    assert!(scene.fails(&APPLY).1.contains("larger than 8 MiB"));
}

#[test]
fn a_name_that_is_neither_file_nor_domain_is_not_found() {
    let scene = Scene::new();
    let agent = started(&scene);
    let (status, printed) = scene.fails(&["plan", "missing"]);
    assert_eq!(status, 3);
    assert!(
        printed.contains("no file 'missing' here") && printed.contains("virsh list"),
        "{printed}"
    );
    for option in [
        ["--host", "host"],
        ["--recipes", "recipes.d"],
        ["--target", "qemu=9.0"],
    ] {
        let (status, printed) = scene.fails(&[&["plan", "test"][..], &option].concat());
        assert_eq!(status, 2);
        assert!(
            printed.contains("there is no file 'test'") && printed.contains("'./test'"),
            "{printed}"
        );
    }
    drop(agent);
    let (status, printed) = scene.fails(&["plan", "test"]);
    assert_eq!(status, 4);
    assert!(printed.contains("systemctl start variantd"), "{printed}");
}

/// The agent, connected to libvirt.
fn started(scene: &Scene) -> crate::scene::Agent {
    let mut agent = scene.start();
    agent.says("serves");
    scene.says(&["wait", "test"]);
    agent
}
