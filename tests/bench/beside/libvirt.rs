//! The agent with a real libvirt: the libvirtd of Debian testing in private namespaces (tests/src/translate).

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use tempfile::TempDir;
use tests::lab::cache::Cache;
use tests::lab::debian::{self, Suite};
use tests::translate::daemon::Daemon;

use crate::agent::{Agent, Scene};
use crate::measure::{Pair, alternate, digits};
use crate::model;
use crate::process::{Unavailable, rival, says};
use crate::row::{Found, Row};

const DEFINES: usize = 200;
const STARTS: usize = 5;
/// The number of defined domains at an agent's start.
const MANY: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(20);
/// A device that no host has: the definition has the same length and is unrelated to the agent.
pub(crate) const OTHER: &str = "0099";

/// A libvirtd, and the agent's files for it.
pub(crate) struct Stand {
    pub(crate) daemon: Daemon,
    pub(crate) virsh: PathBuf,
    uri: String,
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

    fn virsh(&self, words: &[&str]) -> Result<(String, Duration)> {
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
    let stand = Stand::new();
    let with = |pair: fn(&Stand) -> Result<Pair>| match &stand {
        Ok(stand) => pair(stand),
        Err(error) => Err(Unavailable(format!("{error:#}")).into()),
    };
    let mut rows = defines(with(define));
    for count in [1, 100, MANY] {
        let pair = match &stand {
            Ok(stand) => start(stand, count),
            Err(error) => Err(Unavailable(format!("{error:#}")).into()),
        };
        let work = format!("agent start to its name on the bus with {count} defined domains");
        let (limit, reach) = match count == MANY {
            true => (Some(0.5), "at most 0.5".to_owned()),
            false => (None, format!("only for {MANY}")),
        };
        let theirs = "`virsh list --all` plus `dumpxml` of each, one virsh";
        rows.push(Row::compared(&work, theirs, limit, &reach, pair));
    }
    let memory = match &stand {
        Ok(stand) => memory(stand),
        Err(error) => Err(Unavailable(format!("{error:#}")).into()),
    };
    rows.extend(memories(memory));
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
    fs::write(&ours, guest(1, "0010"))?;
    fs::write(&other, guest(2, OTHER))?;
    let _agent = stand.agent()?;
    let name = |path: &PathBuf| path.display().to_string();
    let (ours, other) = (name(&ours), name(&other));
    alternate(
        DEFINES,
        || stand.define("bench-0001", &ours, |text| text.contains("urn:variantd:1")),
        || stand.define("bench-0002", &other, |text| !text.is_empty()),
    )
}

fn start(stand: &Stand, count: usize) -> Result<Pair> {
    let folder = tempfile::tempdir()?;
    let file = |index: usize| folder.path().join(format!("{index}.xml"));
    for index in 0..count {
        fs::write(file(index), guest(index, OTHER))?;
    }
    let batch = |verb: &str| -> String {
        let one = |index: usize| format!("{verb} {}; ", file(index).display());
        (0..count).map(one).collect()
    };
    stand.virsh(&[&batch("define")])?;
    let dump: String = (0..count)
        .map(|index| format!("dumpxml bench-{index:04x}; "))
        .collect();
    let ours = || {
        let start = Instant::now();
        let agent = stand.scene.start()?;
        let time = start.elapsed();
        drop(agent);
        Ok(time)
    };
    let theirs = || {
        let (text, time) = stand.virsh(&[&format!("list --all; {dump}")])?;
        ensure!(
            text.matches("<domain ").count() == count,
            "virsh dumps not all"
        );
        Ok(time)
    };
    let pair = alternate(STARTS, ours, theirs);
    let gone: String = (0..count)
        .map(|index| format!("undefine bench-{index:04x}; "))
        .collect();
    stand.virsh(&[&gone])?;
    pair
}

/// KiB at the start, after 1,000, after 10,000 and after 20,000 events.
fn memory(stand: &Stand) -> Result<[(u64, u64); 4]> {
    let file = stand.scene.path("ours.xml");
    fs::write(&file, guest(1, "0010"))?;
    let agent = stand.agent()?;
    thread::sleep(Duration::from_secs(3));
    let idle = agent.memory()?;
    stand.virsh(&["define", &file.display().to_string()])?;
    thread::sleep(Duration::from_secs(3));
    let completed = stand.virsh(&["dumpxml", "bench-0001"])?.0;
    ensure!(
        completed.contains("urn:variantd:1"),
        "the guest was not completed"
    );
    fs::write(&file, completed)?;
    let batch = format!("define {}; ", file.display()).repeat(500);
    let after = |events: usize| -> Result<(u64, u64)> {
        for _ in 0..events / 500 {
            stand.virsh(&[&batch])?;
        }
        thread::sleep(Duration::from_secs(1));
        agent.memory()
    };
    let taken = [idle, after(1000)?, after(9000)?, after(10_000)?];
    stand.virsh(&["undefine", "bench-0001"])?;
    Ok(taken)
}

fn memories(found: Result<[(u64, u64); 4]>) -> Vec<Row> {
    let mib = |kib: u64| format!("{:.1}", kib as f64 / 1024.0);
    let row = |work, reach, found| Row {
        work,
        beside: "-".to_owned(),
        reach,
        found,
    };
    let (idle, grown) = match found {
        Ok([idle, first, last, twice]) => (
            Found::Words {
                text: format!(
                    "{} MiB resident, {} MiB of them its own (not mapped from files)",
                    mib(idle.0),
                    mib(idle.1)
                ),
                met: idle.0 <= 12 << 10,
            },
            Found::Words {
                text: format!(
                    "{} MiB after 1,000, {} after 10,000, {} after 20,000 (its own: {}, {} and {})",
                    mib(first.0),
                    mib(last.0),
                    mib(twice.0),
                    mib(first.1),
                    mib(last.1),
                    mib(twice.1)
                ),
                met: last.0 <= first.0 + 256,
            },
        ),
        Err(error) => (Found::of_error(&error), Found::of_error(&error)),
    };
    vec![
        row(
            "memory of the agent, idle".to_owned(),
            "at most 12 MiB".to_owned(),
            idle,
        ),
        row(
            "the same after 10,000 define events".to_owned(),
            "no growth after the first 1,000".to_owned(),
            grown,
        ),
    ]
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
