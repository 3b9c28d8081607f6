//! A message bus of its own for one test, ended with it.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// dbus-daemon(1), "CONFIGURATION FILE".
const FOR_ALL: &str = "<busconfig><type>system</type><listen>unix:runtime=yes</listen><auth>EXTERNAL</auth><policy context='default'><allow user='*'/>\
    <allow own='*'/><allow send_destination='*' eavesdrop='true'/><allow eavesdrop='true'/></policy></busconfig>";

/// A private `dbus-daemon`, and a directory for whoever is tested on it.
pub struct Bus {
    daemon: Child,
    address: String,
    directory: TempDir,
}

impl Bus {
    /// Starts one and waits until it listens.
    ///
    /// # Errors
    /// When there is no `dbus-daemon`, or it ends at once.
    pub fn start() -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        Self::run(directory, "--session")
    }

    /// One to which every user of the machine may come, as to the system's, with the limits of that.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn for_all() -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a directory")?;
        let file = directory.path().join("bus.conf");
        fs::write(&file, FOR_ALL).context("cannot write the bus's configuration")?;
        fs::set_permissions(directory.path(), Permissions::from_mode(0o711))?;
        let option = format!("--config-file={}", file.display());
        Self::run(directory, &option)
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
        let output = daemon.stdout.take().context("'dbus-daemon' says nothing")?;
        BufReader::new(output).read_line(&mut address)?;
        Ok(Self {
            daemon,
            address: address.trim().to_owned(),
            directory,
        })
    }

    /// What clients connect to; `DBUS_SYSTEM_BUS_ADDRESS` for programs.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The agent on this bus: all that it reads and writes is below [`Self::path`], `host` its host.
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

    /// Holds the daemon still: who calls gets no answer from now on.
    pub fn stop(&self) {
        let pid = i32::try_from(self.daemon.id()).map(Pid::from_raw);
        let _ = pid.map(|pid| kill(pid, Signal::SIGSTOP));
    }

    /// A path in the directory that ends with the bus.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}
