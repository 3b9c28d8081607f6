//! Ensures one agent per run directory: an exclusive lock (flock(2)) on the directory itself, taken before anything in
//! it is read.
//!
//! A second agent would recover, that is unbind, the devices that the first is binding. The lock is on the directory,
//! so that it also works if nothing can be written; the kernel releases it with the process. The bus name is checked as
//! well, against an agent with another run directory.

use std::fs::{self, File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::stat;
use thiserror::Error;
use tracing::warn;

use settings::file;

/// How long an exiting agent may still have the lock.
const GRACE: Duration = Duration::from_secs(1);
/// Pause between attempts.
const PAUSE: Duration = Duration::from_millis(20);

/// Locks the run directory until it is dropped, or the process ends.
#[derive(Debug)]
pub struct Instance(#[expect(dead_code, reason = "held open")] Option<File>);

/// The run directory cannot be locked.
#[derive(Debug, Error)]
pub enum InstanceError {
    /// Another agent has locked it.
    #[error("another variantd{} uses the run directory '{directory}'; stop it first with \
        'systemctl stop variantd'", with_pid(*pid))]
    Taken {
        /// The directory.
        directory: String,
        /// The process, if the kernel reports it.
        pid: Option<u32>,
    },
    /// Another agent owns the bus name.
    #[error("another variantd{} owns the name '{name}' on the system bus; stop it first with \
        'systemctl stop variantd'", with_pid(*pid))]
    Served {
        /// The name.
        name: &'static str,
        /// The process, if the bus reports it.
        pid: Option<u32>,
    },
    /// It cannot be opened or locked.
    #[error("cannot lock the run directory '{directory}': {why}")]
    Failed {
        /// The directory.
        directory: String,
        /// Why.
        why: io::Error,
    },
}

fn with_pid(pid: Option<u32>) -> String {
    pid.map_or(String::new(), |pid| format!(" (pid {pid})"))
}

impl Instance {
    /// Locks the run directory, and creates it if necessary. If it cannot be created because nothing can be written,
    /// there is nothing in it to protect.
    ///
    /// # Errors
    /// Another process has locked it, or it cannot be opened.
    pub fn hold(run: &Path) -> Result<Self, InstanceError> {
        let failed = |why| InstanceError::Failed {
            directory: run.display().to_string(),
            why,
        };
        let file = match file::create_directory(run).and_then(|()| File::open(run)) {
            Ok(file) => file,
            Err(why) if is_unwritable(&why) => {
                warn!("cannot create the run directory '{}': {why}", run.display());
                return Ok(Self(None));
            }
            Err(why) => return Err(failed(why)),
        };
        let since = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Self(Some(file))),
                // systemd may start the next agent while the exiting one still closes its files.
                Err(TryLockError::WouldBlock) if since.elapsed() < GRACE => thread::sleep(PAUSE),
                Err(TryLockError::WouldBlock) => {
                    let pid = file.metadata().ok().and_then(|meta| holder(&meta));
                    let directory = run.display().to_string();
                    return Err(InstanceError::Taken { directory, pid });
                }
                Err(TryLockError::Error(why)) => return Err(failed(why)),
            }
        }
    }
}

/// Nothing can be created there at present.
pub(crate) fn is_unwritable(why: &io::Error) -> bool {
    matches!(
        why.kind(),
        io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
    )
}

/// The process that has the flock(2) of a file, by `/proc/locks` (fs/locks.c, `lock_get_status`): `1: FLOCK ADVISORY
/// WRITE PID MAJOR:MINOR:INODE 0 EOF`. 0 is a process that is hidden here.
pub(crate) fn holder(file: &Metadata) -> Option<u32> {
    let (major, minor) = (stat::major(file.dev()), stat::minor(file.dev()));
    let wanted = format!("{major:02x}:{minor:02x}:{}", file.ino());
    let locks = fs::read_to_string("/proc/locks").unwrap_or_default();
    locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let at = words.iter().position(|word| *word == wanted)?;
        let pid = at.checked_sub(1).and_then(|before| words.get(before))?;
        Some(pid.parse().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use std::process;

    use super::*;

    #[test]
    fn a_run_directory_is_held_once_and_its_holder_is_named() {
        let directory = tempfile::tempdir().expect("directory");
        let run = directory.path().join("run");
        let first = Instance::hold(&run).expect("held");
        let error = Instance::hold(&run).expect_err("taken");
        let pid = process::id();
        assert!(
            matches!(error, InstanceError::Taken { pid: Some(by), .. } if by == pid),
            "{error}"
        );
        drop(first);
        Instance::hold(&run).expect("free again");
    }

    #[test]
    fn lock_waits_for_an_exiting_agent() {
        let directory = tempfile::tempdir().expect("directory");
        let first = Instance::hold(directory.path()).expect("held");
        let ends = thread::spawn(move || {
            thread::sleep(PAUSE * 3);
            drop(first);
        });
        Instance::hold(directory.path()).expect("held");
        ends.join().expect("ended");
    }
}
