//! The real hook binary, called as libvirt calls it, against an agent on a private bus.

use std::sync::{Arc, Mutex};

use super::fault::NOWHERE;
use super::scene::{Call, FOREIGN, MARKED, Options, Refusal, Scene, UNMARKED};

/// The object that the hook calls.
pub(crate) const HOOK: &str = "/org/variantd1/Hook";

/// An agent that notes calls, refuses `Start` and rewrites by appending a comment.
#[derive(Clone, Default)]
pub(crate) struct Agent {
    calls: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn note(&self, what: &str, options: &Options) {
        let text = |key: &str| {
            let value = options
                .get(key)
                .and_then(|v| String::try_from(v.clone()).ok());
            value.unwrap_or_default()
        };
        let call = format!("{what} {} {}", text("operation"), text("extra"));
        self.calls.lock().expect("calls").push(call);
    }

    /// What it was asked.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("calls").clone()
    }
}

#[zbus::interface(name = "org.variantd1.Hook")]
impl Agent {
    fn prepare(&self, _xml: &str, options: Options) {
        self.note("Prepare", &options);
    }

    fn start(&self, _xml: &str, options: Options) -> Result<(), Refusal> {
        self.note("Start", &options);
        Err(Refusal::Refused("'0009:01:00.0': is on vfio-pci".into()))
    }

    fn release(&self, _xml: &str, options: Options) -> Result<(), Refusal> {
        self.note("Release", &options);
        Err(Refusal::Refused("'0009:01:00.0': still held".into()))
    }

    fn rewrite(&self, xml: &str, options: Options) -> String {
        self.note("Rewrite", &options);
        format!("{xml}<!-- new -->")
    }
}

#[tokio::test]
async fn the_agent_hears_what_libvirt_said_and_its_sentence_comes_back() {
    let scene = Scene::start();
    let agent = Agent::default();
    let _served = scene.serve(HOOK, agent.clone()).await;
    heard(scene, agent).await;
}

#[tokio::test]
async fn past_the_bus_it_is_the_same() {
    let (scene, agent) = (Scene::start(), Agent::default());
    let listens = agent.clone();
    let _listening = scene.listen(HOOK, move || listens.clone());
    scene.bus.stop();
    heard(scene, agent).await;
}

async fn heard(scene: Scene, agent: Agent) {
    let told = tokio::task::spawn_blocking(move || {
        [
            scene.run("prepare begin -", UNMARKED),
            scene.run("start begin -", MARKED),
            scene.run("release end destroyed", MARKED),
            scene.run("restore begin -", MARKED),
            scene.run("prepare begin -", FOREIGN),
        ]
    })
    .await
    .expect("hook runs");
    let [prepare, start, release, restore, foreign] = told;
    assert_eq!((prepare.status, &*prepare.said), (0, ""));
    assert_eq!(start.status, 1);
    assert_eq!(start.said, "'0009:01:00.0': is on vfio-pci");
    assert_eq!(release.status, 0);
    assert_eq!(restore.xml, format!("{MARKED}<!-- new -->"));
    assert_eq!((foreign.status, &*foreign.xml), (0, ""));
    let calls = agent.calls();
    let expected = [
        "Prepare prepare -",
        "Start start -",
        "Release release destroyed",
        "Rewrite restore -",
    ];
    assert_eq!(calls, expected);
}

#[test]
fn without_an_agent_a_marked_guest_stays_down_and_another_starts() {
    let scene = Scene::start();
    let marked = scene.run("prepare begin -", MARKED);
    assert_eq!(marked.status, 1);
    assert!(marked.said.contains("systemctl start variantd"));
    let unmarked = scene.run("prepare begin -", UNMARKED);
    assert_eq!(unmarked.status, 0);
    assert!(unmarked.said.starts_with("warning: "));
    let reconnect = scene.run("reconnect begin -", MARKED);
    assert_eq!(reconnect.status, 0, "a failure would kill the guest");
}

#[test]
fn a_guest_that_is_not_ours_needs_no_bus_at_all() {
    let scene = Scene::start();
    let nowhere = |operation: &str| Call {
        address: NOWHERE.to_owned(),
        run: "/nonexistent".into(),
        ..scene.call(operation)
    };
    let long = " ".repeat(3 << 20);
    for input in [FOREIGN, "no xml", &long] {
        let told = nowhere("prepare begin -").run(input);
        assert_eq!((told.status, &*told.said), (0, ""));
    }
    let marked = nowhere("restore begin -").run(MARKED);
    assert_eq!((marked.status, &*marked.xml), (1, ""));
}

#[test]
fn each_call_is_noted_also_for_a_guest_that_is_no_business_of_ours() {
    let scene = Scene::start();
    let noted = scene.bus.path("called");
    assert!(!noted.exists());
    assert_eq!(scene.run("start begin -", FOREIGN).status, 0);
    let first = std::fs::metadata(&noted).and_then(|file| file.modified());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(scene.run("stopped end -", FOREIGN).status, 0);
    let second = std::fs::metadata(&noted).and_then(|file| file.modified());
    assert!(second.expect("noted again") > first.expect("noted"));
}

#[tokio::test]
async fn the_agent_is_asked_about_a_device_that_came_after_its_list() {
    let scene = Scene::start();
    std::fs::write(scene.bus.path("devices"), "").expect("devices");
    std::fs::write(scene.bus.path("ids"), "10de:2342\n").expect("ids");
    let agent = Agent::default();
    let _served = scene.serve(HOOK, agent.clone()).await;
    let scene = tokio::task::spawn_blocking(move || {
        assert_eq!(scene.run("prepare begin -", UNMARKED).status, 0);
        scene.plug("0009:01:00.0", "0x10de", "0x2342");
        assert_eq!(scene.run("prepare begin -", UNMARKED).status, 0);
        scene
    });
    drop(scene.await.expect("hook runs"));
    assert_eq!(
        agent.calls(),
        ["Prepare prepare -"],
        "only once it is there"
    );
}
