//! The real `variantd` and `variantctl` on a private bus, with a recorded host and libvirt's test driver.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tests::bus::{Bus, Kind};
use tests::program;

/// A guest without devices.
pub(crate) const GUEST: &str = "<domain type='kvm'><name>d0</name><uuid>6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11</uuid>\
    <memory>1024</memory><os><type arch='aarch64' machine='virt'>hvm</type></os><devices/></domain>";

/// The user `nobody`, who owns no files.
const NOBODY: u32 = 65534;

/// How long a line of the log may take on a busy machine.
const LOG_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Scene {
    pub(crate) bus: Bus,
}

pub(crate) struct Agent {
    child: Child,
    /// Lines of standard error.
    log: Receiver<String>,
}

impl Scene {
    /// A bus, and a copy of a host with one GPU.
    pub(crate) fn new() -> Self {
        Self::on("gh200-1gpu")
    }

    /// With another recorded host.
    pub(crate) fn on(host: &str) -> Self {
        Self::with(Bus::start().expect("bus"), host)
    }

    /// On a bus that every user of the machine may use.
    pub(crate) fn for_all() -> Self {
        Self::with(Bus::for_all().expect("bus"), "gh200-1gpu")
    }

    /// The same with this bus program.
    pub(crate) fn for_all_on(kind: Kind) -> Self {
        Self::with(Bus::for_all_on(kind).expect("bus"), "gh200-1gpu")
    }

    /// The same on `dbus-broker` with this quota in bytes for each user.
    pub(crate) fn on_broker_with(bytes: u32) -> Self {
        Self::with(Bus::broker_with(bytes).expect("bus"), "gh200-1gpu")
    }

    /// On a bus of this program.
    pub(crate) fn on_bus(kind: Kind) -> Self {
        Self::with(Bus::start_on(kind).expect("bus"), "gh200-1gpu")
    }

    /// The same with these bus policy files.
    pub(crate) fn for_all_with(files: &[&Path]) -> Self {
        Self::with(Bus::for_all_with(files).expect("bus"), "gh200-1gpu")
    }

    fn with(bus: Bus, host: &str) -> Self {
        let copied = Command::new("cp")
            .arg("-a")
            .arg(testing::hosts::directory(host))
            .arg(bus.path("host"))
            .status();
        assert!(copied.expect("cp runs").success());
        Self { bus }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bus.path(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        fs::write(path, text).expect(name);
    }

    /// An executable script.
    pub(crate) fn program(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folder");
        program::script(&path, text);
    }

    pub(crate) fn start(&self) -> Agent {
        self.start_with(&[])
    }

    /// With additional environment variables.
    pub(crate) fn start_with(&self, environment: &[(&str, &str)]) -> Agent {
        let program = program::built("agent", "variantd");
        let child = self
            .bus
            .agent(&program, "test:///default")
            .envs(environment.iter().copied())
            .spawn()
            .expect("variantd");
        Agent::of(child)
    }

    /// In its own mount namespace, after `shell` has run there; the process is the agent's. Needs root.
    pub(crate) fn start_behind(&self, shell: &str) -> Agent {
        let program = program::built("agent", "variantd");
        let agent = self.bus.agent(&program, "test:///default");
        let mut unshare = Command::new("unshare");
        unshare
            .args([
                "--mount",
                "sh",
                "-ec",
                &format!("{shell}; exec \"$@\""),
                "sh",
            ])
            .arg(program)
            .args(agent.get_args())
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        let child = unshare.spawn().expect("unshare");
        Agent::of(child)
    }

    pub(crate) fn variantctl(&self, arguments: &[&str]) -> Output {
        Command::new(program::built("ctl", "variantctl"))
            .args(arguments)
            .current_dir(self.path(""))
            .env("DBUS_SYSTEM_BUS_ADDRESS", self.bus.address())
            .stdin(Stdio::null())
            .output()
            .expect("variantctl runs")
    }

    /// The output of a run that must succeed.
    pub(crate) fn says(&self, arguments: &[&str]) -> String {
        let output = self.variantctl(arguments);
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {complaint}");
        String::from_utf8(output.stdout).expect("text")
    }

    /// Exit status and error output of a run that must fail.
    pub(crate) fn fails(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.variantctl(arguments);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let complaint = String::from_utf8(output.stderr).expect("text");
        (output.status.code().expect("a status"), complaint)
    }
}

impl Agent {
    /// A process whose standard error is a pipe.
    pub(crate) fn of(mut child: Child) -> Self {
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let (sender, log) = mpsc::channel();
        // Reads to the end: an agent would block on a full pipe.
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        Self { child, log }
    }

    /// Reads the log up to a line that contains `words`; panics if there is none within a minute.
    pub(crate) fn says(&mut self, words: &str) -> String {
        let end = Instant::now() + LOG_TIMEOUT;
        let mut before = String::new();
        loop {
            let rest = end.saturating_duration_since(Instant::now());
            let line = self.log.recv_timeout(rest);
            assert!(line.is_ok(), "no line with '{words}' in:\n{before}");
            let line = line.expect("a line");
            if line.contains(words) {
                return line;
            }
            before = before + &line + "\n";
        }
    }

    /// The log up to its end.
    pub(crate) fn rest(&mut self) -> String {
        let lines: Vec<String> = self.log.iter().collect();
        lines.join("\n")
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn send(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("pid");
        kill(Pid::from_raw(pid), signal).expect("signal");
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        self.child.wait().expect("status")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One ignored test of this program in its own process: as another user if this one is root. The program's path may be
/// closed to that user, so it runs the open file.
pub(crate) fn as_nobody(test: &str) -> Command {
    as_user(test, NOBODY)
}

/// The same as this user.
pub(crate) fn as_user(test: &str, user: u32) -> Command {
    let mut process = Command::new("/proc/self/exe");
    process.args(["--exact", "--ignored", "--nocapture", test]);
    if Uid::effective().is_root() {
        process.uid(user).gid(user);
    }
    process
}
