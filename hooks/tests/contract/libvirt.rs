//! The real hook, called as libvirt calls it, with a scripted agent.

use std::sync::{Arc, Mutex};

use hooks::protocol::{MethodCall, MethodReply, RUN, Results};

use super::scene::{Call, FOREIGN, MARKED, Peer, Scene, UNMARKED, refusal};

/// An agent that notes calls, refuses `start` and `release`, and rewrites by appending a comment.
#[derive(Clone, Default)]
pub(crate) struct Agent {
    calls: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    pub(crate) fn serve(&self, peer: &mut Peer) {
        let Some(call) = peer.call() else {
            return;
        };
        peer.progress();
        peer.reply(&self.answer(&call));
    }

    fn answer(&self, call: &MethodCall<'_>) -> MethodReply {
        assert!(call.more && call.method == RUN, "{call:?}");
        let arguments = &call.parameters;
        let word = |word: &Option<_>| word.as_deref().unwrap_or("?").to_owned();
        let printed = [
            &arguments.domain,
            &arguments.operation,
            &arguments.sub,
            &arguments.extra,
        ];
        let printed = printed.map(word).join(" ");
        self.calls.lock().expect("calls").push(printed);
        match &*word(&arguments.operation) {
            "start" => refusal("'0009:01:00.0': is on vfio-pci"),
            "release" => refusal("'0009:01:00.0': still held"),
            "migrate" | "restore" => MethodReply {
                parameters: Results {
                    xml: Some(format!("{}<!-- new -->", word(&arguments.xml))),
                    ..Results::default()
                },
                ..MethodReply::default()
            },
            _ => MethodReply::default(),
        }
    }

    /// The calls that it got.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("calls").clone()
    }
}

#[test]
fn hook_passes_the_arguments_to_the_agent_and_prints_its_message() {
    let (scene, agent) = (Scene::start(), Agent::default());
    let serves = agent.clone();
    let _agent = scene.serve(move |peer| serves.serve(peer));
    let prepare = scene.run("prepare begin -", UNMARKED);
    let start = scene.run("start begin -", MARKED);
    let release = scene.run("release end destroyed", MARKED);
    let restore = scene.run("restore begin -", MARKED);
    let foreign = scene.run("prepare begin -", FOREIGN);
    assert_eq!((prepare.status, &*prepare.printed), (0, ""));
    assert_eq!(start.status, 1);
    assert_eq!(
        start.printed,
        "'0009:01:00.0': is on vfio-pci (VD-BND-001); see 'variantctl list'"
    );
    assert_eq!(release.status, 0);
    assert_eq!(restore.xml, format!("{MARKED}<!-- new -->"));
    assert_eq!((foreign.status, &*foreign.xml), (0, ""));
    let expected = [
        "d0 prepare begin -",
        "d0 start begin -",
        "d0 release end destroyed",
        "d0 restore begin -",
    ];
    assert_eq!(agent.calls(), expected);
}

#[test]
fn missing_agent_stops_a_marked_guest_and_no_other() {
    let scene = Scene::start();
    let marked = scene.run("prepare begin -", MARKED);
    assert_eq!(marked.status, 1);
    assert!(marked.printed.contains("systemctl start variantd"));
    let unmarked = scene.run("prepare begin -", UNMARKED);
    assert_eq!(unmarked.status, 0);
    assert!(unmarked.printed.starts_with("warning: "));
    let reconnect = scene.run("reconnect begin -", MARKED);
    assert_eq!(reconnect.status, 0, "a failure would kill the guest");
}

#[test]
fn unrelated_guest_needs_no_agent() {
    let scene = Scene::start();
    let nowhere = |operation: &str| Call {
        run: "/nonexistent".into(),
        ..scene.call(operation)
    };
    let long = " ".repeat(3 << 20);
    for input in [FOREIGN, "no xml", &long] {
        let told = nowhere("prepare begin -").run(input);
        assert_eq!((told.status, &*told.printed), (0, ""));
    }
    let marked = nowhere("restore begin -").run(MARKED);
    assert_eq!((marked.status, &*marked.xml), (1, ""));
}

#[test]
fn hook_records_each_call_also_for_unrelated_guests() {
    let scene = Scene::start();
    let noted = scene.path("called");
    assert!(!noted.exists());
    assert_eq!(scene.run("start begin -", FOREIGN).status, 0);
    let first = std::fs::metadata(&noted).and_then(|file| file.modified());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert_eq!(scene.run("stopped end -", FOREIGN).status, 0);
    let second = std::fs::metadata(&noted).and_then(|file| file.modified());
    assert!(second.expect("noted again") > first.expect("noted"));
}

#[test]
fn hook_calls_the_agent_for_a_device_newer_than_its_list() {
    let scene = Scene::start();
    std::fs::write(scene.path("devices"), "").expect("devices");
    std::fs::write(scene.path("ids"), "10de:2342\n").expect("ids");
    let agent = Agent::default();
    let serves = agent.clone();
    let _agent = scene.serve(move |peer| serves.serve(peer));
    assert_eq!(scene.run("prepare begin -", UNMARKED).status, 0);
    scene.plug("0009:01:00.0", "0x10de", "0x2342");
    assert_eq!(scene.run("prepare begin -", UNMARKED).status, 0);
    assert_eq!(
        agent.calls(),
        ["d0 prepare begin -"],
        "only once it is there"
    );
}
