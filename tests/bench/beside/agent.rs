//! A release agent on a private bus, with a host below a directory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStderr};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tests::bus::Bus;

use crate::memory::Memory;
use crate::process::binary;

/// A libvirt URI without a daemon: the agent uses its stored versions.
pub(crate) const NO_LIBVIRT: &str = "qemu+unix:///system?socket=/nonexistent";

const TIMEOUT: Duration = Duration::from_secs(60);

/// The files and the bus of an agent.
pub(crate) struct Scene {
    pub(crate) bus: Bus,
    connect: String,
}

/// The running agent; dropping it ends the process.
pub(crate) struct Agent {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Scene {
    /// Creates a bus, an empty directory for a host, and stored versions of libvirt and QEMU.
    pub(crate) fn new(connect: &str) -> Result<Self> {
        let bus = Bus::start()?;
        fs::create_dir(bus.path("state"))?;
        fs::create_dir(bus.path("run"))?;
        fs::write(bus.path("state/versions"), "libvirt=12.8.0,qemu=11.1.0\n")?;
        fs::write(bus.path("variantd.conf"), "")?;
        Ok(Self {
            bus,
            connect: connect.to_owned(),
        })
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.bus.path(name)
    }

    /// Starts the agent and waits until it serves.
    pub(crate) fn start(&self) -> Result<Agent> {
        let mut agent = self.spawn()?;
        agent.wait_for("serves")?;
        Ok(agent)
    }

    /// Starts the agent.
    pub(crate) fn spawn(&self) -> Result<Agent> {
        let mut child = self
            .bus
            .agent(&binary("variantd")?, &self.connect)
            .envs(environment())
            .spawn()
            .context("cannot run 'variantd'")?;
        let log = Arc::<Mutex<String>>::default();
        let stderr = child.stderr.take().context("no standard error")?;
        let kept = log.clone();
        thread::spawn(move || follow(stderr, &kept));
        Ok(Agent { child, log })
    }
}

/// The environment and arguments of its unit.
fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let lines = include_str!("../../../packaging/systemd/variantd.service").lines();
    let set = lines.filter_map(|line| line.strip_prefix("Environment="));
    set.flat_map(str::split_whitespace)
        .filter_map(|one| one.split_once('='))
}

/// Reads the agent's log, because an agent with a full pipe would block.
fn follow(stderr: ChildStderr, log: &Mutex<String>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
        log.push_str(&line);
        log.push('\n');
    }
}

impl Agent {
    /// Waits until the log has this text.
    pub(crate) fn wait_for(&mut self, words: &str) -> Result<()> {
        let end = Instant::now() + TIMEOUT;
        while !self.log().contains(words) {
            if self.child.try_wait()?.is_some() || Instant::now() > end {
                bail!("variantd does not say '{words}': {}", self.log());
            }
            thread::sleep(Duration::from_micros(200));
        }
        Ok(())
    }

    pub(crate) fn log(&self) -> String {
        self.log
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn memory(&self) -> Result<Memory> {
        Memory::of(self.child.id())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
