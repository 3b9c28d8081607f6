//! Queries VFIO for a device's regions or AtomicOps in a child process with a deadline.
//!
//! The child opens the device, which resets it, and closes it. Both can block in the kernel where no signal reaches;
//! such a child is left running, and holds the device like any other process.

use std::path::Path;
use std::time::Duration;

use kernel_glue::address::PciAddress;
use kernel_glue::atomics::{Width, Widths};
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;
use serde::de::DeserializeOwned;

use crate::helper::{HelperError, Running};
use crate::request::{Request, command, no_answer};

/// A function may take 60 s to answer after a reset (drivers/pci/pci.c, PCIE_RESET_READY_POLL_MS).
pub(crate) const DEADLINE: Duration = Duration::from_secs(70);

/// The child's reply.
type Answer<T> = Result<T, RegionError>;

/// Runs `program`, which must call [`crate::request::serve`], to query the regions of a device below `root`.
///
/// # Errors
/// As [`kernel_glue::kernel::Kernel::regions`]; [`RegionError::Stuck`] if the child has not ended in time.
pub fn ask(program: &Path, root: &Path, device: PciAddress) -> Result<Regions, RegionError> {
    let root = root.to_owned();
    within(program, Request::Regions { root, device }, DEADLINE)
}

/// The same for the AtomicOps of a device that VFIO reports to QEMU.
///
/// # Errors
/// As [`ask`].
pub fn ask_atomics(program: &Path, root: &Path, device: PciAddress) -> Result<Widths, RegionError> {
    let root = root.to_owned();
    let bits: Vec<u32> = within(program, Request::Atomics { root, device }, DEADLINE)?;
    let named = |width: &Width| bits.contains(&width.bits());
    Ok(Width::ALL.into_iter().filter(named).collect())
}

/// A late child is left running, because it holds the device.
fn within<T: DeserializeOwned + Send + 'static>(
    program: &Path,
    request: Request,
    deadline: Duration,
) -> Answer<T> {
    let command = command(program, &request);
    let child = Running::<Answer<T>>::start(command, &request, || {});
    match child.map_err(|why| failed(&why))?.within(deadline) {
        Some(answer) => answer.unwrap_or_else(|why| Err(failed(&why))),
        None => Err(RegionError::Stuck),
    }
}

fn failed(why: &HelperError) -> RegionError {
    let errno = no_answer(why);
    match why {
        HelperError::Io(_) => unusable("start a child process for the query", errno),
        HelperError::Silent { .. } => {
            unusable("read the reply of the child process", Errno::EPROTO)
        }
    }
}

fn unusable(action: &str, errno: Errno) -> RegionError {
    RegionError::Kernel {
        action: action.to_owned(),
        errno: errno as i32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(script: &str, deadline: Duration) -> Answer<Regions> {
        let directory = tempfile::tempdir().expect("a folder");
        let program = directory.path().join("child");
        ::tests::program::script(&program, &format!("#!/bin/sh\n{script}\n"));
        let (root, device) = ("/".into(), "0009:01:00.0".parse().expect("address"));
        within(&program, Request::Regions { root, device }, deadline)
    }

    fn soon(script: &str) -> Answer<Regions> {
        asked(script, Duration::from_secs(20))
    }

    #[test]
    fn reply_of_the_child_is_returned() {
        let mut regions = Regions::default();
        regions[4].size = 1 << 37;
        for answer in [Ok(regions), Err(RegionError::InUse(vec![7]))] {
            let text = serde_json::to_string(&answer).expect("text");
            assert_eq!(soon(&format!("printf '%s' '{text}'")), answer);
        }
    }

    #[test]
    fn late_child_is_left_running() {
        let stuck = asked("exec sleep 5", Duration::from_millis(50));
        assert_eq!(stuck, Err(RegionError::Stuck));
    }

    #[test]
    fn child_that_exits_without_a_reply_is_a_failure() {
        let text = soon("kill -9 $$").expect_err("no answer").to_string();
        assert_eq!(
            text,
            "cannot read the reply of the child process: protocol error"
        );
        let device = "0009:01:00.0".parse().expect("address");
        let nowhere = ask(Path::new("/nonexistent"), Path::new("/"), device);
        let text = nowhere.expect_err("no program").to_string();
        assert!(text.starts_with("cannot start a child"), "{text}");
    }
}
