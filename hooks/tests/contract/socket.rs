//! The agent's socket: slow, endless and foreign peers, peers of other users, and the hook's deadlines.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use std::os::unix::fs::PermissionsExt;

use hooks::agent::{self, Limits, Reply};
use hooks::call::{self, Operation};
use hooks::protocol::{LONGEST_REPLY, MethodReply, encoded};
use nix::unistd::Uid;

use super::libvirt::Agent;
use super::scene::{MARKED, Peer, SECONDS, Scene, UNMARKED};

/// The socket of another user.
const PLACE: &str = "VARIANTD_TEST_SOCKET";
/// `nobody`.
const NOBODY: u32 = 65534;

impl Scene {
    /// The same call in this process, with other limits.
    fn asks(&self, operation: Operation, limits: Limits) -> Reply {
        let call = call::Call {
            domain: "d0".into(),
            operation: Some(operation),
            extra: "-".into(),
        };
        agent::call(&call, operation, MARKED, &self.path(""), limits)
    }
}

#[test]
fn hook_sends_an_unread_call_of_an_ending_agent_to_the_next() {
    let (scene, agent, count) = (Scene::start(), Agent::default(), AtomicUsize::new(0));
    let serves = agent.clone();
    let _agent = scene.serve(move |peer| match count.fetch_add(1, Ordering::Relaxed) {
        // It may close before the call is sent, or with some of it unread.
        0 => {}
        1 => peer.stream.read_exact(&mut [0; 8]).expect("some of it"),
        _ => serves.serve(peer),
    });
    let told = scene.run("prepare begin -", MARKED);
    assert_eq!((told.status, &*told.printed), (0, ""));
    assert_eq!(agent.calls(), ["d0 prepare begin -"]);
}

#[test]
fn hook_does_not_repeat_a_call_that_the_agent_has_read() {
    let (scene, count) = (Scene::start(), Arc::new(AtomicUsize::new(0)));
    let counted = count.clone();
    let _agent = scene.serve(move |peer| {
        let _ = peer.call();
        counted.fetch_add(1, Ordering::Relaxed);
    });
    let told = scene.run("prepare begin -", MARKED);
    assert_eq!(told.status, 1);
    assert!(told.printed.contains("VD-HOK-004"), "{}", told.printed);
    assert_eq!(count.load(Ordering::Relaxed), 1);
}

#[test]
fn invalid_reply_does_not_pass() {
    let endless = vec![b'A'; LONGEST_REPLY + 4096];
    for nonsense in [
        &b"AAAA\0"[..],
        b"\0",
        b"[]\0",
        b"{\"continues\": 1}\0",
        b"{\"parameters\": {\"xml\": {}}}\0",
        b"HTTP/1.1 400\r\n\r\n",
        b"l\x02\x01\x01\0\0\0\0",
        &endless,
    ] {
        let (scene, nonsense) = (Scene::start(), nonsense.to_vec());
        let start = String::from_utf8_lossy(&nonsense[..nonsense.len().min(16)]).into_owned();
        let _agent = scene.serve(move |peer| {
            let _ = peer.call();
            let _ = peer.stream.write_all(&nonsense);
        });
        let told = scene.run("prepare begin -", MARKED);
        assert_eq!(told.status, 1, "{start}");
        assert!(
            told.printed.contains("VD-HOK-004"),
            "{start}: {}",
            told.printed
        );
        assert!(told.took < Duration::from_secs(SECONDS), "{start}");
        assert_eq!(scene.run("reconnect begin -", MARKED).status, 0, "{start}");
    }
}

/// Sends `reply` a byte at a time.
fn slowly(peer: &mut Peer, reply: &MethodReply, pause: Duration) {
    for byte in encoded(reply).expect("JSON") {
        if peer.stream.write_all(&[byte]).is_err() {
            return;
        }
        thread::sleep(pause);
    }
}

#[test]
fn slow_agent_is_late_only_beyond_the_limit() {
    for (pause, done) in [(2, true), (400, false)] {
        let scene = Scene::start();
        let _agent = scene.serve(move |peer| {
            let _ = peer.call();
            slowly(peer, &MethodReply::default(), Duration::from_millis(pause));
        });
        let limit = Duration::from_secs(2);
        let began = Instant::now();
        let reply = scene.asks(Operation::Prepare, Limits::within(limit));
        let wanted = match done {
            true => Reply::Done(String::new()),
            false => Reply::Late(limit),
        };
        assert_eq!(reply, wanted, "{pause} ms for each byte");
        assert!(began.elapsed() < limit * 2, "{:?}", began.elapsed());
    }
}

/// Progress every 100 ms, `count` times, then the end.
fn working(scene: &Scene, count: usize) -> fs::File {
    scene.serve(move |peer| {
        let _ = peer.call();
        for _ in 0..count {
            peer.progress();
            thread::sleep(Duration::from_millis(100));
        }
        peer.reply(&MethodReply::default());
    })
}

#[test]
fn progress_extends_the_timeout_up_to_the_total_limit() {
    let limits = |total| Limits {
        silence: Duration::from_secs(1),
        total: Duration::from_secs(total),
    };
    let scene = Scene::start();
    let _agent = working(&scene, 25);
    let reply = scene.asks(Operation::Prepare, limits(60));
    assert_eq!(reply, Reply::Done(String::new()), "after 2.5 s");
    let scene = Scene::start();
    let _agent = working(&scene, 1000);
    let reply = scene.asks(Operation::Prepare, limits(2));
    assert_eq!(reply, Reply::Late(Duration::from_secs(2)));
}

#[test]
fn only_prepare_may_take_longer_than_20_seconds() {
    for operation in Operation::ALL {
        let limits = Limits::of(operation);
        let total = match operation {
            Operation::Prepare => 1500,
            _ => 20,
        };
        assert_eq!(limits.total.as_secs(), total, "{operation:?}");
        assert_eq!(limits.silence.as_secs(), 20, "{operation:?}");
        assert!(hooks::protocol::PROGRESS * 3 < limits.silence);
    }
}

/// An agent that does not read: the call is longer than the socket's buffers.
#[test]
fn agent_that_does_not_read_a_long_call_is_late() {
    let scene = Scene::start();
    let _agent = scene.serve(|_| thread::sleep(Duration::from_secs(60)));
    let filling = format!("<description>{}</description>", "x".repeat(900_000));
    let xml = MARKED.replace("<metadata>", &format!("{filling}<metadata>"));
    let told = scene.run("prepare begin -", &xml);
    assert_eq!(told.status, 1);
    assert!(told.printed.contains("VD-BND-045"), "{}", told.printed);
    assert!(told.took < Duration::from_secs(SECONDS * 3));
}

/// As another user: listens at `PLACE` until its standard input ends. Alone it is no test.
#[test]
#[ignore = "the other process of a false agent"]
fn agent_of_another_user() {
    let Some(place) = env::var_os(PLACE) else {
        return;
    };
    let place = PathBuf::from(place);
    let made = place.with_extension("new");
    let _listener = UnixListener::bind(&made).expect("socket");
    // `bind` creates the file before it listens: the name that the other process waits for appears with a listener.
    fs::rename(&made, &place).expect("a name");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn hook_does_not_trust_a_socket_of_another_user() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to become another user");
    }
    let scene = Scene::start();
    let anybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(scene.path(""), anybody).expect("a directory of everybody's");
    let mut listening = Command::new("/proc/self/exe")
        .args([
            "--exact",
            "--ignored",
            "--nocapture",
            "socket::agent_of_another_user",
        ])
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
    let marked = scene.run("prepare begin -", MARKED);
    let unmarked = scene.run("prepare begin -", UNMARKED);
    drop(listening.stdin.take());
    assert!(listening.wait().expect("its status").success());
    assert_eq!((marked.status, unmarked.status), (1, 0));
    for told in [marked, unmarked] {
        assert!(
            told.printed.contains("user 65534 listens there"),
            "{}",
            told.printed
        );
        assert!(told.printed.contains("VD-AGT-001"), "{}", told.printed);
    }
}
