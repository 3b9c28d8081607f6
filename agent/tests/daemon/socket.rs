//! The hook's socket: past the bus, for root alone, and for no longer than the agent serves.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use hooks::agent::{self, Reply, SOCKET};
use hooks::call::Call;
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use zbus::Message;

use crate::scene::{Agent, GUEST, Scene, as_nobody};

/// Longer than a silent caller is waited for.
const LIMIT: Duration = Duration::from_secs(20);
/// More than are let in at once.
const MANY: usize = 300;
/// Where the other user finds the socket.
const PLACE: &str = "VARIANTD_TEST_SOCKET";

impl Scene {
    fn socket(&self) -> PathBuf {
        self.path("run").join(SOCKET)
    }

    /// What libvirt's hook hears at `operation` of a guest without devices, when it has no bus to go to.
    pub(crate) fn asks(&self, operation: &str) -> Reply {
        self.asks_for(operation, LIMIT)
    }

    fn asks_for(&self, operation: &str, limit: Duration) -> Reply {
        let step = match operation {
            "stopped" => "end",
            _ => "begin",
        };
        let arguments = ["d0", operation, step, "-"].map(str::to_owned);
        let call = Call::from_arguments(arguments.into_iter());
        let operation = call.operation.expect("an operation of ours");
        agent::call(&call, operation, GUEST, &self.path("run"), limit)
    }
}

fn serving(scene: &Scene) -> Agent {
    let mut agent = scene.start();
    agent.says("serves");
    agent
}

fn descriptors(agent: &Agent) -> usize {
    let open = fs::read_dir(format!("/proc/{}/fd", agent.id()));
    open.expect("descriptors").count()
}

#[test]
fn the_hook_is_answered_while_the_bus_is_not_there() {
    let scene = Scene::new();
    let agent = serving(&scene);
    let mode = fs::metadata(scene.socket()).expect("socket").mode();
    assert_eq!(mode & 0o777, 0o600);
    scene.bus.stop();
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    drop(agent);
}

#[test]
fn what_a_killed_agent_leaves_is_taken_by_the_next() {
    let scene = Scene::new();
    let mut killed = serving(&scene);
    killed.send(Signal::SIGKILL);
    killed.wait();
    assert!(scene.socket().exists());
    let _agent = serving(&scene);
    scene.bus.stop();
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
}

#[test]
fn an_agent_that_ends_because_nothing_needs_it_leaves_no_socket() {
    let scene = Scene::new();
    fs::write(scene.path("variantd.conf"), "idle_exit = 1\n").expect("configuration");
    let mut agent = serving(&scene);
    // For whom it does not wait for ever.
    let silent = UnixStream::connect(scene.socket()).expect("socket");
    assert!(agent.wait().success());
    assert!(!scene.socket().exists());
    drop(silent);
}

#[test]
fn an_agent_that_may_not_have_a_socket_serves_over_the_bus() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("run/hook.new")).expect("something in its way");
    let mut agent = scene.start();
    agent.says("libvirt's hook asks over the bus");
    agent.says("serves");
}

#[test]
fn who_says_nothing_or_leaves_keeps_nobody_out() {
    let scene = Scene::new();
    let agent = serving(&scene);
    let before = descriptors(&agent);
    let connect = || UnixStream::connect(scene.socket()).expect("socket");
    let silent: Vec<UnixStream> = (0..MANY).map(|_| connect()).collect();
    for _ in 0..MANY {
        let mut leaving = connect();
        let _ = leaving.write_all(b"l\x01\x00\x01");
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    drop(silent);
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    let settled = (0..100).any(|_| {
        std::thread::sleep(Duration::from_millis(50));
        descriptors(&agent) <= before + 1
    });
    assert!(settled, "{before}, then {}", descriptors(&agent));
}

/// Stops all its threads: a signal takes its time on a busy machine.
fn stop(agent: &Agent) {
    agent.send(Signal::SIGSTOP);
    let tasks = format!("/proc/{}/task", agent.id());
    let is_stopped = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        text.rsplit(") ")
            .next()
            .is_some_and(|state| state.starts_with('T'))
    };
    while !fs::read_dir(&tasks)
        .expect("threads")
        .flatten()
        .all(is_stopped)
    {
        std::thread::yield_now();
    }
}

#[test]
fn a_call_that_nobody_waits_for_any_more_is_not_made() {
    let scene = Scene::new();
    let mut agent = serving(&scene);
    stop(&agent);
    let limit = Duration::from_secs(1);
    assert_eq!(scene.asks_for("started", limit), Reply::Late(limit));
    agent.send(Signal::SIGCONT);
    assert_eq!(scene.asks("stopped"), Reply::Done(String::new()));
    agent.send(Signal::SIGTERM);
    let log = agent.rest();
    assert!(log.contains("guest 'd0' ended"), "{log}");
    assert!(!log.contains("guest 'd0' runs"), "{log}");
}

#[test]
fn what_is_no_d_bus_is_not_listened_to() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let endless = [b'A'; 1 << 20];
    for nonsense in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\n", b"\0\r\n", &endless] {
        let mut stream = UnixStream::connect(scene.socket()).expect("socket");
        stream.set_write_timeout(Some(LIMIT)).expect("limit");
        stream.set_read_timeout(Some(LIMIT)).expect("limit");
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(Shutdown::Write);
        let mut said = Vec::new();
        let _ = stream.read_to_end(&mut said);
        assert!(said.is_empty(), "{said:?}");
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
}

/// As another user: what the socket says to it. Alone it is no test.
#[test]
#[ignore = "the other process of another user's try"]
fn stranger() {
    let Some(socket) = std::env::var_os(PLACE) else {
        return;
    };
    let mut stream = UnixStream::connect(socket).expect("the mode is loosened");
    let call = Message::method_call("/org/variantd1/Hook", "Introspect");
    let call = call.interface("org.freedesktop.DBus.Introspectable");
    let _ = stream.write_all(call.build(&()).expect("a call").data());
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    assert!(said.is_empty(), "{said:?}");
}

/// Where somebody has loosened the mode, the agent looks itself.
#[test]
fn nobody_but_root_is_let_in() {
    if !Uid::effective().is_root() {
        return println!("not run: needs root, to become another user");
    }
    let scene = Scene::for_all();
    let mut agent = serving(&scene);
    for (path, mode) in [(scene.path("run"), 0o755), (scene.socket(), 0o666)] {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("mode");
    }
    let mut process = as_nobody("socket::stranger");
    let tried = process.env(PLACE, scene.socket()).status();
    assert!(tried.expect("a process").success());
    agent.says("user 65534 is not let into the hook's socket");
}

/// A D-Bus call up to the length of its header fields, which claims to have 120 MiB.
fn claim() -> Vec<u8> {
    let mut bytes = vec![b'l', 1, 0, 1];
    for number in [120_u32 << 20, 1, 0] {
        bytes.extend(number.to_le_bytes());
    }
    bytes
}

/// The most memory that the agent has had, in KiB (proc(5), VmHWM).
fn peak(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

#[test]
fn a_message_takes_the_memory_of_what_has_arrived_and_not_of_what_it_claims() {
    let scene = Scene::new();
    let agent = serving(&scene);
    scene.bus.stop();
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    let before = peak(&agent);
    let connected = || UnixStream::connect(scene.socket()).expect("socket");
    let mut callers: Vec<UnixStream> = (0..40).map(|_| connected()).collect();
    for caller in &mut callers {
        caller.write_all(&claim()).expect("a claim");
        // One that is told so already has closed its end.
        let _ = caller.write_all(&[0; 4096]);
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    for mut caller in callers {
        let mut answer = Vec::new();
        // Reset, or closed: it has no answer.
        let _ = caller.read_to_end(&mut answer);
        assert!(answer.is_empty());
    }
    let grown = peak(&agent) - before;
    assert!(grown < 64 << 10, "{grown} KiB for 40 claims");
}

/// Callers that send all but the end of the largest call wait for nobody, and keep no hook from its answer for long.
#[test]
fn callers_that_do_not_end_their_calls_share_a_budget_and_are_left() {
    let scene = Scene::new();
    let agent = serving(&scene);
    scene.bus.stop();
    let before = peak(&agent);
    let mut callers = Vec::new();
    for _ in 0..80 {
        let mut caller = UnixStream::connect(scene.socket()).expect("socket");
        let mut bytes = vec![b'l', 1, 0, 1];
        for number in [(2_u32 << 20) - 16, 1, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(1 << 20, 0);
        caller
            .set_write_timeout(Some(Duration::from_millis(50)))
            .expect("a time");
        let _ = caller.write_all(&bytes);
        callers.push(caller);
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
    let grown = peak(&agent) - before;
    assert!(grown < 128 << 10, "{grown} KiB for 80 callers");
}
