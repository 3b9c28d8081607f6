//! Runs scripts in the emulated host: the script is in the shared folder, and a line on a virtual console names it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::interrupt::Interrupt;
use super::machine::last_lines;
use super::process::{Process, wait_until};
use super::progress::say;
use super::request;
use super::state::State;

/// Exit status of a job that exceeded its deadline, as of timeout(1).
pub const TIMED_OUT: i32 = 124;
/// The default deadline.
pub const DEADLINE: Duration = Duration::from_secs(300);

const BOOT_TIMEOUT: Duration = Duration::from_secs(240);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
const INTERVAL: Duration = Duration::from_millis(20);
const ATTEMPTS: u32 = 3;

/// A script to run.
#[derive(Clone, Debug)]
pub struct Job {
    script: String,
    deadline: Duration,
}

impl Job {
    /// Runs `script` with bash.
    pub fn new(script: impl Into<String>) -> Self {
        Self {
            script: script.into(),
            deadline: DEADLINE,
        }
    }

    /// With another deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs it and passes its output on. Returns its exit status, 124 after the deadline.
    pub fn run(&self, state: &State, output: &mut dyn Write) -> Result<i32> {
        let mut interrupt = Interrupt::hold()?;
        let files = Files::new(state);
        fs::write(files.path("sh"), &self.script)
            .context("cannot write the script to the shared folder")?;
        let began = Instant::now();
        files.begin(state)?;
        let mut stream = Stream::default();
        loop {
            // read the status first: once it exists, the output is complete
            let status = files.status();
            stream.copy(&files.path("out"), output)?;
            if let Some(status) = status {
                files.remove();
                return Ok(status);
            }
            request::serve(state)?;
            check_alive(state)?;
            if began.elapsed() > self.deadline {
                Self::kill(
                    state,
                    &files,
                    &format!("past its deadline of {} s", self.deadline.as_secs()),
                )?;
                return Ok(TIMED_OUT);
            }
            if let Some(signal) = interrupt.came() {
                Self::kill(state, &files, "interrupted")?;
                // as shells have it
                return Ok(128 + signal);
            }
            std::thread::sleep(INTERVAL);
        }
    }

    /// Runs it and keeps its output.
    pub fn collect(&self, state: &State) -> Result<(i32, String)> {
        let mut output = Vec::new();
        let status = self.run(state, &mut output)?;
        Ok((status, String::from_utf8_lossy(&output).into_owned()))
    }

    fn kill(state: &State, files: &Files, why: &str) -> Result<()> {
        send(state, &format!("kill {}", files.id))?;
        let ended = wait_until(ANSWER_TIMEOUT, || files.status().is_some());
        let outcome = if ended { "killed" } else { "not to be killed" };
        let console = state.console();
        say(&format!(
            "job {why}, {outcome} (console: '{}')",
            console.display()
        ));
        Ok(())
    }
}

/// Removes the ready file before the emulated host reboots.
pub fn forget_agent(state: &State) -> Result<()> {
    fs::remove_file(sign(state)).context("cannot remove the ready file")
}

fn sign(state: &State) -> PathBuf {
    state.share().join("agent")
}

/// Waits until the emulated host accepts jobs.
pub fn wait_for_agent(state: &State, qemu: &Process) -> Result<()> {
    let sign = sign(state);
    let is_there = wait_until(BOOT_TIMEOUT, || sign.exists() || !qemu.is_alive());
    if sign.exists() {
        return Ok(());
    }
    let reason = match is_there {
        true => format!("QEMU ended: {}", last_lines(&state.path("qemu.log"))),
        false => format!(
            "the emulated host is not ready after {} s",
            BOOT_TIMEOUT.as_secs()
        ),
    };
    bail!(
        "the emulated host did not boot: {reason}\nend of its console:\n{}",
        last_lines(&state.console())
    )
}

/// The files of one job in the shared folder.
struct Files {
    id: String,
    folder: PathBuf,
}

impl Files {
    fn new(state: &State) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self {
            id: format!("{}-{number}", std::process::id()),
            folder: state.share().join("jobs"),
        }
    }

    fn path(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.id))
    }

    fn begin(&self, state: &State) -> Result<()> {
        for _ in 0..ATTEMPTS {
            send(state, &format!("run {}", self.id))?;
            if wait_until(ANSWER_TIMEOUT, || self.path("began").exists()) {
                return Ok(());
            }
            check_alive(state)?;
        }
        bail!(
            "the emulated host takes no jobs (console: '{}')",
            state.console().display()
        )
    }

    fn status(&self) -> Option<i32> {
        fs::read_to_string(self.path("rc"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    fn remove(&self) {
        for extension in ["sh", "began", "out", "rc"] {
            // left behind, they do no harm
            let _ = fs::remove_file(self.path(extension));
        }
    }
}

/// Follows a file that grows.
#[derive(Default)]
struct Stream {
    file: Option<File>,
}

impl Stream {
    fn copy(&mut self, path: &Path, output: &mut dyn Write) -> Result<()> {
        if self.file.is_none() {
            self.file = File::open(path).ok();
        }
        let Some(file) = self.file.as_mut() else {
            return Ok(());
        };
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)
            .context("cannot read the job's output")?;
        if !bytes.is_empty() {
            output
                .write_all(&bytes)
                .and_then(|()| output.flush())
                .context("cannot pass on the job's output")?;
        }
        Ok(())
    }
}

fn send(state: &State, line: &str) -> Result<()> {
    let socket = state.path("jobs.sock");
    UnixStream::connect(&socket)
        .and_then(|mut stream| writeln!(stream, "{line}"))
        .with_context(|| format!("cannot reach the emulated host at '{}'", socket.display()))
}

fn check_alive(state: &State) -> Result<()> {
    if state.qemu().is_some() {
        return Ok(());
    }
    bail!(
        "the emulated host is gone (console: '{}'): {}",
        state.console().display(),
        last_lines(&state.path("qemu.log"))
    )
}
