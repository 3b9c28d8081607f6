//! A kernel whose writes run in disposable children, each with a deadline.
//!
//! A write that binds or unbinds can block in the kernel where no signal reaches it (the unbind of a
//! busy `nvidia`, a device lock). A child that is stuck there is left behind; the agent goes on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Kernel, Knob};
use kernel_glue::live::Live;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::rebind::Step;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;
use tracing::{debug, error};

use crate::probe;

/// The program that such children run: it lies beside the agent and loads nothing of libvirt.
pub const PROGRAM: &str = "variantd-child";
/// First argument of such a child.
pub const ARGUMENT: &str = "write-knob";

/// A Grace GPU's probe waits up to 31 s for its link and memory (drivers/vfio/pci/nvgrace-gpu).
const BIND_DEADLINE: Duration = Duration::from_secs(40);
const DEADLINE: Duration = Duration::from_secs(15);

/// The live kernel, written to by children of this program.
pub struct InChild {
    live: Live,
    root: PathBuf,
    program: PathBuf,
    stuck: Mutex<BTreeMap<PciAddress, mpsc::Receiver<Errno>>>,
}

impl InChild {
    /// Runs `program`, which must call [`run`] and [`probe::run`] for its arguments, to write below `root`.
    #[must_use]
    pub fn new(live: Live, root: PathBuf, program: PathBuf) -> Self {
        Self {
            live,
            root,
            program,
            stuck: Mutex::default(),
        }
    }

    fn spawn(&self, knob: &Knob, value: &str) -> Result<Child, Errno> {
        let child = Command::new(&self.program)
            .arg(ARGUMENT)
            .arg(&self.root)
            .args(arguments(knob))
            .arg(value)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        child.map_err(|error| errno(error.raw_os_error()))
    }

    /// Never writes on top of a write that is still stuck.
    fn refuse_stuck(&self, device: PciAddress) -> Result<(), Errno> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let ended =
            |wait: &mpsc::Receiver<Errno>| wait.try_recv() != Err(mpsc::TryRecvError::Empty);
        if stuck.get(&device).is_some_and(ended) {
            stuck.remove(&device);
        }
        if stuck.contains_key(&device) {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }
}

impl Kernel for InChild {
    fn write(&self, knob: &Knob, value: &str) -> Result<(), Errno> {
        let device = device(knob, value)?;
        self.refuse_stuck(device)?;
        let step = Step {
            knob: knob.clone(),
            value: value.to_owned(),
        };
        debug!("{step}");
        let wait = waiter(self.spawn(knob, value)?);
        match wait.recv_timeout(deadline(knob)) {
            Ok(Errno::UnknownErrno) => Ok(()),
            Ok(errno) => Err(errno),
            Err(_) => {
                error!(
                    "the write to '{}' for '{device}' is stuck",
                    knob.path().display()
                );
                let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
                stuck.insert(device, wait);
                Err(Errno::ETIMEDOUT)
            }
        }
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        self.live.load_module(module)
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        self.live.driver(device)
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        self.live.driver_override(device)
    }

    fn registered(&self, name: &str) -> Option<DriverName> {
        self.live.registered(name)
    }

    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno> {
        self.live.vfio_users(device)
    }

    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        self.refuse_stuck(device).map_err(|_| RegionError::Stuck)?;
        probe::ask(&self.program, &self.root, device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        self.live.occupancy(device)
    }

    fn unbind_lock(&self, device: PciAddress) -> Option<bool> {
        self.live.unbind_lock(device)
    }
}

/// The child's side: one write; its errno is the exit status.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    let result = match arguments {
        [root, kind, name, value] => parse(kind, name).and_then(|knob| {
            let live = Live::new(root.into()).map_err(|_| Errno::ENOENT)?;
            live.write(&knob, value)
        }),
        _ => Err(Errno::EINVAL),
    };
    let number = result.map_or_else(|errno| errno as i32, |()| 0);
    ExitCode::from(u8::try_from(number).unwrap_or(Errno::EIO as u8))
}

/// Waits in a thread of its own; [`Errno::UnknownErrno`], which is 0, means success.
fn waiter(mut child: Child) -> mpsc::Receiver<Errno> {
    let (send, wait) = mpsc::channel();
    thread::spawn(move || {
        let status = child.wait().ok().and_then(|status| status.code());
        let _ = send.send(Errno::from_raw(status.unwrap_or(Errno::EINTR as i32)));
    });
    wait
}

fn arguments(knob: &Knob) -> [String; 2] {
    match knob {
        Knob::Override(device) => ["override".into(), device.to_string()],
        Knob::Unbind(driver) => ["unbind".into(), driver.to_string()],
        Knob::Bind(driver) => ["bind".into(), driver.to_string()],
        Knob::Probe => ["probe".into(), String::new()],
        Knob::UnbindLock(device) => ["unbind-lock".into(), device.to_string()],
    }
}

fn parse(kind: &str, name: &str) -> Result<Knob, Errno> {
    let driver = || name.parse::<DriverName>().map_err(|_| Errno::EINVAL);
    match kind {
        "override" => device_in(name).map(Knob::Override),
        "unbind-lock" => device_in(name).map(Knob::UnbindLock),
        "unbind" => driver().map(Knob::Unbind),
        "bind" => driver().map(Knob::Bind),
        "probe" => Ok(Knob::Probe),
        _ => Err(Errno::EINVAL),
    }
}

fn device(knob: &Knob, value: &str) -> Result<PciAddress, Errno> {
    match knob {
        Knob::Override(device) | Knob::UnbindLock(device) => Ok(*device),
        _ => device_in(value),
    }
}

fn device_in(text: &str) -> Result<PciAddress, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

fn deadline(knob: &Knob) -> Duration {
    match knob {
        Knob::Bind(_) | Knob::Probe => BIND_DEADLINE,
        Knob::Override(_) | Knob::Unbind(_) | Knob::UnbindLock(_) => DEADLINE,
    }
}

fn errno(raw: Option<i32>) -> Errno {
    Errno::from_raw(raw.unwrap_or(Errno::EIO as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_knob_survives_the_way_to_the_child() {
        let driver: DriverName = "vfio-pci".parse().expect("driver");
        let device = "0009:01:00.0".parse().expect("address");
        for knob in [
            Knob::Override(device),
            Knob::Unbind(driver.clone()),
            Knob::Bind(driver),
            Knob::Probe,
            Knob::UnbindLock(device),
        ] {
            let [kind, name] = arguments(&knob);
            assert_eq!(parse(&kind, &name), Ok(knob));
        }
    }

    #[test]
    fn the_childs_status_is_the_errno() {
        let status = |code: i32| {
            let child = Command::new("sh")
                .args(["-c", &format!("exit {code}")])
                .spawn();
            waiter(child.expect("sh")).recv().expect("status")
        };
        assert_eq!(status(0), Errno::UnknownErrno);
        assert_eq!(status(Errno::ETIME as i32), Errno::ETIME);
    }
}
