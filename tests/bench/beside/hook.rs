//! Runs libvirt's hook as libvirt does, compared with an empty `bash` script.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::agent::{Agent, NO_LIBVIRT, Scene};
use crate::measure::{Pair, alternate};
use crate::model;
use crate::process::{binary, rival, run, says};
use crate::row::Row;

const ROUNDS: usize = 200;
/// The name of the guests.
const GUEST: &str = "bench";
const SCRIPT: &str = "an empty `bash` hook script";

pub(crate) fn rows() -> Vec<Row> {
    let foreign = |size: &str, bytes, limit| {
        let work = format!("hook process for an unrelated guest, {size} of XML");
        Row::ratio(&work, SCRIPT, limit, foreign(bytes))
    };
    let prepared = "hook process for a prepared GPU guest, agent running: verify, check topology, already bound";
    vec![
        foreign("1 KB", 1 << 10, 0.6),
        foreign("200 KB", 200 << 10, 0.7),
        Row::ratio(prepared, SCRIPT, 1.25, prepared_guest()),
    ]
}

/// A guest with enough disks for this length.
fn other_guest(bytes: usize) -> String {
    let head = "<domain type='kvm'>\n  <name>bench</name>\n  <uuid>6b3f1a52-9d0c-4c57-8a43-0f64d2f1c002</uuid>\n  \
                <memory unit='MiB'>1024</memory>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n  <devices>\n";
    let disk = |index: usize| {
        format!(
            "    <disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2' cache='none'/>\n      \
             <source file='/var/lib/libvirt/images/disk-{index}.qcow2'/>\n      <target dev='vd{index}' bus='virtio'/>\n      \
             <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>\n    </disk>\n"
        )
    };
    let mut text = head.to_owned();
    for index in 0.. {
        if text.len() + 360 > bytes {
            break;
        }
        text += &disk(index);
    }
    text + "  </devices>\n</domain>\n"
}

/// An unrelated guest, on a host with a covered device.
pub(crate) struct Unrelated {
    scene: Scene,
    input: PathBuf,
}

impl Unrelated {
    /// A guest with a definition of at most this length.
    pub(crate) fn new(bytes: usize) -> Result<Self> {
        let scene = Scene::new(NO_LIBVIRT)?;
        fs::write(scene.path("run/devices"), "0010:01:00.0\n")?;
        let input = scene.path("guest.xml");
        fs::write(&input, other_guest(bytes))?;
        Ok(Self { scene, input })
    }

    /// The definition, for standard input.
    pub(crate) fn input(&self) -> &Path {
        &self.input
    }

    /// A call of the hook.
    pub(crate) fn hook(&self) -> Result<Command> {
        Ok(command(&binary("variantd-hook")?, &self.scene, GUEST))
    }

    /// The same call of the other hook.
    pub(crate) fn script(&self) -> Result<Command> {
        Ok(command(&script(&self.scene)?, &self.scene, GUEST))
    }
}

fn foreign(bytes: usize) -> Result<Pair> {
    let guest = Unrelated::new(bytes)?;
    compare(&guest.scene, &guest.input, None)
}

/// The GPU of the guest is bound and recorded by a first `prepare`, which is not timed.
fn prepared_guest() -> Result<Pair> {
    let scene = Scene::new(NO_LIBVIRT)?;
    let host = scene.path("host");
    model::gpus(&host, 1)?;
    fs::create_dir_all(host.join("sys/bus/pci/drivers/nvgrace_gpu_vfio_pci"))?;
    let plain = scene.path("plain.xml");
    fs::write(&plain, model::guest(1))?;
    let mut rewrite = Command::new(binary("variantctl")?);
    rewrite
        .arg("--host")
        .arg(&host)
        .args(["--recipes", "/nonexistent", "rewrite"])
        .arg(&plain);
    let (completed, _) = says(&mut rewrite, None)?;
    ensure!(
        completed.contains("urn:variantd:1"),
        "the guest was not completed"
    );
    let agent = scene.start()?;
    let input = scene.path("guest.xml");
    fs::write(&input, &completed)?;
    let pair = compare(&scene, &input, Some(&agent))?;
    let records = fs::read_dir(scene.path("run/records")).context("no records")?;
    let names: std::io::Result<Vec<_>> = records.map(|entry| Ok(entry?.path())).collect();
    let is_record = |path: &&PathBuf| path.extension().is_some_and(|end| end == "json");
    let count = names?.iter().filter(is_record).count();
    ensure!(count == 1, "{count} records");
    Ok(pair)
}

fn compare(scene: &Scene, input: &Path, agent: Option<&Agent>) -> Result<Pair> {
    let (hook, script) = (binary("variantd-hook")?, script(scene)?);
    let ours = || {
        let time = call(&hook, scene, GUEST, input)?;
        ensure!(scene.path("run/called").exists(), "the hook has not run");
        ensure!(agent.is_none_or(|agent| !agent.log().contains("refused")));
        Ok(time)
    };
    alternate(ROUNDS, ours, || call(&script, scene, GUEST, input))
}

fn script(scene: &Scene) -> Result<PathBuf> {
    let bash = rival("bash", "bash")?;
    let path = scene.path("script");
    fs::write(&path, format!("#!{}\nexit 0\n", bash.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

/// The hook before this guest's start.
pub(crate) fn start(scene: &Scene, guest: &str, input: &Path) -> Result<Duration> {
    call(&binary("variantd-hook")?, scene, guest, input)
}

/// One call as by libvirt; hook and script must exit 0 without output.
fn call(program: &Path, scene: &Scene, guest: &str, input: &Path) -> Result<Duration> {
    let (output, time) = run(&mut command(program, scene, guest), Some(input))?;
    let printed = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(
        output.status.success() && printed.is_empty(),
        "{}: {printed}",
        output.status
    );
    ensure!(output.stdout.is_empty(), "the hook writes XML");
    Ok(time)
}

fn command(program: &Path, scene: &Scene, guest: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args([guest, "prepare", "begin", "-"])
        .env_clear()
        .env("DBUS_SYSTEM_BUS_ADDRESS", scene.bus.address())
        .env("VARIANTD_RUN_DIR", scene.path("run"))
        .current_dir("/");
    command
}
