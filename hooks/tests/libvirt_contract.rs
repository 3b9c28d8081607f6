//! The real hook binary, called as libvirt calls it, against an agent on a private bus.

use std::collections::HashMap;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use tests::bus::Bus;
use zbus::{Connection, OwnedVariant, connection};

const MARKED: &str = "<domain type='kvm'><name>d0</name><metadata>\
    <v:prepared xmlns:v='urn:variantd:1'/></metadata></domain>";
const UNMARKED: &str = "<domain type='kvm'><name>d0</name><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
const FOREIGN: &str = "<domain type='kvm'><name>d0</name></domain>";

/// A bus, and the list of devices that the agent publishes.
struct Scene {
    bus: Bus,
}

impl Scene {
    fn start() -> Self {
        let bus = Bus::start().expect("bus");
        std::fs::write(bus.path("devices"), "0009:01:00.0\n").expect("devices");
        Self { bus }
    }

    fn run(&self, operation: [&str; 3], xml: &str) -> Output {
        run_hook(
            self.bus.address(),
            self.bus.path(""),
            operation,
            xml.as_bytes(),
        )
    }

    async fn serve(&self, agent: Agent) -> Connection {
        let builder = connection::Builder::address(self.bus.address());
        let builder = builder.serve_at("/org/variantd1/Hook", agent);
        builder
            .name("org.variantd1")
            .build()
            .await
            .expect("serve on the private bus")
    }
}

fn run_hook(address: &str, run: PathBuf, operation: [&str; 3], input: &[u8]) -> Output {
    let mut hook = Command::new(env!("CARGO_BIN_EXE_variantd-hook"))
        .arg("d0")
        .args(operation)
        .env_clear()
        .env("DBUS_SYSTEM_BUS_ADDRESS", address)
        .env("VARIANTD_RUN_DIR", run)
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("hook");
    let mut stdin = hook.stdin.take().expect("stdin");
    stdin.write_all(input).expect("the hook reads all of it");
    drop(stdin);
    hook.wait_with_output().expect("output")
}

/// An agent that notes calls, refuses `Start` and rewrites by appending a comment.
#[derive(Clone, Default)]
struct Agent {
    calls: Arc<Mutex<Vec<String>>>,
}

#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.variantd1.Error")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    Refused(String),
}

type Options = HashMap<String, OwnedVariant>;

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

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

#[tokio::test]
async fn the_agent_hears_what_libvirt_said_and_its_sentence_comes_back() {
    let bus = Arc::new(Scene::start());
    let agent = Agent::default();
    let _served = bus.serve(agent.clone()).await;
    let hook = bus.clone();
    let outputs = tokio::task::spawn_blocking(move || {
        [
            hook.run(["prepare", "begin", "-"], UNMARKED),
            hook.run(["start", "begin", "-"], MARKED),
            hook.run(["release", "end", "destroyed"], MARKED),
            hook.run(["restore", "begin", "-"], MARKED),
            hook.run(["prepare", "begin", "-"], FOREIGN),
        ]
    })
    .await
    .expect("hook runs");
    let [prepare, start, release, restore, foreign] = outputs;
    assert!(prepare.status.success() && prepare.stderr.is_empty());
    assert_eq!(start.status.code(), Some(1));
    assert_eq!(text(&start.stderr), "'0009:01:00.0': is on vfio-pci");
    assert!(release.status.success());
    assert_eq!(text(&restore.stdout), format!("{MARKED}<!-- new -->"));
    assert!(foreign.status.success() && foreign.stdout.is_empty());
    let calls = agent.calls.lock().expect("calls").clone();
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
    let bus = Scene::start();
    let marked = bus.run(["prepare", "begin", "-"], MARKED);
    assert_eq!(marked.status.code(), Some(1));
    assert!(text(&marked.stderr).contains("systemctl start variantd"));
    let unmarked = bus.run(["prepare", "begin", "-"], UNMARKED);
    assert!(unmarked.status.success());
    assert!(text(&unmarked.stderr).starts_with("warning: "));
    let reconnect = bus.run(["reconnect", "begin", "-"], MARKED);
    assert!(reconnect.status.success(), "a failure would kill the guest");
}

#[test]
fn a_guest_that_is_not_ours_needs_no_bus_at_all() {
    let nowhere = "unix:path=/nonexistent/bus";
    let long = vec![b' '; 3 << 20];
    for input in [FOREIGN.as_bytes(), b"no xml", b"", &long] {
        let output = run_hook(
            nowhere,
            "/nonexistent".into(),
            ["prepare", "begin", "-"],
            input,
        );
        assert!(output.status.success() && output.stderr.is_empty());
    }
    let marked = run_hook(
        nowhere,
        "/nonexistent".into(),
        ["restore", "begin", "-"],
        MARKED.as_bytes(),
    );
    assert_eq!(marked.status.code(), Some(1));
    assert!(marked.stdout.is_empty());
}

#[test]
fn each_call_is_noted_also_for_a_guest_that_is_no_business_of_ours() {
    let scene = Scene::start();
    let noted = scene.bus.path("called");
    assert!(!noted.exists());
    assert!(scene.run(["start", "begin", "-"], FOREIGN).status.success());
    let first = std::fs::metadata(&noted).and_then(|file| file.modified());
    std::thread::sleep(std::time::Duration::from_millis(20));
    assert!(scene.run(["stopped", "end", "-"], FOREIGN).status.success());
    let second = std::fs::metadata(&noted).and_then(|file| file.modified());
    assert!(second.expect("noted again") > first.expect("noted"));
}
