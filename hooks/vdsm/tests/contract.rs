//! The real VDSM hook, run as VDSM runs it: one variable names a file, and the exit status is the answer.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};

use tests::bus::Bus;
use zbus::fdo;
use zbus::object_server::Interface;
use zbus::{Connection, OwnedVariant, connection};

const UNMARKED: &str = "<domain type='kvm'><name>d0</name><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
/// An unrelated guest.
const FOREIGN: &str = "<domain type='kvm'><name>d0</name></domain>";
/// With the mark as with the device.
const PREPARED: &str = "<domain type='kvm'><name>d0</name><metadata>\
    <v:prepared xmlns:v='urn:variantd:1'/></metadata><devices>\
    <hostdev mode='subsystem' type='pci'><source>\
    <address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/></source></hostdev>\
    </devices></domain>";
/// The object that completes.
const MANAGER: &str = "/org/variantd1";

/// The last argument of each call.
type Options = HashMap<String, OwnedVariant>;

/// A refusal of the agent.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.variantd1.Error")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    Refused(String),
}

/// A private bus with the list of devices that an agent publishes.
struct Scene {
    bus: Bus,
}

impl Scene {
    fn start() -> Self {
        let bus = Bus::start().expect("bus");
        fs::write(bus.path("devices"), "0009:01:00.0\n").expect("devices");
        Self { bus }
    }

    async fn serve(&self, agent: impl Interface) -> Connection {
        let builder = connection::Builder::address(self.bus.address());
        let builder = builder.serve_at(MANAGER, agent).name("org.variantd1");
        builder.build().await.expect("serve on the private bus")
    }

    fn domain(&self) -> PathBuf {
        self.bus.path("domain.xml")
    }

    /// With the environment that VDSM gives: the file, the guest's id, its custom properties.
    fn run_vdsm(&self, file: Option<&Path>) -> Output {
        let mut hook = Command::new(env!("CARGO_BIN_EXE_variantd-vdsm"));
        hook.env_clear()
            .env("vmId", "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11")
            .env("custom_property", "1")
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .env("VARIANTD_RUN_DIR", self.bus.path(""))
            .current_dir("/");
        if let Some(file) = file {
            hook.env("_hook_domxml", file);
        }
        hook.output().expect("the hook runs")
    }

    async fn run_on(self: &Arc<Self>, xml: &str) -> (Option<i32>, String, String) {
        fs::write(self.domain(), xml).expect("domain");
        let scene = self.clone();
        let run = move || scene.run_vdsm(Some(&scene.domain()));
        let output = tokio::task::spawn_blocking(run).await.expect("run");
        let printed = text(&output.stderr);
        let after = fs::read_to_string(self.domain()).expect("domain");
        (output.status.code(), printed, after)
    }
}

/// An agent that completes by appending a comment, or refuses.
#[derive(Clone, Default)]
struct Agent {
    refuses: bool,
    calls: Arc<Mutex<usize>>,
}

#[zbus::interface(name = "org.variantd1.Manager")]
impl Agent {
    fn prepare_xml(&self, xml: &str, _options: Options) -> Result<(String, String), Refusal> {
        *self.calls.lock().expect("calls") += 1;
        match self.refuses {
            true => Err(Refusal::Refused("'0009:01:00.0': not\n so".into())),
            false => Ok((format!("{xml}<!-- new -->"), "{}".into())),
        }
    }
}

/// An agent for which the bus answers the first calls, this many times.
#[derive(Clone)]
struct Absent {
    failures: usize,
    error: fn(String) -> fdo::Error,
    calls: Arc<Mutex<usize>>,
}

#[zbus::interface(name = "org.variantd1.Manager")]
impl Absent {
    fn prepare_xml(&self, xml: &str, _options: Options) -> fdo::Result<(String, String)> {
        let mut calls = self.calls.lock().expect("calls");
        *calls += 1;
        match *calls <= self.failures {
            true => Err((self.error)("a full queue".into())),
            false => Ok((format!("{xml}<!-- new -->"), "{}".into())),
        }
    }
}

#[tokio::test]
async fn a_guest_is_completed_where_its_file_lies() {
    let scene = Arc::new(Scene::start());
    let agent = Agent::default();
    let _served = scene.serve(agent.clone()).await;
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*printed), (Some(0), ""));
    assert_eq!(after, format!("{UNMARKED}<!-- new -->"));
    for untouched in [PREPARED, FOREIGN] {
        let (status, printed, after) = scene.run_on(untouched).await;
        assert_eq!((status, &*printed, &*after), (Some(0), "", untouched));
    }
    assert_eq!(
        *agent.calls.lock().expect("calls"),
        1,
        "one was asked about"
    );
}

#[tokio::test]
async fn a_call_without_an_answer_is_made_again_for_it_only_reads() {
    let errors: [fn(String) -> fdo::Error; 2] = [fdo::Error::LimitsExceeded, fdo::Error::NoReply];
    for error in errors {
        let scene = Arc::new(Scene::start());
        let agent = Absent {
            failures: 3,
            error,
            calls: Arc::default(),
        };
        let _served = scene.serve(agent.clone()).await;
        let (status, printed, after) = scene.run_on(UNMARKED).await;
        assert_eq!((status, &*printed), (Some(0), ""));
        assert_eq!(after, format!("{UNMARKED}<!-- new -->"));
        assert_eq!(*agent.calls.lock().expect("calls"), 4);
    }
}

#[tokio::test]
async fn a_bus_without_room_is_named() {
    let scene = Arc::new(Scene::start());
    let agent = Absent {
        failures: usize::MAX,
        error: fdo::Error::LimitsExceeded,
        calls: Arc::default(),
    };
    let _served = scene.serve(agent).await;
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*after), (Some(2), UNMARKED));
    assert!(
        printed.contains("no quota left for a call of variantd"),
        "{printed}"
    );
    assert!(
        printed.contains("a full queue (VD-AGT-001); try again"),
        "{printed}"
    );
}

#[tokio::test]
async fn a_refusal_stops_the_guest_with_one_line() {
    let scene = Arc::new(Scene::start());
    let agent = Agent {
        refuses: true,
        ..Agent::default()
    };
    let _served = scene.serve(agent).await;
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*printed), (Some(2), "'0009:01:00.0': not so"));
    assert_eq!(after, UNMARKED);
}

#[tokio::test]
async fn without_the_agent_a_guest_with_a_device_does_not_start() {
    let scene = Arc::new(Scene::start());
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*after), (Some(2), UNMARKED));
    assert!(printed.contains("VD-AGT-001"), "{printed}");
    assert!(printed.contains("systemctl start variantd"), "{printed}");
    assert_eq!(scene.run_on(FOREIGN).await.0, Some(0));
}

#[tokio::test]
async fn before_the_agent_has_run_a_guest_with_a_pci_device_starts_with_a_warning() {
    let scene = Arc::new(Scene::start());
    fs::remove_file(scene.bus.path("devices")).expect("the list");
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*after), (Some(0), UNMARKED));
    assert!(
        printed.starts_with("warning: ") && printed.contains("VD-AGT-001"),
        "{printed}"
    );
    assert_eq!(
        scene.run_on(FOREIGN).await,
        (Some(0), String::new(), FOREIGN.to_owned())
    );
    let agent = Agent::default();
    let _served = scene.serve(agent.clone()).await;
    let (status, _, after) = scene.run_on(UNMARKED).await;
    assert_eq!(
        (status, after),
        (Some(0), format!("{UNMARKED}<!-- new -->"))
    );
    let (status, printed, _) = scene.run_on("").await;
    assert_eq!(status, Some(2));
    assert!(printed.contains("VD-HOK-005"), "{printed}");
}

#[test]
fn broken_contract_stops_the_guest() {
    let scene = Scene::start();
    let output = scene.run_vdsm(None);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("_hook_domxml"));
    let output = scene.run_vdsm(Some(&scene.domain()));
    assert_eq!(output.status.code(), Some(2), "there is no such file");
}

#[test]
fn manual_page_has_the_contract() {
    let page = include_str!("../../../packaging/man/variantd-vdsm.8.md");
    let seconds = format!("{} s;", vdsm::LIMIT.as_secs());
    for word in [
        vdsm::FILE,
        &seconds,
        "VD-AGT-001",
        "VD-HOK-003",
        "VD-HOK-005",
    ] {
        assert!(page.contains(word), "the page lacks '{word}'");
    }
}

#[tokio::test]
async fn a_bus_that_does_not_answer_is_not_waited_for() {
    let scene = Arc::new(Scene::start());
    scene.bus.stop();
    let (status, printed, after) = scene.run_on(UNMARKED).await;
    assert_eq!((status, &*after), (Some(2), UNMARKED));
    assert!(
        printed.contains("the bus does not answer (VD-AGT-001)"),
        "{printed}"
    );
}

/// A program's output, without the last line end.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}
