//! Runs the installed emulators for what they print about themselves.
//!
//! variantd.service must not do this: a process without CAP_IPC_LOCK in its bounding set cannot execute a QEMU that has it
//! as a file capability (capabilities(7)). `variantd-probe.service` does, as a user without rights. An emulator may
//! hang, crash or print without end: each has a deadline, and each output a limit.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use settings::file;

use crate::service;

use super::properties::{self, MAX_BYTES, Properties};

/// The emulators of Debian, Ubuntu and Fedora, and of RHEL.
pub const KNOWN: [&str; 4] = [
    "/usr/bin/qemu-system-aarch64",
    "/usr/bin/qemu-system-x86_64",
    "/usr/libexec/qemu-kvm",
    "/usr/bin/qemu-kvm",
];

/// The unit that asks them,
pub const UNIT: &str = "variantd-probe.service";
/// the argument of its program,
pub const ARGUMENT: &str = "emulators";
/// and the file with the answers.
pub const FILE: &str = "run/variantd-probe/answer.json";

/// Time for all questions to one emulator; each takes about 0.1 s, and more than 1 s on a busy host. Less than the timeout of
/// the unit. The agent waits for a shorter time, and reads a later answer at its next try.
pub const DEADLINE: Duration = Duration::from_secs(40);
/// Maximum size of the file with all answers; that of QEMU 11.1 for two architectures has 30 KiB.
const MAX_ANSWERS: u64 = 1 << 20;
/// Interval at which the end of an emulator is checked.
const LOOK: Duration = Duration::from_millis(5);

/// The build of an emulator: an upgrade changes both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Build {
    /// `st_ctime`.
    pub ctime: i64,
    /// `st_size`.
    pub size: u64,
}

/// The answers of one emulator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Its build before it was asked.
    pub build: Build,
    /// What it printed.
    pub properties: Properties,
}

/// The answers by the emulator's path.
pub type Answers = BTreeMap<PathBuf, Answer>;

impl Build {
    /// The build of the file.
    ///
    /// # Errors
    /// There is no such file.
    pub fn of(path: &Path) -> io::Result<Self> {
        let file = std::fs::metadata(path)?;
        Ok(Self {
            ctime: file.ctime(),
            size: file.size(),
        })
    }
}

/// The program of `variantd-probe.service`: asks the known emulators, and writes their answers to `file`.
#[must_use]
pub fn serve(file: &Path) -> ExitCode {
    let answers = ask_all(&KNOWN.map(Path::new), DEADLINE);
    let text = serde_json::to_string(&answers).map_err(io::Error::from);
    match text.and_then(|text| file::replace_up_to(MAX_ANSWERS, file, &text, 0o644)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            let _ = writeln!(io::stderr(), "cannot write '{}': {why}", file.display());
            ExitCode::FAILURE
        }
    }
}

/// Runs the unit that asks the emulators to its end, and waits at most for `limit`.
///
/// # Errors
/// It does not exist, failed or still runs, or systemd does not answer.
pub fn run_unit(limit: Duration) -> Result<(), String> {
    service::run(UNIT, limit).map_err(|why| why.to_string())
}

/// Reads the file that the unit's user wrote; no answers if a part of it is invalid.
///
/// # Errors
/// It cannot be read, or is not a regular file.
pub fn read(file: &Path) -> io::Result<Answers> {
    Ok(parse(&file::read_up_to(MAX_ANSWERS, file)?))
}

/// Parses the file's text.
#[must_use]
pub fn parse(text: &str) -> Answers {
    let answers: Answers = serde_json::from_str(text).unwrap_or_default();
    let valid = |answer: &Answer| answer.properties.is_valid();
    match answers.values().all(valid) {
        true => answers,
        false => Answers::new(),
    }
}

/// Asks the emulators that exist, all at the same time.
#[must_use]
pub fn ask_all(paths: &[&Path], limit: Duration) -> Answers {
    thread::scope(|scope| {
        let begun = paths.iter().filter_map(|path| {
            let build = Build::of(path).ok()?;
            let asked = scope.spawn(move || ask(path, limit));
            Some((path.to_path_buf(), build, asked))
        });
        let begun: Vec<_> = begun.collect();
        let answered = begun.into_iter().filter_map(|(path, build, asked)| {
            let properties = asked.join().ok()?;
            Some((path, Answer { build, properties }))
        });
        answered.collect()
    })
}

/// Asks one emulator; what it does not answer in time is missing.
#[must_use]
pub fn ask(emulator: &Path, limit: Duration) -> Properties {
    let end = Instant::now() + limit;
    let say = |arguments: &[&str]| output(emulator, arguments, end);
    Properties {
        version: say(&["-version"]).and_then(|text| properties::version(&text)),
        devices: say(&["-device", "help"]).and_then(|text| properties::devices(&text)),
        objects: say(&["-object", "help"]).and_then(|text| properties::objects(&text)),
        smmu: say(&["-device", "arm-smmuv3,help"]).and_then(|text| properties::types(&text)),
        machine: say(&["-machine", "virt,help"]).and_then(|text| properties::types(&text)),
    }
}

/// The standard output of a call that succeeded in time.
fn output(emulator: &Path, arguments: &[&str], end: Instant) -> Option<String> {
    if Instant::now() >= end {
        return None;
    }
    let mut command = Command::new(emulator);
    // A group of its own: an emulator that starts another process is killed together with it.
    command.args(arguments).env_clear().process_group(0);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().ok()?;
    let output = child.stdout.take()?;
    let (send, read) = mpsc::channel();
    // Not joined: a process that left the group may keep the pipe open.
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // One byte more than allowed tells an output that is too long from one that just fits.
        let limited = output.take(MAX_BYTES as u64 + 1).read_to_end(&mut bytes);
        let _ = send.send(limited.is_ok().then_some(bytes));
    });
    let bytes = read.recv_timeout(end.saturating_duration_since(Instant::now()));
    let bytes = bytes
        .ok()
        .flatten()
        .filter(|bytes| bytes.len() <= MAX_BYTES);
    let succeeded = bytes.is_some() && succeeds(&mut child, end);
    // Also what it started itself; the group exists as long as the child was not reaped or another is in it.
    let _ = killpg(
        Pid::from_raw(i32::try_from(child.id()).ok()?),
        Signal::SIGKILL,
    );
    let _ = child.wait();
    bytes
        .filter(|_| succeeded)
        .and_then(|bytes| String::from_utf8(bytes).ok())
}

/// True if it has exited with success before `end`.
fn succeeds(child: &mut Child, end: Instant) -> bool {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < end => thread::sleep(LOOK),
            _ => return false,
        }
    }
}

#[cfg(test)]
#[path = "emulator_test.rs"]
mod test;
