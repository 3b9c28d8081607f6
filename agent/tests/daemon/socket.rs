//! The hook's socket: Varlink, for root alone, and only while the agent serves; or systemd's socket.

use std::fs::{self, Permissions};
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hooks::agent::{self, Limits, Reply};
use hooks::call::{Call, Operation};
use hooks::protocol::{self, SOCKET};
use nix::sys::signal::Signal;
use nix::unistd::Uid;
use serde_json::{Value, json};

use crate::scene::{Agent, GUEST, Scene, as_nobody};

/// Longer than the timeout of a silent caller.
const LIMIT: Duration = Duration::from_secs(20);
/// More than the limit of concurrent callers.
const MANY: usize = 300;
/// Passes the socket's path to the other user.
const PLACE: &str = "VARIANTD_TEST_SOCKET";

impl Scene {
    fn socket(&self) -> PathBuf {
        self.path("run").join(SOCKET)
    }

    /// The reply to libvirt's hook at `operation` of a guest without devices, without a bus.
    pub(crate) fn asks(&self, operation: &str) -> Reply {
        self.asks_for(operation, LIMIT)
    }

    /// The same for another guest.
    pub(crate) fn asks_about(&self, operation: &str, xml: &str) -> Reply {
        self.asks_with(operation, xml, LIMIT)
    }

    fn asks_for(&self, operation: &str, limit: Duration) -> Reply {
        self.asks_with(operation, GUEST, limit)
    }

    fn asks_with(&self, operation: &str, xml: &str, limit: Duration) -> Reply {
        let known = Operation::ALL.into_iter();
        let operation = known.into_iter().find(|one| one.word() == operation);
        let operation = operation.expect("an operation of ours");
        let call = Call {
            domain: "d0".into(),
            operation: Some(operation),
            extra: "-".into(),
        };
        let limits = Limits::within(limit);
        agent::call(&call, operation, xml, &self.path("run"), limits)
    }

    fn connected(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("socket");
        stream.set_write_timeout(Some(LIMIT)).expect("limit");
        stream.set_read_timeout(Some(LIMIT)).expect("limit");
        stream
    }

    /// The agent with this socket passed as systemd does.
    fn activated(&self, listener: &UnixListener) -> Agent {
        let program = Path::new(env!("CARGO_BIN_EXE_variantd"));
        let agent = self.bus.agent(program, "test:///default");
        let passed = r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0 0</dev/null"#;
        let mut shell = Command::new("sh");
        shell.args(["-c", passed, "sh"]).arg(program);
        shell.args(agent.get_args());
        let listener = listener.try_clone().expect("a descriptor");
        shell
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::from(OwnedFd::from(listener)))
            .stderr(Stdio::piped());
        Agent::of(shell.spawn().expect("sh"))
    }
}

/// All replies to a call up to the last.
fn replies(stream: &mut UnixStream, call: &Value) -> Vec<Value> {
    stream
        .write_all(&protocol::encoded(call).expect("JSON"))
        .expect("sent");
    let mut replies = Vec::new();
    loop {
        let mut text = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("a reply");
            match byte {
                [0] => break,
                [byte] => text.push(byte),
            }
        }
        let reply: Value = serde_json::from_slice(&text).expect("JSON");
        replies.push(reply);
        if replies.last().expect("a reply")["continues"] != true {
            return replies;
        }
    }
}

fn reply(stream: &mut UnixStream, call: &Value) -> Value {
    let mut replies = replies(stream, call);
    assert_eq!(replies.len(), 1);
    replies.remove(0)
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
fn next_agent_replaces_the_socket_of_a_killed_one() {
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
    // The agent does not wait forever for it.
    let silent = UnixStream::connect(scene.socket()).expect("socket");
    assert!(agent.wait().success());
    assert!(!scene.socket().exists());
    drop(silent);
}

#[test]
fn an_agent_that_cannot_have_its_socket_ends_with_an_error() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("run/hook.new")).expect("something in its way");
    let mut agent = scene.start();
    agent.says("cannot listen for libvirt's hook");
    assert_eq!(agent.wait().code(), Some(1));
}

#[test]
fn silent_or_disconnected_callers_do_not_block_others() {
    let scene = Scene::new();
    let agent = serving(&scene);
    let before = descriptors(&agent);
    let connect = || scene.connected();
    let silent: Vec<UnixStream> = (0..MANY).map(|_| connect()).collect();
    for _ in 0..MANY {
        let mut leaving = connect();
        let _ = leaving.write_all(b"{\"method\"");
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

/// Stops all its threads: a signal may take long on a busy machine.
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
fn abandoned_call_is_not_executed() {
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
fn invalid_varlink_gets_no_reply() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let endless = vec![b'A'; protocol::LONGEST_CALL + 4096];
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\n",
        b"\0\r\n",
        b"l\x01\x00\x01",
        b"{\0",
        b"{\"method\":\"\xff\"}\0",
        b"{\"method\":\"\\ud800\"}\0",
        b"{\"method\":\"org.varlink.service.GetInfo\",\"parameters\":{\"xml\":\"a\0\"}}\0",
        &endless,
    ] {
        let mut stream = scene.connected();
        let _ = stream.write_all(nonsense);
        let _ = stream.shutdown(Shutdown::Write);
        let mut printed = Vec::new();
        let _ = stream.read_to_end(&mut printed);
        assert!(printed.is_empty(), "{printed:?}");
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
}

#[test]
fn a_call_is_read_however_it_arrives_and_however_deep_it_is() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let info = b"{\"method\":\"org.varlink.service.GetInfo\"}\0";
    let deep = format!(
        "{{\"later\":{}{},\"method\":\"org.varlink.service.GetInfo\"}}\0",
        "[".repeat(500_000),
        "]".repeat(500_000)
    );
    let two = [&info[..], info].concat();
    for (bytes, piece, count) in [
        (&info[..], 1, 1),
        (&two, two.len(), 2),
        (&two, info.len() + 1, 2),
        (deep.as_bytes(), 4096, 1),
    ] {
        let mut stream = scene.connected();
        for piece in bytes.chunks(piece) {
            stream.write_all(piece).expect("sent");
        }
        stream.shutdown(Shutdown::Write).expect("the last call");
        let mut printed = String::new();
        stream.read_to_string(&mut printed).expect("replies");
        assert_eq!(printed.matches("\"product\":\"variantd\"").count(), count);
    }
}

#[test]
fn the_service_describes_itself_as_varlink_has_it() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let mut stream = scene.connected();
    let info = reply(
        &mut stream,
        &json!({"method": "org.varlink.service.GetInfo"}),
    );
    assert_eq!(info["parameters"]["product"], "variantd");
    assert_eq!(info["parameters"]["version"], env!("CARGO_PKG_VERSION"));
    for interface in info["parameters"]["interfaces"].as_array().expect("a list") {
        let method = "org.varlink.service.GetInterfaceDescription";
        let call = json!({"method": method, "parameters": {"interface": interface}});
        let description = reply(&mut stream, &call);
        let description = description["parameters"]["description"].as_str();
        let head = format!("interface {}\n", interface.as_str().expect("a name"));
        assert!(description.expect("a text").contains(&head), "{interface}");
    }
}

#[test]
fn unknown_method_or_operation_is_an_error() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let run = "org.variantd1.Hook.Run";
    for (call, error, field) in [
        (
            json!({"method": "org.variantd1.Hook.Stop"}),
            "MethodNotFound",
            json!({"method": "org.variantd1.Hook.Stop"}),
        ),
        (
            json!({"method": "org.variantd2.Hook.Run"}),
            "InterfaceNotFound",
            json!({"interface": "org.variantd2.Hook"}),
        ),
        (
            json!({"method": "Run"}),
            "InterfaceNotFound",
            json!({"interface": ""}),
        ),
        (
            json!({"method": run, "upgrade": true}),
            "MethodNotImplemented",
            json!({"method": run}),
        ),
        (
            json!({"method": run}),
            "InvalidParameter",
            json!({"parameter": "operation"}),
        ),
        (
            json!({"method": run, "parameters": {"operation": "attach", "xml": GUEST}}),
            "InvalidParameter",
            json!({"parameter": "operation"}),
        ),
        (
            json!({"method": run, "parameters": {"operation": "prepare", "sub": "end", "xml": GUEST}}),
            "InvalidParameter",
            json!({"parameter": "sub"}),
        ),
        (
            json!({"method": run, "parameters": {"operation": "prepare"}}),
            "InvalidParameter",
            json!({"parameter": "xml"}),
        ),
        (
            json!({"method": run, "parameters": {"operation": 1}}),
            "InvalidParameter",
            json!({"parameter": "parameters"}),
        ),
    ] {
        let answer = reply(&mut scene.connected(), &call);
        assert_eq!(
            answer["error"],
            format!("org.varlink.service.{error}"),
            "{call}"
        );
        assert_eq!(answer["parameters"], field, "{call}");
    }
    assert_eq!(scene.asks("prepare"), Reply::Done(String::new()));
}

#[test]
fn a_run_has_progress_where_it_is_asked_for_and_an_error_has_its_fields() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let call = |more: bool, xml: &str| {
        json!({"method": "org.variantd1.Hook.Run", "more": more,
            "parameters": {"operation": "prepare", "xml": xml, "later": [{"a": 1}]}})
    };
    let mut stream = scene.connected();
    assert_eq!(
        reply(&mut stream, &call(false, GUEST)),
        json!({"parameters": {}})
    );
    let told = replies(&mut stream, &call(true, GUEST));
    let (last, progress) = told.split_last().expect("replies");
    assert_eq!(*last, json!({"parameters": {}}));
    assert!(
        progress
            .iter()
            .all(|one| one["parameters"]["stage"].is_string()),
        "{told:?}"
    );
    let error = reply(&mut stream, &call(false, "<network/>"));
    assert_eq!(error["error"], "org.variantd1.Hook.Refused");
    assert_eq!(error["parameters"]["code"], "VD-XML-004");
    for field in ["message", "hint"] {
        let text = error["parameters"][field].as_str().expect(field);
        assert!(!text.is_empty() && !text.contains("VD-"), "{text}");
    }
    // A call without a reply, and one after it.
    let silent = json!({"method": "org.variantd1.Hook.Run", "oneway": true,
        "parameters": {"operation": "stopped", "xml": GUEST}});
    stream
        .write_all(&protocol::encoded(&silent).expect("JSON"))
        .expect("sent");
    let info = reply(
        &mut stream,
        &json!({"method": "org.varlink.service.GetInfo"}),
    );
    assert_eq!(info["parameters"]["product"], "variantd");
}

#[test]
fn one_connection_makes_a_bounded_number_of_calls() {
    let scene = Scene::new();
    let _agent = serving(&scene);
    let mut stream = scene.connected();
    let call = b"{\"method\":\"org.varlink.service.GetInfo\"}\0".repeat(100);
    let _ = stream.write_all(&call);
    let mut printed = Vec::new();
    let _ = stream.read_to_end(&mut printed);
    let replies = printed.iter().filter(|byte| **byte == 0).count();
    assert!(replies <= 16, "{replies}");
}

#[test]
fn on_a_socket_of_systemd_the_hook_waits_for_an_agent_that_starts_again() {
    let scene = Scene::new();
    fs::create_dir_all(scene.path("run")).expect("run directory");
    let listener = UnixListener::bind(scene.socket()).expect("socket");
    // Before an agent runs.
    std::thread::scope(|scope| {
        let early = scope.spawn(|| scene.asks("prepare"));
        let mut first = scene.activated(&listener);
        first.says("the hook's socket is systemd's");
        assert_eq!(early.join().expect("a reply"), Reply::Done(String::new()));
        first.send(Signal::SIGKILL);
        first.wait();
    });
    std::thread::scope(|scope| {
        let between = scope.spawn(|| scene.asks("prepare"));
        std::thread::sleep(Duration::from_millis(200));
        let mut second = scene.activated(&listener);
        second.says("serves");
        assert_eq!(between.join().expect("a reply"), Reply::Done(String::new()));
        second.send(Signal::SIGTERM);
        second.wait();
    });
    assert!(scene.socket().exists(), "it is systemd's");
    let limit = Duration::from_secs(1);
    let late = scene.asks_for("prepare", limit);
    assert!(matches!(late, Reply::Unreachable(_)), "{late:?}");
}

#[test]
fn other_descriptor_from_systemd_is_reported() {
    let scene = Scene::new();
    let file = fs::File::open("/dev/null").expect("a file");
    let program = Path::new(env!("CARGO_BIN_EXE_variantd"));
    let agent = scene.bus.agent(program, "test:///default");
    let mut shell = Command::new("sh");
    shell
        .args([
            "-c",
            r#"export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@" 3<&0"#,
            "sh",
        ])
        .arg(program)
        .args(agent.get_args())
        .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
        .env_remove("NOTIFY_SOCKET")
        .stdin(Stdio::from(file))
        .stderr(Stdio::piped());
    let mut agent = Agent::of(shell.spawn().expect("sh"));
    agent.says("cannot listen for libvirt's hook");
    assert_eq!(agent.wait().code(), Some(1));
}

/// As another user: prints the socket's reply. Does nothing without PLACE.
#[test]
#[ignore = "the other process of another user's try"]
fn stranger() {
    let Some(socket) = std::env::var_os(PLACE) else {
        return;
    };
    let mut stream = UnixStream::connect(socket).expect("the mode is loosened");
    let _ = stream.write_all(b"{\"method\":\"org.varlink.service.GetInfo\"}\0");
    let mut printed = Vec::new();
    let _ = stream.read_to_end(&mut printed);
    let denied = "{\"parameters\":{},\"error\":\"org.varlink.service.PermissionDenied\"}\0";
    assert_eq!(String::from_utf8_lossy(&printed), denied);
}

/// The agent checks the user itself, in case the socket's mode was changed.
#[test]
fn socket_accepts_only_root() {
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
    agent.says("refused user 65534 on the hook's socket");
}

/// The agent's peak memory in KiB (proc(5), VmHWM).
fn peak(agent: &Agent) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next());
    number
        .and_then(|number| number.parse().ok())
        .expect("a number")
}

/// Callers that send all but the end of the largest call neither block others nor delay the hook's reply for long.
#[test]
fn unfinished_calls_share_a_budget_and_time_out() {
    let scene = Scene::new();
    let agent = serving(&scene);
    scene.bus.stop();
    let before = peak(&agent);
    let mut callers = Vec::new();
    for _ in 0..80 {
        let mut caller = UnixStream::connect(scene.socket()).expect("socket");
        let mut bytes = br#"{"method":"org.variantd1.Hook.Run","parameters":{"xml":""#.to_vec();
        bytes.resize(2 << 20, b'x');
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
