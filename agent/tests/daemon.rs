//! The real `variantd` on a private bus, with a recorded host and libvirt's test driver.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};

use agent::client::{Fault, ManagerProxy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use zbus::connection;

struct Scene {
    directory: TempDir,
    bus: Child,
    address: String,
}

struct Agent {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("directory");
        let mut bus = Command::new("dbus-daemon")
            .args(["--session", "--nofork", "--print-address"])
            .arg(format!(
                "--address=unix:path={}/bus",
                directory.path().display()
            ))
            .stdout(Stdio::piped())
            .spawn()
            .expect("dbus-daemon");
        let mut address = String::new();
        BufReader::new(bus.stdout.take().expect("stdout"))
            .read_line(&mut address)
            .expect("address");
        Self {
            directory,
            bus,
            address: address.trim().to_owned(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn start(&self) -> Agent {
        let host = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/hosts/gh200-1gpu");
        let mut child = Command::new(env!("CARGO_BIN_EXE_variantd"))
            .arg("--config")
            .arg(self.path("variantd.conf"))
            .arg("--run-dir")
            .arg(self.path("run"))
            .arg("--state-dir")
            .arg(self.path("state"))
            .arg("--root")
            .arg(host)
            .args(["--connect", "test:///default"])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .stderr(Stdio::piped())
            .spawn()
            .expect("variantd");
        let log = BufReader::new(child.stderr.take().expect("stderr")).lines();
        Agent { child, log }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = self.bus.kill();
        let _ = self.bus.wait();
    }
}

impl Agent {
    /// Reads the log up to a line with `words`.
    fn says(&mut self, words: &str) -> String {
        let mut lines = self.log.by_ref().map_while(Result::ok);
        let line = lines.find(|line| line.contains(words));
        line.expect("the words before its end")
    }

    fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pid");
        kill(Pid::from_raw(pid), signal).expect("signal");
    }

    fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn it_publishes_its_devices_serves_reloads_and_ends() {
    let scene = Scene::new();
    let mut agent = scene.start();
    agent.says("serves");
    let devices = fs::read_to_string(scene.path("run/devices")).expect("devices");
    assert_eq!(devices, "0009:01:00.0\n");

    let bus = connection::Builder::address(scene.address.as_str()).build();
    let bus = bus.await.expect("bus");
    let manager = ManagerProxy::new(&bus).await.expect("proxy");
    let rows = manager.list_devices(HashMap::new()).await.expect("list");
    assert_eq!(rows.len(), 1);
    let json = manager.wait("test", 10_000, HashMap::new()).await;
    assert!(json.expect("answer").contains(r#""outcome":"foreign""#));

    fs::write(scene.path("variantd.conf"), "repairs = true\n").expect("configuration");
    let fault = manager.reload(HashMap::new()).await.expect_err("a mistake");
    let Fault::Failed(sentence) = Fault::from(fault) else {
        unreachable!("a mistake in a file is a failure");
    };
    assert!(sentence.ends_with("line 1: unknown key 'repairs'; did you mean 'repair'?"));
    fs::write(scene.path("variantd.conf"), "repair = false\n").expect("configuration");
    agent.send(Signal::SIGHUP);
    agent.says("configuration read again");

    agent.send(Signal::SIGTERM);
    assert!(agent.wait().success());
    let versions = fs::read_to_string(scene.path("state/versions")).expect("learned versions");
    assert!(versions.starts_with("libvirt="));
}

#[test]
fn a_mistake_in_the_configuration_is_named_and_ends_it() {
    let scene = Scene::new();
    fs::write(scene.path("variantd.conf"), "\nprepairs = 1\n").expect("configuration");
    let mut agent = scene.start();
    let line = agent.says("ERROR");
    assert!(line.contains("variantd.conf', line 2"), "{line}");
    assert_eq!(agent.wait().code(), Some(1));
}
