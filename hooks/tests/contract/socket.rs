//! The agent's socket: which call goes there, and which over the bus after all.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::{env, fs, thread};

use nix::unistd::Uid;
use tokio::task::spawn_blocking;

use super::libvirt::{Agent, HOOK};
use super::scene::{MARKED, Scene, Told};

/// Where another user listens.
const PLACE: &str = "VARIANTD_TEST_SOCKET";
/// `nobody`.
const NOBODY: u32 = 65534;

/// What libvirt hears while an agent serves on the bus, and what that agent was asked.
async fn asked(scene: Scene) -> (Told, Vec<String>) {
    let agent = Agent::default();
    let _served = scene.serve(HOOK, agent.clone()).await;
    let run = spawn_blocking(move || scene.run("prepare begin -", MARKED));
    (run.await.expect("a run"), agent.calls())
}

#[tokio::test]
async fn a_call_that_an_ending_agent_has_not_read_goes_over_the_bus() {
    let scene = Scene::start();
    let listener = UnixListener::bind(scene.socket()).expect("socket");
    // It may close before the call is sent, or with some of it unread.
    let ending = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody");
        stream.read_exact(&mut [0; 8]).expect("some of the call");
    });
    let (told, calls) = asked(scene).await;
    ending.join().expect("an end");
    assert_eq!((told.status, &*told.said), (0, ""));
    assert_eq!(calls, ["Prepare prepare -"]);
}

#[tokio::test]
async fn an_agent_that_may_go_on_is_not_asked_a_second_time() {
    let scene = Scene::start();
    let _listener = UnixListener::bind(scene.socket()).expect("socket");
    let (told, calls) = asked(scene).await;
    assert_eq!(told.status, 1);
    assert!(told.said.contains("VD-BND-045"), "{}", told.said);
    assert!(calls.is_empty(), "{calls:?}");
}

#[tokio::test]
async fn what_is_no_answer_is_no_pass() {
    let scene = Arc::new(Scene::start());
    let listener = UnixListener::bind(scene.socket()).expect("socket");
    let talking = thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("somebody");
        let mut call = vec![0; 1 << 16];
        let read = stream.read(&mut call).expect("a call");
        assert!(read > 0);
        std::io::Write::write_all(&mut stream, &[b'A'; 64]).expect("an answer");
    });
    let run = spawn_blocking(move || scene.run("prepare begin -", MARKED));
    let told = run.await.expect("a run");
    talking.join().expect("an end");
    assert_eq!(told.status, 1);
    assert!(told.said.contains("VD-HOK-004"), "{}", told.said);
}

/// As another user: listens at `PLACE` until its standard input ends. Alone it is no test.
#[test]
#[ignore = "the other process of a false agent"]
fn false_agent() {
    let Some(place) = env::var_os(PLACE) else {
        return;
    };
    let _listener = UnixListener::bind(place).expect("socket");
    println!("listens");
    let _ = std::io::stdin().read(&mut [0]);
}

#[tokio::test]
async fn who_is_not_root_is_no_agent() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to become another user");
    }
    let scene = Scene::start();
    let anybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.bus.path(""), anybody).expect("a directory of everybody's");
    let mut listening = Command::new("/proc/self/exe")
        .args(["--exact", "--ignored", "--nocapture", "socket::false_agent"])
        .env(PLACE, scene.socket())
        .uid(NOBODY)
        .gid(NOBODY)
        .stdin(Stdio::piped())
        .spawn()
        .expect("a process");
    while !scene.socket().exists() {
        assert!(
            listening.try_wait().expect("its status").is_none(),
            "it ended"
        );
        thread::yield_now();
    }
    let (told, calls) = asked(scene).await;
    drop(listening.stdin.take());
    assert!(listening.wait().expect("its status").success());
    assert_eq!((told.status, &*told.said), (0, ""));
    assert_eq!(calls, ["Prepare prepare -"]);
}
