//! The libvirt transport variantd-connect beside libvirt's own socket, with the libvirtd of Debian testing.
//!
//! libvirt passes a transport no arguments and only a few environment variables. So both are measured in a mount namespace, which
//! `tests/bench/run` makes, with a `/run` that has the sockets of that libvirtd and of a private bus where clients look for them.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::symlink;
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use kernel_glue::host::Host;
use planner::plan::PlanInput;
use planner::recipe::Recipes;
use planner::rewrite::rewrite;

use crate::libvirt::{GPU, MARK, OTHER, Stand, guest};
use crate::measure::{Pair, alternate, digits};
use crate::process::{Unavailable, binary, says};
use crate::row::Row;

const ROUNDS: usize = 200;
/// Calls of one connection.
const CALLS: usize = 2000;
const DIRECT: &str = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock";

/// The bytes of a volume, and the most that the ratio of times may be: 0.9 of the throughput.
const VOLUME: usize = 1 << 30;
const STREAM: f64 = 1.0 / 0.9;
const STREAMS: usize = 7;
const MIB: usize = 1 << 20;
/// The pool's folder in the daemon's tree.
const POOL: &str = "/var/lib/libvirt/bench";

/// Measures a pair.
type Measure = fn(&Place) -> Result<Pair>;

/// Rows with their other side and their limit, if they have one.
const ROWS: [(&str, &str, Option<f64>, Measure); 6] = [
    (
        "`virsh define` of a GPU guest over `variantd-connect`, complete when it returns",
        "`virsh define` of such a guest over libvirt's socket, not completed",
        Some(1.15),
        complete,
    ),
    (
        "`virsh define` of the completed text over libvirt's socket, without variantd",
        "the same",
        None,
        completed,
    ),
    (
        "`virsh define` of an unrelated guest over `variantd-connect`",
        "the same over libvirt's socket",
        None,
        unrelated,
    ),
    (
        "2,000 calls of one virsh (`domstate`) over `variantd-connect`",
        "the same over libvirt's socket",
        Some(1.05),
        calls,
    ),
    (
        "`virsh vol-download` of 1 GiB over `variantd-connect`",
        "the same over libvirt's socket",
        Some(STREAM),
        download,
    ),
    (
        "`virsh vol-upload` of 1 GiB over `variantd-connect`",
        "the same over libvirt's socket",
        Some(STREAM),
        upload,
    ),
];

/// The sockets at their places in this namespace.
struct Place {
    stand: Stand,
    transport: String,
    _run: Run,
}

/// A `/run` of its own for as long as it lives.
struct Run;

pub(crate) fn rows() -> Vec<Row> {
    let place = Place::new().map_err(|error| format!("{error:#}"));
    let row = |(work, beside, limit, measure): (&str, &str, Option<f64>, Measure)| {
        let pair = match &place {
            Ok(place) => measure(place),
            Err(why) => Err(Unavailable(why.clone()).into()),
        };
        let reach = limit.map_or("-".to_owned(), |limit| format!("at most {}", digits(limit)));
        Row::compared(work, beside, limit, &reach, pair)
    };
    ROWS.map(row).into()
}

impl Run {
    fn new() -> Result<Self> {
        let namespace = |process: u32| fs::read_link(format!("/proc/{process}/ns/mnt"));
        ensure!(
            namespace(std::process::id())? != namespace(parent_id())?,
            "no mount namespace of its own: run tests/bench/run as root"
        );
        says(
            Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]),
            None,
        )?;
        Ok(Self)
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = says(Command::new("umount").args(["--lazy", "/run"]), None);
    }
}

impl Place {
    fn new() -> Result<Self> {
        let run = Run::new()?;
        let stand = Stand::new()?;
        for folder in ["/run/libvirt", "/run/dbus"] {
            fs::create_dir(folder)?;
        }
        let daemon = stand.daemon.path("/run/libvirt/libvirt-sock");
        symlink(daemon, "/run/libvirt/libvirt-sock")?;
        symlink(
            bus(stand.scene.bus.address())?,
            "/run/dbus/system_bus_socket",
        )?;
        symlink(stand.scene.path("run"), "/run/variantd")?;
        let program = binary("variantd-connect")?;
        let transport = format!("qemu+ext:///system?command={}", program.display());
        Ok(Self {
            stand,
            transport,
            _run: run,
        })
    }

    fn virsh(&self, uri: &str, words: &[&str]) -> Result<(String, Duration)> {
        let mut virsh = Command::new(&self.stand.virsh);
        virsh.env_remove("DBUS_SYSTEM_BUS_ADDRESS");
        says(virsh.args(["-q", "-c", uri]).args(words), None)
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.stand.scene.path(name);
        fs::write(&path, text)?;
        Ok(path.display().to_string())
    }

    /// Defines and undefines a guest; the time is that of `virsh define`, after which the definition must be complete or not.
    fn define(&self, uri: &str, name: &str, file: &str, is_complete: bool) -> Result<Duration> {
        let (_, time) = self.virsh(uri, &["define", file])?;
        let text = fs::read_to_string(self.stand.kept(name))?;
        ensure!(
            text.contains(MARK) == is_complete,
            "'{name}' is not as expected"
        );
        // The agent has read the event by then.
        thread::sleep(Duration::from_millis(20));
        self.virsh(DIRECT, &["undefine", name])?;
        Ok(time)
    }
}

/// The socket in a bus's address.
fn bus(address: &str) -> Result<PathBuf> {
    let path = address.strip_prefix("unix:path=");
    let path = path.with_context(|| format!("'{address}' has no path"))?;
    Ok(path.split(',').next().unwrap_or(path).into())
}

fn complete(place: &Place) -> Result<Pair> {
    let ours = place.file("ours.xml", &guest(1, GPU))?;
    let other = place.file("other.xml", &guest(2, OTHER))?;
    let _agent = place.stand.agent()?;
    alternate(
        ROUNDS,
        || place.define(&place.transport, "bench-0001", &ours, true),
        || place.define(DIRECT, "bench-0002", &other, false),
    )
}

fn completed(place: &Place) -> Result<Pair> {
    let ours = place.file("ours.xml", &planned(place, &guest(1, GPU))?)?;
    let other = place.file("other.xml", &guest(2, OTHER))?;
    alternate(
        ROUNDS,
        || place.define(DIRECT, "bench-0001", &ours, true),
        || place.define(DIRECT, "bench-0002", &other, false),
    )
}

fn planned(place: &Place, text: &str) -> Result<String> {
    let host = Host::read(&place.stand.scene.path("host"))?;
    let recipes = Recipes::shipped()?;
    let input = PlanInput::newest(&host, &recipes);
    match text
        .parse()
        .and_then(|definition| rewrite(&definition, &input))
    {
        Ok(done) => Ok(done.text),
        Err(refusal) => bail!("{refusal}"),
    }
}

/// A guest without a device of the host: the agent is not asked.
fn plain(index: usize) -> Result<String> {
    let text = guest(index, OTHER);
    let (before, rest) = text.split_once("    <hostdev ").context("no hostdev")?;
    let (_, after) = rest.split_once("</hostdev>\n").context("no end")?;
    Ok(format!("{before}{after}"))
}

fn unrelated(place: &Place) -> Result<Pair> {
    let file = place.file("plain.xml", &plain(3)?)?;
    let define = |uri: &str| place.define(uri, "bench-0003", &file, false);
    alternate(ROUNDS, || define(&place.transport), || define(DIRECT))
}

fn calls(place: &Place) -> Result<Pair> {
    let file = place.file("plain.xml", &plain(3)?)?;
    place.virsh(DIRECT, &["define", &file])?;
    let batch = "domstate bench-0003; ".repeat(CALLS);
    let run = |uri: &str| {
        let (printed, time) = place.virsh(uri, &[&batch])?;
        let count = printed.matches("shut off").count();
        ensure!(count == CALLS, "{count} answers");
        Ok(time)
    };
    let pair = alternate(20, || run(&place.transport), || run(DIRECT));
    place.virsh(DIRECT, &["undefine", "bench-0003"])?;
    pair
}

/// A volume in a pool of libvirt, and a file of the same length.
struct Volume<'a> {
    place: &'a Place,
    file: PathBuf,
}

impl<'a> Volume<'a> {
    fn new(place: &'a Place) -> Result<Self> {
        let daemon = &place.stand.daemon;
        daemon.output("mkdir", &["-p", POOL])?;
        daemon.output("mount", &["-t", "tmpfs", "tmpfs", POOL])?;
        let virsh = |words: &str| place.virsh(DIRECT, &[words]);
        virsh(&format!("pool-create-as bench dir --target {POOL}"))?;
        virsh(&format!(
            "vol-create-as bench volume {VOLUME}b --format raw"
        ))?;
        let file = place.stand.scene.path("volume");
        let mut written = BufWriter::new(File::create(&file)?);
        for index in 0..VOLUME / MIB {
            // No two parts are the same, and none is a hole.
            let part: Vec<u8> = (0..MIB)
                .map(|byte| (byte * 7 + index * 13 + 1) as u8 | 1)
                .collect();
            written.write_all(&part)?;
        }
        written.flush()?;
        Ok(Self { place, file })
    }

    fn run(&self, uri: &str, verb: &str, file: &Path) -> Result<Duration> {
        let command = format!("{verb} --pool bench volume {}", file.display());
        let (_, time) = self.place.virsh(uri, &[&command])?;
        Ok(time)
    }

    /// The volume, or its copy, must be equal to the file.
    fn check(&self, other: &Path) -> Result<()> {
        let mut cmp = Command::new("cmp");
        says(cmp.arg(&self.file).arg(other), None)?;
        Ok(())
    }

    fn end(self) -> Result<()> {
        self.place.virsh(DIRECT, &["pool-destroy bench"])?;
        self.place.stand.daemon.output("umount", &[POOL])?;
        Ok(fs::remove_file(self.file)?)
    }
}

fn upload(place: &Place) -> Result<Pair> {
    let volume = Volume::new(place)?;
    let kept = place.stand.daemon.path(&format!("{POOL}/volume"));
    let run = |uri: &str| {
        let time = volume.run(uri, "vol-upload", &volume.file)?;
        volume.check(&kept)?;
        // The next upload has to write all of it again.
        volume
            .place
            .virsh(DIRECT, &["vol-wipe --pool bench volume"])?;
        Ok(time)
    };
    let pair = alternate(STREAMS, || run(&place.transport), || run(DIRECT));
    volume.end()?;
    pair
}

fn download(place: &Place) -> Result<Pair> {
    let volume = Volume::new(place)?;
    volume.run(DIRECT, "vol-upload", &volume.file)?;
    let copy = place.stand.scene.path("copy");
    let run = |uri: &str| {
        let time = volume.run(uri, "vol-download", &copy)?;
        volume.check(&copy)?;
        fs::remove_file(&copy)?;
        Ok(time)
    };
    let pair = alternate(STREAMS, || run(&place.transport), || run(DIRECT));
    volume.end()?;
    pair
}
