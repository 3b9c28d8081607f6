//! A private message bus for one test, which ends with the test.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::broker;

/// dbus-daemon(1), "CONFIGURATION FILE".
const FOR_ALL: &str = "<busconfig><type>system</type><listen>unix:runtime=yes</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>\
    <allow own='*'/><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/></policy></busconfig>";

/// The program of the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `dbus-daemon`, Debian's.
    Daemon,
    /// `dbus-broker`, Fedora's.
    Broker,
}

/// The program of the bus if a test does not choose: `dbus-broker` or, by default, `dbus-daemon`.
const PROGRAM: &str = "VARIANTD_BUS";

impl Kind {
    fn of_environment() -> Self {
        match std::env::var(PROGRAM) {
            Ok(name) if name == "dbus-broker" => Self::Broker,
            _ => Self::Daemon,
        }
    }
}

/// A private bus, and a directory for the programs on it.
pub struct Bus {
    daemon: Child,
    /// A broker exits with it.
    _controller: Option<UnixStream>,
    address: String,
    directory: TempDir,
}

impl Bus {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When the program is not installed, or exits at once.
    pub fn start() -> Result<Self> {
        Self::start_on(Kind::of_environment())
    }

    /// The same with this program.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_on(kind: Kind) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        match kind {
            Kind::Broker => Self::broker(directory, broker::BYTES),
            Kind::Daemon => Self::run(directory, "--session"),
        }
    }

    /// A bus for every user of the machine, with the policy and limits of the system bus.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn for_all() -> Result<Self> {
        Self::for_all_on(Kind::of_environment())
    }

    /// The same with this program.
    ///
    /// # Errors
    /// When it is not installed, or exits at once.
    pub fn for_all_on(kind: Kind) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        if kind == Kind::Broker {
            return Self::broker(directory, broker::BYTES);
        }
        Self::configured(directory, FOR_ALL)
    }

    /// The same with `dbus-broker` and this limit of queued bytes for each user.
    ///
    /// # Errors
    /// When it is not installed, or exits at once.
    pub fn broker_with(bytes: u32) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        Self::broker(directory, bytes)
    }

    fn configured(directory: TempDir, text: &str) -> Result<Self> {
        let file = directory.path().join("bus.conf");
        fs::write(&file, text).context("cannot write the bus's configuration")?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let option = format!("--config-file={}", file.display());
        Self::run(directory, &option)
    }

    /// The same with these configuration files, with `dbus-daemon`.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn for_all_with(files: &[&Path]) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let include = |file: &&Path| format!("<include>{}</include>", file.display());
        let included: String = files.iter().map(include).collect();
        let text = FOR_ALL.replace("</busconfig>", &format!("{included}</busconfig>"));
        Self::configured(directory, &text)
    }

    fn broker(directory: TempDir, bytes: u32) -> Result<Self> {
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let path = directory.path().join("bus");
        let (daemon, controller) = broker::start(&path, bytes)?;
        fs::set_permissions(&path, Permissions::from_mode(0o777))?;
        Ok(Self {
            daemon,
            _controller: Some(controller),
            address: format!("unix:path={}", path.display()),
            directory,
        })
    }

    fn run(directory: TempDir, configuration: &str) -> Result<Self> {
        let mut daemon = Command::new("dbus-daemon")
            .args([configuration, "--nofork", "--print-address"])
            .arg(format!(
                "--address=unix:path={}/bus",
                directory.path().display()
            ))
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot run 'dbus-daemon': install the package 'dbus'")?;
        let mut address = String::new();
        let output = daemon
            .stdout
            .take()
            .context("'dbus-daemon' prints no address")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            daemon,
            _controller: None,
            address: address.trim().to_owned(),
            directory,
        })
    }

    /// The address for clients; `DBUS_SYSTEM_BUS_ADDRESS` of programs.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The agent on this bus, with all its files below [`Self::path`] and `host` as its host.
    #[must_use]
    pub fn agent(&self, variantd: &Path, connect: &str) -> Command {
        let mut agent = Command::new(variantd);
        let places = [
            ("--config", "variantd.conf"),
            ("--run-dir", "run"),
            ("--state-dir", "state"),
            ("--root", "host"),
        ];
        for (option, name) in places {
            agent.arg(option).arg(self.path(name));
        }
        agent
            .args(["--connect", connect])
            .env("DBUS_SYSTEM_BUS_ADDRESS", &self.address)
            .env_remove("NOTIFY_SOCKET")
            .stdin(Stdio::null())
            .stderr(Stdio::piped());
        agent
    }

    /// Stops the daemon with SIGSTOP: clients get no answer from now on.
    pub fn stop(&self) {
        let pid = i32::try_from(self.daemon.id()).map(Pid::from_raw);
        let _ = pid.map(|pid| kill(pid, Signal::SIGSTOP));
    }

    /// Ends the daemon and keeps the directory.
    pub fn end(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }

    /// A path in the directory, which is removed with the bus.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.end();
    }
}
