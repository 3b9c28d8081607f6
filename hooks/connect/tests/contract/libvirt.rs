//! The real `virsh` and `libvirtd` of Debian, with `variantd-connect` between them and a modelled agent on a private bus.
//!
//! The daemon is a session daemon with folders of its own. As root it runs in a user namespace, so that it takes itself for one.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use tests::bus::Bus;
use tests::program;
use zbus::{Connection, OwnedVariant, connection};

pub(super) const GPU: &str = "<devices><hostdev mode='subsystem' type='pci'><source><address domain='0x0009' bus='0x01' slot='0x00' function='0x0'/>\
                   </source></hostdev></devices>";
pub(super) const COMPLETED: &str = "<description>completed</description>";

/// A domain of the test driver.
pub(super) fn guest(name: &str, content: &str) -> String {
    format!(
        "<domain type='test'><name>{name}</name><memory>1024</memory><os><type>hvm</type></os>{content}</domain>"
    )
}

/// An agent that adds a description, and refuses a guest of the name `refused`.
#[derive(Clone, Default)]
pub(super) struct Agent {
    asked: Arc<Mutex<Vec<String>>>,
    knows_no_domain: Arc<Mutex<bool>>,
    /// As polkit for a user who may only plan.
    denies_changes: Arc<Mutex<bool>>,
}

/// A refusal of the agent.
#[derive(Debug, zbus::DBusError)]
#[zbus(prefix = "org.variantd1.Error")]
enum Refusal {
    #[zbus(error)]
    ZBus(zbus::Error),
    Refused(String),
    NotFound(String),
    NotAuthorized(String),
}

type Options = HashMap<String, OwnedVariant>;

#[zbus::interface(name = "org.variantd1.Manager")]
impl Agent {
    fn prepare_xml(&self, xml: &str, _options: Options) -> Result<(String, String), Refusal> {
        self.asked.lock().expect("log").push("PrepareXml".into());
        match xml.contains("<name>refused") {
            true => Err(Refusal::Refused(
                "'0009:01:00.0': the host has no such device (VD-DEV-001)".into(),
            )),
            false => Ok((
                xml.replace("<memory", &format!("{COMPLETED}<memory")),
                "{}".into(),
            )),
        }
    }

    /// Completes a device for the next start, and refuses one for a running guest.
    fn prepare_device(
        &self,
        domain: &str,
        xml: &str,
        options: Options,
    ) -> Result<(String, String), Refusal> {
        let mut given: Vec<&str> = options.keys().map(String::as_str).collect();
        given.sort_unstable();
        let asked = format!("PrepareDevice {domain} {}", given.join(","));
        self.asked.lock().expect("log").push(asked);
        if *self.knows_no_domain.lock().expect("a flag") {
            return Err(Refusal::NotFound("no such domain".into()));
        }
        match options.contains_key("live") {
            true => Err(Refusal::Refused(
                "'0009:01:00.0': a running guest cannot get its generic initiators (VD-NUM-016)"
                    .into(),
            )),
            false => Ok((
                xml.replace("<source>", "<driver name='vfio'/><source>"),
                "{}".into(),
            )),
        }
    }

    fn wait(&self, domain: &str, _milliseconds: u32, _options: Options) -> Result<String, Refusal> {
        self.asked.lock().expect("log").push(domain.into());
        match *self.denies_changes.lock().expect("a flag") {
            true => Err(Refusal::NotAuthorized("polkit denies it".into())),
            false => Ok("{}".into()),
        }
    }

    fn wait_pending(&self, domain: &str, milliseconds: u32, _options: Options) -> String {
        assert!((1..=20_000).contains(&milliseconds), "{milliseconds}");
        let asked = format!("WaitPending {domain}");
        self.asked.lock().expect("log").push(asked);
        "true".into()
    }
}

pub(super) struct Scene {
    pub(super) bus: Bus,
    daemon: Child,
    /// Keeps the test driver's state, which lives as long as one connection.
    keeper: Option<(Child, ChildStdin)>,
    runtime: tokio::runtime::Runtime,
}

impl Scene {
    pub(super) fn start() -> Self {
        let bus = Bus::start().expect("bus");
        fs::write(bus.path("devices"), "0009:01:00.0\n").expect("a list");
        let log = File::create(bus.path("log")).expect("a log");
        fs::create_dir(bus.path("run")).expect("a folder");
        let mut daemon = program::unprivileged("libvirtd");
        for (name, folder) in [
            ("HOME", ""),
            ("XDG_RUNTIME_DIR", "run"),
            ("XDG_CONFIG_HOME", "config"),
            ("XDG_CACHE_HOME", "cache"),
        ] {
            daemon.env(name, bus.path(folder));
        }
        let daemon = daemon
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn();
        let daemon = daemon.expect("install the packages 'libvirt-daemon' and 'util-linux'");
        let threads = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build();
        let mut scene = Self {
            bus,
            daemon,
            keeper: None,
            runtime: threads.expect("a runtime"),
        };
        let until = Instant::now() + Duration::from_secs(30);
        while UnixStream::connect(scene.socket()).is_err() {
            assert!(
                Instant::now() < until,
                "{}",
                fs::read_to_string(scene.bus.path("log")).expect("log")
            );
            thread::sleep(Duration::from_millis(20));
        }
        let function = scene.bus.path("sys/bus/pci/devices/0009:01:00.0");
        fs::create_dir_all(function).expect("a function");
        let folder = scene.bus.path("");
        let folder = folder.display();
        let command = format!(
            "#!/bin/sh\nDBUS_SYSTEM_BUS_ADDRESS='{}' VARIANTD_RUN_DIR='{folder}' VARIANTD_ROOT='{folder}' exec '{}' --socket '{}'\n",
            scene.bus.address(),
            env!("CARGO_BIN_EXE_variantd-connect"),
            scene.socket().display()
        );
        program::script(&scene.bus.path("transport"), &command);
        scene.keep();
        scene
    }

    fn keep(&mut self) {
        let mut keeper = Command::new("virsh");
        keeper.args(["-c", &self.uri("test:///default", false)]);
        keeper
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let mut keeper = keeper
            .spawn()
            .expect("install the package 'libvirt-clients'");
        let mut input = keeper.stdin.take().expect("a pipe");
        writeln!(input, "list").expect("virsh reads");
        self.keeper = Some((keeper, input));
        let until = Instant::now() + Duration::from_secs(30);
        while !self.virsh(&["list"]).status.success() {
            assert!(Instant::now() < until, "libvirtd does not answer");
        }
    }

    pub(super) fn serve(&self) -> (Agent, Connection) {
        let agent = Agent::default();
        let builder = connection::Builder::address(self.bus.address());
        let builder = builder
            .serve_at("/org/variantd1", agent.clone())
            .name("org.variantd1");
        (
            agent,
            self.runtime.block_on(builder.build()).expect("served"),
        )
    }

    /// The test driver's state ends with the last connection, as in a test that opens its own.
    pub(super) fn forget(&mut self) {
        let (mut keeper, input) = self.keeper.take().expect("a keeper");
        drop(input);
        keeper.wait().expect("its end");
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.bus.path("run/libvirt/libvirt-sock")
    }

    pub(super) fn end_daemon(&mut self) {
        self.daemon.kill().expect("the daemon");
        self.daemon.wait().expect("its end");
    }

    /// With the transport, or directly.
    pub(super) fn uri(&self, base: &str, through: bool) -> String {
        let (driver, path) = base.split_once(':').expect("a URI");
        match through {
            true => format!(
                "{driver}+ext:{path}?command={}",
                self.bus.path("transport").display()
            ),
            false => format!("{driver}+unix:{path}?socket={}", self.socket().display()),
        }
    }

    /// virsh over the transport.
    fn virsh(&self, arguments: &[&str]) -> Output {
        self.virsh_of("test:///default", true, arguments)
    }

    fn virsh_of(&self, base: &str, through: bool, arguments: &[&str]) -> Output {
        self.client(&self.uri(base, through), arguments)
    }

    /// virsh with this URI.
    pub(super) fn client(&self, uri: &str, arguments: &[&str]) -> Output {
        let mut virsh = Command::new("virsh");
        virsh
            .env("LC_ALL", "C")
            .args(["-q", "-c", uri])
            .args(arguments);
        virsh
            .stdin(Stdio::null())
            .output()
            .expect("install the package 'libvirt-clients'")
    }

    /// The standard output of a command that must succeed.
    pub(super) fn printed(&self, arguments: &[&str]) -> String {
        let output = self.virsh(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).expect("text")
    }

    fn error(&self, arguments: &[&str]) -> String {
        let output = self.virsh(arguments);
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    pub(super) fn file(&self, name: &str, text: &str) -> String {
        let path = self.bus.path(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        if let Some((mut keeper, input)) = self.keeper.take() {
            drop(input);
            let _ = keeper.wait();
        }
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[test]
fn define_and_create_of_a_relevant_guest_are_completed() {
    let scene = Scene::start();
    let (agent, _served) = scene.serve();
    let defined = scene.file("d.xml", &guest("d0", GPU));
    let created = scene.file("c.xml", &guest("d1", GPU));
    let other = scene.file("o.xml", &guest("d2", ""));
    scene.printed(&["define", &defined]);
    scene.printed(&["undefine", "d0"]);
    scene.printed(&["define", "--validate", &defined]);
    scene.printed(&["create", &created]);
    scene.printed(&["define", &other]);
    for (name, completed) in [("d0", true), ("d1", true), ("d2", false)] {
        let xml = scene.printed(&["dumpxml", name]);
        assert_eq!(xml.contains(COMPLETED), completed, "{xml}");
    }
    assert_eq!(*agent.asked.lock().expect("log"), ["PrepareXml"; 3]);
}

#[test]
fn refusal_is_libvirts_own_error() {
    let scene = Scene::start();
    let _served = scene.serve();
    let path = scene.file("d.xml", &guest("refused", GPU));
    let error = scene.error(&["define", &path]);
    assert_eq!(
        error.trim(),
        format!(
            "error: Failed to define domain from {path}\nerror: '0009:01:00.0': the host has no such device (VD-DEV-001)"
        )
    );
    let listed = scene.printed(&["list", "--all", "--name"]);
    assert_eq!(listed.trim(), "test");
}

#[test]
fn definition_with_only_a_missing_device_is_refused_by_the_agent() {
    let scene = Scene::start();
    let missing = GPU.replace("0x01", "0x77");
    let path = scene.file("d.xml", &guest("refused", &missing));
    let (agent, _served) = scene.serve();
    let error = scene.error(&["define", &path]);
    assert!(error.contains("VD-DEV-001"), "{error}");
    assert_eq!(*agent.asked.lock().expect("log"), ["PrepareXml"]);
    let path = scene.file("o.xml", &guest("d2", ""));
    scene.printed(&["define", &path]);
    assert_eq!(agent.asked.lock().expect("log").len(), 1);
}

#[test]
fn without_an_agent_a_relevant_guest_is_refused_and_others_pass() {
    let scene = Scene::start();
    let path = scene.file("d.xml", &guest("d0", GPU));
    let error = scene.error(&["define", &path]);
    for part in [
        "variantd is not running",
        "VD-AGT-001",
        "systemctl start variantd",
    ] {
        assert!(error.contains(part), "{error}");
    }
    let other = scene.file("o.xml", &guest("d2", ""));
    scene.printed(&["define", &other]);
    scene.printed(&["start", "d2"]);
    scene.printed(&["destroy", "d2"]);
}

/// The test driver attaches no host device, so its own answer shows that the call arrived.
#[test]
fn attached_device_is_judged_by_the_agent() {
    let scene = Scene::start();
    let (agent, _served) = scene.serve();
    let gpu = GPU.replace("<devices>", "").replace("</devices>", "");
    let gpu = scene.file("gpu.xml", &gpu);
    let disk = "<disk type='file'><source file='/a'/><target dev='vdz'/></disk>";
    let disk = scene.file("disk.xml", disk);
    let uuid = scene.printed(&["domuuid", "test"]);
    let uuid = uuid.trim();
    for flags in [&["--live"][..], &["--live", "--config"], &[]] {
        let error = scene.error(&[&["attach-device", "test", &gpu][..], flags].concat());
        assert!(error.contains("VD-NUM-016"), "{error}");
    }
    let error = scene.error(&["attach-device", "test", &gpu, "--config"]);
    assert!(!error.contains("VD-"), "the daemon's answer: {error}");
    let asked = agent.asked.lock().expect("log").clone();
    let expected = ["live", "config,live", "live", "config"];
    let expected = expected.map(|flags| format!("PrepareDevice {uuid} {flags}"));
    assert_eq!(asked, expected);
    let error = scene.error(&["attach-device", "test", &disk, "--config"]);
    assert!(!error.contains("VD-"), "{error}");
    assert_eq!(agent.asked.lock().expect("log").len(), 4, "a disk");
}

#[test]
fn attach_to_a_domain_that_only_libvirt_knows_is_forwarded() {
    let scene = Scene::start();
    let (agent, _served) = scene.serve();
    *agent.knows_no_domain.lock().expect("a flag") = true;
    let gpu = GPU.replace("<devices>", "").replace("</devices>", "");
    let gpu = scene.file("gpu.xml", &gpu);
    let error = scene.error(&["attach-device", "test", &gpu]);
    assert!(!error.contains("no such domain"), "{error}");
    assert_eq!(agent.asked.lock().expect("log").len(), 1);
}

#[test]
fn start_waits_for_pending_changes() {
    let scene = Scene::start();
    let (agent, _served) = scene.serve();
    let path = scene.file("d.xml", &guest("d0", ""));
    scene.printed(&["define", &path]);
    let uuid = scene.printed(&["domuuid", "d0"]);
    scene.printed(&["start", "d0"]);
    scene.printed(&["destroy", "d0"]);
    scene.printed(&["start", "d0"]);
    let asked = agent.asked.lock().expect("log").clone();
    assert!(
        !asked.is_empty() && asked.iter().all(|one| one == uuid.trim()),
        "{asked:?}"
    );
}

#[test]
fn start_of_a_user_who_may_only_plan_waits_and_is_forwarded() {
    let scene = Scene::start();
    let (agent, _served) = scene.serve();
    *agent.denies_changes.lock().expect("a flag") = true;
    let path = scene.file("d.xml", &guest("d0", ""));
    scene.printed(&["define", &path]);
    let uuid = scene.printed(&["domuuid", "d0"]);
    let uuid = uuid.trim();
    scene.printed(&["start", "d0"]);
    let asked = agent.asked.lock().expect("log").clone();
    assert_eq!(asked[..2], [uuid.to_owned(), format!("WaitPending {uuid}")]);
    assert!(scene.printed(&["list", "--name"]).contains("d0"));
}

#[test]
fn redefined_snapshot_has_a_completed_guest() {
    let scene = Scene::start();
    let _served = scene.serve();
    let path = scene.file("d.xml", &guest("d0", ""));
    scene.printed(&["define", &path]);
    let uuid = scene.printed(&["domuuid", "d0"]);
    let domain = guest("d0", &format!("<uuid>{}</uuid>{GPU}", uuid.trim()));
    let snapshot = format!(
        "<domainsnapshot><name>s</name><state>shutoff</state><creationTime>1</creationTime>{domain}</domainsnapshot>"
    );
    let path = scene.file("s.xml", &snapshot);
    scene.printed(&["snapshot-create", "d0", &path, "--redefine"]);
    let xml = scene.printed(&["snapshot-dumpxml", "d0", "s"]);
    assert!(xml.contains(COMPLETED), "{xml}");
}

/// Each command prints the same with the transport and without it.
#[test]
fn other_calls_and_errors_are_the_same_with_and_without_the_transport() {
    let scene = Scene::start();
    let commands = [
        "list --all",
        "dumpxml test",
        "domid test",
        "domstate test --reason",
        "vcpuinfo test",
        "domxml-to-native qemu-argv /dev/null",
        "net-list --all",
        "net-dumpxml default",
        "pool-list --all",
        "pool-dumpxml default-pool",
        "iface-list --all",
        "nodedev-list",
        "nodeinfo",
        "capabilities",
        "version",
        "uri",
        "hostname",
        "dumpxml missing",
        "start test",
        "undefine missing",
        "define /dev/null",
        "attach-device test /dev/null",
        "snapshot-list test",
        "secret-list",
        "nwfilter-list",
        "freecell 0",
        "domblklist test",
        "domiflist test",
        "schedinfo test",
        "sysinfo",
        "domcapabilities",
        "allocpages 4 1",
        "maxvcpus",
        "event --list",
    ];
    let mut same = 0;
    for command in commands {
        let arguments: Vec<&str> = command.split(' ').collect();
        let [with, without] =
            [true, false].map(|through| scene.virsh_of("test:///default", through, &arguments));
        let text = |output: &Output| [&output.stdout[..], &output.stderr].concat();
        if command != "uri" {
            assert_eq!(
                String::from_utf8_lossy(&text(&with)),
                String::from_utf8_lossy(&text(&without)),
                "{command}"
            );
        }
        assert_eq!(with.status.code(), without.status.code(), "{command}");
        same += 1;
    }
    println!("{same} commands print the same with the transport and without it");
}

/// A connection without a call for this time: each second the client asks whether the other end lives, and two unanswered pings end the
/// connection. The event of a guest that is defined then must arrive.
fn event_arrives_after(idle: Duration) {
    let scene = Scene::start();
    let path = scene.file("d.xml", &guest("d0", ""));
    let mut virsh = Command::new("virsh");
    let uri = scene.uri("test:///default", true);
    let limit = (idle + Duration::from_secs(3)).as_secs().to_string();
    virsh.args(["-k1", "-K2", "-c", &uri, "event", "--event", "lifecycle"]);
    let watching = virsh
        .args(["--loop", "--timeout", &limit])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("virsh");
    thread::sleep(idle);
    scene.printed(&["define", &path]);
    let output = watching.wait_with_output().expect("the end");
    let printed = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{printed}");
    assert!(
        printed.contains("event 'lifecycle' for domain 'd0': Defined Added"),
        "{printed}"
    );
}

#[test]
fn events_arrive_and_keepalive_is_answered() {
    event_arrives_after(Duration::from_secs(3));
}

#[test]
#[ignore = "takes an hour"]
fn an_event_arrives_after_an_idle_hour() {
    event_arrives_after(Duration::from_secs(3600));
}

#[test]
fn volume_of_64_mib_goes_up_and_down_unchanged() {
    let scene = Scene::start();
    let size = 64 << 20;
    let folder = scene.bus.path("pool");
    fs::create_dir(&folder).expect("a folder");
    let source = scene.bus.path("source");
    // No block equals another one.
    let file = File::create(&source).expect("a file");
    for (at, block) in (0..size as u64).step_by(1 << 16).zip(0_u64..) {
        let bytes: Vec<u8> = (0..8192)
            .flat_map(|word: u64| {
                (word ^ (block << 32))
                    .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                    .to_le_bytes()
            })
            .collect();
        file.write_all_at(&bytes, at).expect("written");
    }
    let (folder, source) = (folder.display().to_string(), source.display().to_string());
    let back = scene.bus.path("back").display().to_string();
    let length = size.to_string();
    let steps: [&[&str]; 4] = [
        &["pool-create-as", "p", "dir", "--target", &folder],
        &["vol-create-as", "p", "v", &length],
        &["vol-upload", "--pool", "p", "v", &source],
        &["vol-download", "--pool", "p", "v", &back],
    ];
    for step in steps {
        let output = scene.virsh_of("storage:///session", true, step);
        assert!(
            output.status.success(),
            "{step:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let read = |path: &str| fs::read(path).expect("a file");
    let sent = read(&source);
    assert!(sent.len() == size && sent == read(&format!("{folder}/v")) && sent == read(&back));
}

#[test]
fn missing_daemon_is_named_in_virshs_error() {
    let mut scene = Scene::start();
    scene.end_daemon();
    let error = scene.error(&["list"]);
    assert!(
        error.contains("cannot connect to libvirt's daemon at"),
        "{error}"
    );
    assert!(error.contains("systemctl start"), "{error}");
}

#[test]
fn client_that_sends_garbage_gets_an_end_and_a_reason() {
    let scene = Scene::start();
    let mut transport = Command::new(scene.bus.path("transport"));
    transport
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut transport = transport.spawn().expect("the transport");
    let mut input = transport.stdin.take().expect("a pipe");
    input.write_all(&[0xff; 64]).expect("written");
    let mut printed = String::new();
    transport
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut printed)
        .expect("text");
    assert!(!transport.wait().expect("its end").success());
    assert!(
        printed.contains("the client sent a packet of 4294967295 bytes"),
        "{printed}"
    );
    scene.printed(&["list"]);
}
