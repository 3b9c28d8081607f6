//! Processes that the lab started: recorded with their start time, so that a reused number is never signalled.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Time for a process to exit after each signal.
const TIMEOUT: Duration = Duration::from_secs(5);
const INTERVAL: Duration = Duration::from_millis(20);

/// One recorded process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process {
    pid: i32,
    started: u64,
}

impl Process {
    /// The process with this number, now.
    pub fn find(pid: u32) -> Result<Self> {
        let pid = i32::try_from(pid).context("no process has such a number")?;
        let started = start_time(pid).with_context(|| format!("process {pid} ended at once"))?;
        Ok(Self { pid, started })
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it still runs (and is not a zombie or another process with its number).
    pub fn is_alive(&self) -> bool {
        start_time(self.pid) == Some(self.started)
    }

    /// Records it in a file.
    pub fn record(&self, path: &Path) -> Result<()> {
        fs::write(path, format!("{} {}\n", self.pid, self.started))
            .with_context(|| format!("cannot write '{}'", path.display()))
    }

    /// Reads a record; none if the file is missing or not a record.
    pub fn recorded(path: &Path) -> Option<Self> {
        let text = fs::read_to_string(path).ok()?;
        let (pid, started) = text.trim().split_once(' ')?;
        Some(Self {
            pid: pid.parse().ok().filter(|pid| *pid > 1)?,
            started: started.parse().ok()?,
        })
    }

    /// Ends it with SIGTERM, then with SIGKILL.
    pub fn stop(&self) -> Result<()> {
        for signal in [Signal::SIGTERM, Signal::SIGKILL] {
            if !self.is_alive() {
                return Ok(());
            }
            match kill(Pid::from_raw(self.pid), signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => {
                    return Err(error).context(format!("cannot stop process {}", self.pid));
                }
            }
            if self.ends_within(TIMEOUT) {
                return Ok(());
            }
        }
        bail!("process {} does not end", self.pid)
    }

    /// Waits for its end. The time of a child counts as this process's own afterwards (`cutime` in proc(5)).
    pub fn ends_within(&self, timeouts: Duration) -> bool {
        let has_ended = wait_until(timeouts, || !self.is_alive());
        if has_ended {
            // fails for a process that another one started
            let _ = waitpid(Pid::from_raw(self.pid), Some(WaitPidFlag::WNOHANG));
        }
        has_ended
    }

    /// Processor time of it and of its children that it waited for; zero once it has ended.
    pub fn processor_time(&self) -> Duration {
        let alive = stat(self.pid).filter(|_| self.is_alive());
        alive.map_or(Duration::ZERO, |fields| processor_time(&fields))
    }
}

/// All processes recorded in a folder (`*.pid`).
pub fn recorded_in(folder: &Path) -> Vec<Process> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "pid"))
        .filter_map(|path| Process::recorded(path))
        .collect()
}

/// Polls the condition until it holds or the timeout ends; returns whether it held.
pub fn wait_until(timeouts: Duration, mut is_so: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + timeouts;
    while !is_so() {
        if Instant::now() >= end {
            return false;
        }
        std::thread::sleep(INTERVAL);
    }
    true
}

/// Field 22 of `/proc/PID/stat`, in clock ticks since boot; none for a process that has ended.
fn start_time(pid: i32) -> Option<u64> {
    let fields = stat(pid)?;
    let has_ended = matches!(fields.first()?.as_str(), "Z" | "X");
    (!has_ended).then(|| fields.get(22 - FIRST_FIELD)?.parse().ok())?
}

/// Fields 14 to 17 of `/proc/PID/stat`: `utime`, `stime`, `cutime` and `cstime`, in clock ticks.
fn processor_time(fields: &[String]) -> Duration {
    let times = fields.iter().skip(14 - FIRST_FIELD).take(4);
    let ticks: u64 = times.filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second())
}

/// Number of the first field that `stat` returns: the process's state.
const FIRST_FIELD: usize = 3;

/// The fields of `/proc/PID/stat` after the process's name.
fn stat(pid: i32) -> Option<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // the name is in parentheses and may contain any character
    let (_, fields) = stat.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_recorded_process_is_found_again_and_stopped() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut child = Command::new("sleep").arg("60").spawn().expect("sleep runs");
        let process = Process::find(child.id()).expect("it runs");
        process
            .record(&folder.path().join("sleep.pid"))
            .expect("writable");
        assert_eq!(recorded_in(folder.path()), [process]);
        process.stop().expect("it ends");
        assert!(!process.is_alive());
        assert!(child.wait().is_err(), "it was waited for");
    }

    #[test]
    fn another_process_with_the_same_number_is_not_ours() {
        let mine = Process::find(std::process::id()).expect("this test runs");
        let other = Process {
            started: mine.started + 1,
            ..mine
        };
        assert!(!other.is_alive());
        other.stop().expect("nothing to do");
    }

    #[test]
    fn the_time_of_a_process_is_its_own_and_that_of_its_children() {
        // a fixed amount of work, because on a busy machine little is done in a fixed time
        let busy = "i=0; while [ $i -lt 300000 ]; do i=$((i + 1)); done";
        let mut child = Command::new("sh")
            .args(["-c", &format!("({busy}); echo; read line")])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("sh runs");
        let process = Process::find(child.id()).expect("it runs");
        let mut line = [0];
        let mut printed = child.stdout.take().expect("a pipe");
        std::io::Read::read_exact(&mut printed, &mut line).expect("it is idle now");
        assert!(
            process.processor_time() >= Duration::from_millis(20),
            "{:?}",
            process.processor_time()
        );
        let before = Process::find(std::process::id())
            .expect("this test runs")
            .processor_time();
        drop(child.stdin.take());
        assert!(process.ends_within(TIMEOUT));
        assert!(child.wait().is_err(), "it was waited for");
        assert_eq!(process.processor_time(), Duration::ZERO);
        let after = Process::find(std::process::id())
            .expect("this test runs")
            .processor_time();
        assert!(
            after - before >= Duration::from_millis(20),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn an_invalid_text_is_not_a_record() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for text in ["", "x y", "1 5", "-5 3", "7"] {
            let path = folder.path().join("a.pid");
            fs::write(&path, text).expect("writable");
            assert_eq!(Process::recorded(&path), None, "{text}");
        }
    }
}
