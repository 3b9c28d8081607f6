//! The agent with a real libvirt: the libvirtd of Debian testing in private namespaces (tests/src/translate).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use tempfile::TempDir;
use tests::lab::cache::Cache;
use tests::lab::debian::{self, Suite};
use tests::translate::daemon::Daemon;

use crate::agent::{Agent, Scene};
use crate::measure::{Pair, alternate, digits};
use crate::model;
use crate::process::{Unavailable, rival, says};
use crate::row::Row;
use crate::{many, memory};

const DEFINES: usize = 200;
/// The mark of a completed definition.
pub(crate) const MARK: &str = "urn:variantd:1";
/// The PCI domain of the host's GPU.
pub(crate) const GPU: &str = "0010";
const TIMEOUT: Duration = Duration::from_secs(20);
/// A device that no host has: the definition has the same length and is unrelated to the agent.
pub(crate) const OTHER: &str = "0099";

/// A libvirtd, and the agent's files for it.
pub(crate) struct Stand {
    pub(crate) daemon: Daemon,
    pub(crate) virsh: PathBuf,
    pub(crate) uri: String,
    pub(crate) scene: Scene,
    /// The folder with a short name for the socket.
    _folder: TempDir,
}

impl Stand {
    pub(crate) fn new() -> Result<Self> {
        let daemon = daemon()
            .map_err(|error| Unavailable(format!("cannot start a private libvirtd: {error:#}")))?;
        let virsh = rival("virsh", "libvirt-clients")?;
        let folder = tempfile::tempdir()?;
        // A socket's path has room for 107 bytes.
        let socket = folder.path().join("libvirt");
        symlink(daemon.path("/run/libvirt/libvirt-sock"), &socket)?;
        let uri = format!("qemu+unix:///system?socket={}", socket.display());
        let scene = Scene::new(&uri)?;
        model::gpus(&scene.path("host"), 1)?;
        Ok(Self {
            daemon,
            virsh,
            uri,
            scene,
            _folder: folder,
        })
    }

    pub(crate) fn virsh(&self, words: &[&str]) -> Result<(String, Duration)> {
        says(
            Command::new(&self.virsh)
                .args(["-q", "-c", &self.uri])
                .args(words),
            None,
        )
    }

    pub(crate) fn agent(&self) -> Result<Agent> {
        let mut agent = self.scene.start()?;
        agent.wait_for("connected to")?;
        Ok(agent)
    }

    /// The file of a definition in libvirt's folder.
    pub(crate) fn kept(&self, name: &str) -> PathBuf {
        self.daemon.path(&format!("/etc/libvirt/qemu/{name}.xml"))
    }

    /// Defines and undefines a guest; the measured time ends with `is_done`.
    fn define(&self, name: &str, file: &str, is_done: impl Fn(&str) -> bool) -> Result<Duration> {
        let start = Instant::now();
        self.virsh(&["define", file])?;
        loop {
            let text = fs::read_to_string(self.kept(name)).unwrap_or_default();
            let time = start.elapsed();
            if is_done(&text) {
                thread::sleep(Duration::from_millis(20));
                self.virsh(&["undefine", name])?;
                return Ok(time);
            }
            if time > TIMEOUT {
                bail!("'{name}' is not completed");
            }
            thread::sleep(Duration::from_micros(100));
        }
    }
}

fn daemon() -> Result<Daemon> {
    let cache = Cache::open()?;
    Daemon::start(&debian::translate_tree(&cache, Suite::Testing, false)?)
}

/// A guest for TCG with a device of this PCI domain.
pub(crate) fn guest(index: usize, segment: &str) -> String {
    GUEST
        .replace("INDEX", &format!("{index:04x}"))
        .replace("SEGMENT", segment)
}

pub(crate) fn rows() -> Vec<Row> {
    let stand = Stand::new().map_err(|error| format!("{error:#}"));
    let stand = || match &stand {
        Ok(stand) => Ok(stand),
        Err(why) => Err(Unavailable(why.clone()).into()),
    };
    let mut rows = defines(stand().and_then(define));
    rows.extend(many::rows(&stand));
    rows.extend(memory::rows(stand()));
    rows
}

fn defines(pair: Result<Pair>) -> Vec<Row> {
    let work = "`virsh define` until the completed definition is in place (real libvirt)";
    let late = pair.as_ref().ok().map(|pair| {
        let ratio = pair.ours.quantile(0.99) / pair.theirs.median();
        let found = (
            format!(
                "{} ms, {} times their median",
                digits(pair.ours.quantile(0.99)),
                digits(ratio)
            ),
            ratio <= 4.0,
        );
        Row::words(
            "the same, 99th percentile of 200",
            "`virsh define` itself",
            "at most 4.0",
            Ok(found),
        )
    });
    let mut rows = vec![Row::ratio(work, "`virsh define` itself", 2.0, pair)];
    rows.extend(late);
    rows
}

fn define(stand: &Stand) -> Result<Pair> {
    let (ours, other) = (stand.scene.path("ours.xml"), stand.scene.path("other.xml"));
    fs::write(&ours, guest(1, GPU))?;
    fs::write(&other, guest(2, OTHER))?;
    let _agent = stand.agent()?;
    let name = |path: &PathBuf| path.display().to_string();
    let (ours, other) = (name(&ours), name(&other));
    alternate(
        DEFINES,
        || stand.define("bench-0001", &ours, |text| text.contains(MARK)),
        || stand.define("bench-0002", &other, |text| !text.is_empty()),
    )
}

const GUEST: &str = "\
<domain type='qemu'>
  <name>bench-INDEX</name>
  <uuid>6b3f1a52-9d0c-4c57-8a43-0f64d2f1INDEX</uuid>
  <memory unit='MiB'>512</memory>
  <vcpu placement='static'>2</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <cpu mode='maximum'/>
  <devices>
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <driver name='vfio'/>
      <source>
        <address domain='0xSEGMENT' bus='0x01' slot='0x00' function='0x0'/>
      </source>
    </hostdev>
  </devices>
</domain>
";
