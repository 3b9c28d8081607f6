//! Starts a release's QEMU paused with translated arguments, compares its state with the plan, continues it and ends it.
//!
//! QEMU checks nodes, distances and initiators only when it builds the firmware's tables, before it waits for `cont`. The guest
//! then runs for a moment, to check that it can.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::json;

use super::argument::{Argument, Properties};
use super::daemon::Daemon;
use super::piece::Piece;
use super::stand_in::Replaced;
use crate::lab::process::wait_until;
use crate::lab::qmp::Monitor;

const TIMEOUT: Duration = Duration::from_secs(60);
/// The time that the guest runs.
const MOMENT: Duration = Duration::from_millis(200);
const LOG: &str = "/tmp/qemu.log";
/// The master key for secrets; libvirt passes one of this length.
const SECRET: [u8; 32] = [0; 32];

/// Starts QEMU and compares its state with the plan; `variables` is the template of the firmware's variables.
pub fn start(
    daemon: &Daemon,
    emulator: &str,
    replaced: &Replaced,
    variables: Option<&str>,
    planned: &BTreeSet<Piece>,
) -> Result<()> {
    let arguments = &replaced.arguments;
    let socket = files(daemon, arguments, variables)?;
    let log = File::create(daemon.path(LOG)).context("cannot create a log")?;
    let words = arguments.iter().flat_map(|a| [&a.option, &a.value]);
    let mut qemu = daemon
        // ended with nsenter, which passes no signal on
        .command("setpriv")
        .args(["--pdeathsig", "KILL", emulator])
        .args(words.filter(|word| !word.is_empty()))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot run QEMU")?;
    let asked = ask(&mut qemu, &socket, planned, &replaced.withheld);
    if asked.is_err() {
        // it may have exited by itself
        let _ = qemu.kill();
    }
    let status = qemu.wait().context("cannot wait for QEMU")?;
    let log = fs::read_to_string(daemon.path(LOG)).unwrap_or_default();
    judge(asked, status, log.trim())
        .map_err(|error| anyhow!("{error:#}; its arguments were\n{}", printed(arguments)))
}

fn judge(asked: Result<()>, status: ExitStatus, log: &str) -> Result<()> {
    match asked {
        Err(error) if log.is_empty() => Err(error),
        Err(error) => Err(error.context(format!("QEMU printed '{log}'"))),
        Ok(()) if !log.is_empty() => bail!("QEMU printed '{log}'"),
        Ok(()) if !status.success() => bail!("QEMU ends with {status}"),
        Ok(()) => Ok(()),
    }
}

fn printed(arguments: &[Argument]) -> String {
    let line = |a: &Argument| format!("    {} {}", a.option, a.value);
    arguments.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn ask(
    qemu: &mut Child,
    socket: &Path,
    planned: &BTreeSet<Piece>,
    withheld: &BTreeSet<(String, String)>,
) -> Result<()> {
    let mut monitor = connect(qemu, socket)?;
    is_status(&mut monitor, "prelaunch")?;
    compare(&mut monitor, planned)?;
    for (driver, property) in withheld {
        knows(&mut monitor, driver, property)?;
    }
    monitor.execute("cont")?;
    std::thread::sleep(MOMENT);
    is_status(&mut monitor, "running")?;
    monitor.execute("quit").map(drop)
}

/// Connects through the folder's descriptor, because the path is too long for a socket address.
fn connect(qemu: &mut Child, socket: &Path) -> Result<Monitor> {
    let folder = File::open(socket.parent().context("a socket without a folder")?)?;
    let name = socket.file_name().context("a socket without a name")?;
    let short = PathBuf::from(format!("/proc/self/fd/{}", folder.as_raw_fd())).join(name);
    let mut connected = Err(anyhow!("QEMU's monitor was not tried"));
    let mut ended = false;
    wait_until(TIMEOUT, || {
        ended = !matches!(qemu.try_wait(), Ok(None));
        connected = Monitor::connect(&short);
        ended || connected.is_ok()
    });
    ensure!(!ended, "QEMU ends at once");
    connected
}

fn is_status(monitor: &mut Monitor, expected: &str) -> Result<()> {
    let answer = monitor.execute("query-status")?;
    let status = answer["status"].as_str().unwrap_or_default();
    ensure!(
        status == expected,
        "QEMU is '{status}' instead of '{expected}'"
    );
    Ok(())
}

/// QEMU's count of its devices.
fn compare(monitor: &mut Monitor, planned: &BTreeSet<Piece>) -> Result<()> {
    let count = |noun| planned.iter().filter(|piece| piece.noun() == noun).count();
    let nodes = monitor.human("info numa")?;
    let nodes = nodes
        .split_whitespace()
        .next()
        .and_then(|word| word.parse().ok());
    ensure!(
        count("node") == 0 || nodes == Some(count("node")),
        "QEMU has {nodes:?} nodes instead of {}",
        count("node")
    );
    let objects = monitor.human("qom-list /objects")?;
    let initiators = objects.matches("acpi-generic-initiator").count();
    ensure!(
        initiators == count("initiator"),
        "QEMU has {initiators} initiators instead of {}",
        count("initiator")
    );
    Ok(())
}

/// A property that was removed for lack of hardware must exist in that driver.
fn knows(monitor: &mut Monitor, driver: &str, property: &str) -> Result<()> {
    let known = monitor.call("device-list-properties", json!({ "typename": driver }))?;
    let mut known = known.as_array().into_iter().flatten();
    ensure!(
        known.any(|known| known["name"].as_str() == Some(property)),
        "this QEMU's '{driver}' has no '{property}'"
    );
    Ok(())
}

/// Makes the files that libvirt would make at a start; returns the path of the monitor's socket.
fn files(daemon: &Daemon, arguments: &[Argument], variables: Option<&str>) -> Result<PathBuf> {
    let mut socket = None;
    for argument in arguments {
        let read = || argument.properties();
        match argument.option.as_str() {
            "-object" => secret(daemon, &read()?)?,
            "-blockdev" => disk(daemon, &read()?, variables)?,
            "-chardev" => socket = socket.or(chardev(daemon, &read()?)?),
            "-vnc" => display(daemon, &argument.value)?,
            "-fw_cfg" => blob(daemon, &read()?)?,
            _ => {}
        }
    }
    socket.context("the arguments open no monitor")
}

fn secret(daemon: &Daemon, object: &Properties) -> Result<()> {
    match (object.kind.as_str(), object.named("file")) {
        ("secret", Some(file)) => {
            fs::write(path_here(daemon, file)?, SECRET).context("cannot write a key")
        }
        _ => Ok(()),
    }
}

/// The firmware's variables; any other disk of a definition is empty.
fn disk(daemon: &Daemon, node: &Properties, variables: Option<&str>) -> Result<()> {
    let Some(file) = node.named("filename").filter(|_| node.kind == "file") else {
        return Ok(());
    };
    let path = path_here(daemon, file)?;
    if path.exists() {
        return Ok(());
    }
    match variables.filter(|_| file.contains("/nvram/")) {
        Some(template) => fs::copy(daemon.path(template), &path).map(drop),
        None => File::create(&path).and_then(|file| file.set_len(1 << 20)),
    }
    .with_context(|| format!("cannot make '{file}'"))
}

/// Makes the folder of its socket and its log; returns the path of the monitor's socket.
fn chardev(daemon: &Daemon, chardev: &Properties) -> Result<Option<PathBuf>> {
    if let Some(log) = chardev.named("logfile") {
        path_here(daemon, log)?;
    }
    let Some(path) = chardev.named("path") else {
        return Ok(None);
    };
    let path = path_here(daemon, path)?;
    // it only exists if an earlier QEMU was killed
    let _ = fs::remove_file(&path);
    Ok((chardev.named("id") == Some("charmonitor")).then_some(path))
}

/// A display on a socket.
fn display(daemon: &Daemon, value: &str) -> Result<()> {
    let socket = value.split(',').find_map(|part| part.split_once("unix:"));
    socket.map_or(Ok(()), |(_, path)| path_here(daemon, path).map(drop))
}

/// A file that the firmware passes to the guest.
fn blob(daemon: &Daemon, configuration: &Properties) -> Result<()> {
    let Some(file) = configuration.named("file") else {
        return Ok(());
    };
    fs::write(path_here(daemon, file)?, "{}").with_context(|| format!("cannot make '{file}'"))
}

/// The path in this program's namespace, in an existing folder.
fn path_here(daemon: &Daemon, file: &str) -> Result<PathBuf> {
    // a link, which this program would resolve to its own host's folder
    let file = file
        .strip_prefix("/var")
        .filter(|file| file.starts_with("/run/"))
        .unwrap_or(file);
    let path = daemon.path(file);
    let folder = path.parent().context("a file without a folder")?;
    fs::create_dir_all(folder).with_context(|| format!("cannot create '{}'", folder.display()))?;
    Ok(path)
}
