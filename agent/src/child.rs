//! A kernel whose writes run in disposable children, each with a deadline.
//!
//! A write that binds or unbinds can block in the kernel where no signal reaches it (the unbind of a
//! busy `nvidia`, a device lock), and so can modprobe. A child that is stuck there is left behind; the agent goes on.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Kernel, Knob};
use kernel_glue::live::Live;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::rebind::Step;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;
use tokio::sync::Notify;
use tracing::{debug, error, info};

use crate::bind_limit::BindLimits;
use crate::probe;

/// The program that such children run: it loads nothing of libvirt.
pub const PROGRAM: &str = "variantd-child";
/// First argument of a child that writes.
pub const ARGUMENT: &str = "write-knob";
/// First argument of a child that loads a module.
pub const LOAD: &str = "load-module";

/// A write that no probe waits in.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// A module of a VFIO driver, which probes nothing by itself.
pub(crate) const LOADING: Duration = Duration::from_secs(30);

/// After this long it is said that a write is waited for,
const FIRST_WORD: Duration = Duration::from_secs(2);
/// and after this long again.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// How long binds may take now; called for each write, since recipes are read again under us.
pub type Limits = Box<dyn Fn() -> BindLimits + Send + Sync>;

/// The live kernel, written to by children of this program.
pub struct InChild {
    live: Live,
    root: PathBuf,
    program: PathBuf,
    limits: Limits,
    loading: Duration,
    stuck: Mutex<BTreeMap<Object, Answer>>,
    ended: Arc<Notify>,
}

/// What a child works on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Device(PciAddress),
    /// A module, by its name with underscores.
    Module(String),
}

impl InChild {
    /// Runs `program`, which must call [`run`] and [`probe::run`] for its arguments, to write below `root`.
    #[must_use]
    pub fn new(live: Live, root: PathBuf, program: PathBuf, limits: Limits) -> Self {
        Self {
            live,
            root,
            program,
            limits,
            loading: LOADING,
            stuck: Mutex::default(),
            ended: Arc::default(),
        }
    }

    /// The same, which waits so long for a module to be loaded.
    #[must_use]
    pub fn with_loading(self, loading: Duration) -> Self {
        Self { loading, ..self }
    }

    /// Told of each write that was stuck and has ended.
    #[must_use]
    pub fn ended(&self) -> Arc<Notify> {
        self.ended.clone()
    }

    fn child(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .arg(what)
            .arg(&self.root)
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        command
    }

    /// Runs a child for as long as it may take; one that is stuck is left behind, and remembered.
    fn within(
        &self,
        object: Object,
        child: Command,
        limit: Duration,
        waiting: impl Fn(Duration),
    ) -> Result<(), Errno> {
        self.refuse_stuck(&object)?;
        let answer = Answer::of(child, self.ended.clone())?;
        match answer.within(limit, waiting) {
            Some(Errno::UnknownErrno) => Ok(()),
            Some(errno) => Err(errno),
            None => {
                error!("{object} is stuck");
                let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
                stuck.insert(object, answer);
                Err(Errno::ETIMEDOUT)
            }
        }
    }

    fn deadline(&self, knob: &Knob) -> Duration {
        // Where it cannot be seen the name counts as it is.
        let registered = |name: &DriverName| self.live.registered(name.as_str()).unwrap_or(None);
        deadline(knob, &(self.limits)(), registered)
    }

    /// Never works on top of what is still stuck.
    fn refuse_stuck(&self, object: &Object) -> Result<(), Errno> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        let ended = stuck.get(object).and_then(Answer::now);
        if ended.is_some() {
            stuck.remove(object);
        }
        if stuck.contains_key(object) {
            return Err(Errno::ETIMEDOUT);
        }
        Ok(())
    }
}

impl Kernel for InChild {
    fn write(&self, knob: &Knob, value: &str) -> Result<(), Errno> {
        let device = device(knob, value)?;
        let object = Object::Device(device);
        self.refuse_stuck(&object)?;
        let step = Step {
            knob: knob.clone(),
            value: value.to_owned(),
        };
        debug!("{step}");
        let mut child = self.child(ARGUMENT);
        child.args(arguments(knob)).arg(value);
        let limit = self.deadline(knob);
        let waiting = |waited| progress(knob, device, waited, limit);
        let written = self.within(object, child, limit, waiting);
        if written == Err(Errno::ETIMEDOUT) {
            error!("the write was to '{knob}'");
        }
        written
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        if self.live.registered(module)?.is_some() {
            return Ok(());
        }
        let object = Object::Module(module.replace('-', "_"));
        let mut child = self.child(LOAD);
        child.arg(module);
        let limit = self.loading;
        self.within(object, child, limit, |waited| {
            let (waited, limit) = (waited.as_secs(), limit.as_secs());
            info!("waiting for module '{module}' to be loaded ({waited} s of at most {limit} s)");
        })
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        self.live.driver(device)
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        self.live.driver_override(device)
    }

    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno> {
        self.live.registered(name)
    }

    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        self.live.lists(device, driver)
    }

    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno> {
        self.live.vfio_users(device)
    }

    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        let object = Object::Device(device);
        self.refuse_stuck(&object).map_err(|_| RegionError::Stuck)?;
        probe::ask(&self.program, &self.root, device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        self.live.occupancy(device)
    }

    fn names_memory(&self, driver: &DriverName) -> bool {
        self.live.names_memory(driver)
    }

    fn no_iommu(&self) -> Result<bool, Errno> {
        self.live.no_iommu()
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        self.live.unbind_lock(device)
    }
}

/// The child's side: one write; its errno is the exit status.
#[must_use]
pub fn run(arguments: &[String]) -> ExitCode {
    status(match arguments {
        [root, kind, name, value] => {
            parse(kind, name).and_then(|knob| live(root)?.write(&knob, value))
        }
        _ => Err(Errno::EINVAL),
    })
}

/// The child's side: one module is loaded; the errno is the exit status.
#[must_use]
pub fn load(arguments: &[String]) -> ExitCode {
    status(match arguments {
        [root, module] => live(root).and_then(|live| live.load_module(module)),
        _ => Err(Errno::EINVAL),
    })
}

fn live(root: &str) -> Result<Live, Errno> {
    Live::new(root.into()).map_err(|failure| failure.errno().unwrap_or(Errno::EIO))
}

fn status(result: Result<(), Errno>) -> ExitCode {
    let number = result.map_or_else(|errno| errno as i32, |()| 0);
    ExitCode::from(u8::try_from(number).unwrap_or(Errno::EIO as u8))
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "the write for '{device}'"),
            Self::Module(module) => write!(f, "modprobe of '{module}'"),
        }
    }
}

/// What a child will have said; [`Errno::UnknownErrno`], which is 0, means success.
struct Answer {
    wait: mpsc::Receiver<Errno>,
    /// Nobody waits for it any more.
    late: Arc<AtomicBool>,
}

impl Answer {
    /// Runs it and waits in a thread of its own, and tells `ended` when it comes late. Without the thread nothing runs.
    fn of(mut child: Command, ended: Arc<Notify>) -> Result<Self, Errno> {
        let (send, wait) = mpsc::channel();
        let late = Arc::new(AtomicBool::new(false));
        let is_late = late.clone();
        let run = move || {
            let status = child.status();
            let answer = status.map_or_else(
                |why| errno(why.raw_os_error()),
                |status| Errno::from_raw(status.code().unwrap_or(Errno::EINTR as i32)),
            );
            let _ = send.send(answer);
            if is_late.load(Ordering::SeqCst) {
                info!("what was stuck has ended");
                ended.notify_one();
            }
        };
        let thread = thread::Builder::new().spawn(run);
        thread.map_err(|why| errno(why.raw_os_error()))?;
        Ok(Self { wait, late })
    }

    /// Says every now and then how long it has waited.
    fn within(&self, limit: Duration, waiting: impl Fn(Duration)) -> Option<Errno> {
        let begun = Instant::now();
        let mut pause = FIRST_WORD;
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            match self.wait.recv_timeout(left.min(pause)) {
                Ok(errno) => return Some(errno),
                Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() < limit => {
                    waiting(begun.elapsed());
                    pause = NEXT_WORD;
                }
                Err(_) => break,
            }
        }
        self.late.store(true, Ordering::SeqCst);
        // It may have come between the two.
        self.now()
    }

    fn now(&self) -> Option<Errno> {
        match self.wait.try_recv() {
            Ok(errno) => Some(errno),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Errno::EINTR),
        }
    }
}

fn arguments(knob: &Knob) -> [String; 2] {
    match knob {
        Knob::Override(device) => ["override".into(), device.to_string()],
        Knob::Unbind(driver) => ["unbind".into(), driver.to_string()],
        Knob::Bind(driver) => ["bind".into(), driver.to_string()],
        Knob::Probe => ["probe".into(), String::new()],
        Knob::UnbindLock(device) => ["unbind-lock".into(), device.to_string()],
        Knob::Barrier(device) => ["barrier".into(), device.to_string()],
    }
}

fn parse(kind: &str, name: &str) -> Result<Knob, Errno> {
    let driver = || name.parse::<DriverName>().map_err(|_| Errno::EINVAL);
    match kind {
        "override" => device_in(name).map(Knob::Override),
        "unbind-lock" => device_in(name).map(Knob::UnbindLock),
        "barrier" => device_in(name).map(Knob::Barrier),
        "unbind" => driver().map(Knob::Unbind),
        "bind" => driver().map(Knob::Bind),
        "probe" => Ok(Knob::Probe),
        _ => Err(Errno::EINVAL),
    }
}

fn device(knob: &Knob, value: &str) -> Result<PciAddress, Errno> {
    match knob {
        Knob::Override(device) | Knob::UnbindLock(device) | Knob::Barrier(device) => Ok(*device),
        _ => device_in(value),
    }
}

fn device_in(text: &str) -> Result<PciAddress, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// `registered` says under which name the host has a recipe's driver.
fn deadline(
    knob: &Knob,
    limits: &BindLimits,
    registered: impl Fn(&DriverName) -> Option<DriverName>,
) -> Duration {
    match knob {
        Knob::Bind(driver) => {
            limits.of(|name| name == driver || registered(name).as_ref() == Some(driver))
        }
        // A barrier waits for a bind under way, and the kernel chooses who probes: to any driver.
        Knob::Probe | Knob::Barrier(_) => limits.longest(),
        Knob::Override(_) | Knob::Unbind(_) | Knob::UnbindLock(_) => DEADLINE,
    }
}

fn progress(knob: &Knob, device: PciAddress, waited: Duration, limit: Duration) {
    info!("{}", waiting(knob, device, waited, limit));
}

fn waiting(knob: &Knob, device: PciAddress, waited: Duration, limit: Duration) -> String {
    let what = match knob {
        Knob::Bind(driver) => format!("to become ready on '{driver}'"),
        Knob::Unbind(driver) => format!("to be let go by '{driver}'"),
        _ => format!("(the write to '{knob}')"),
    };
    let (waited, limit) = (waited.as_secs(), limit.as_secs());
    format!("waiting for '{device}' {what} ({waited} s of at most {limit} s)")
}

fn errno(raw: Option<i32>) -> Errno {
    Errno::from_raw(raw.unwrap_or(Errno::EIO as i32))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recipe::Recipes;

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
            Knob::Barrier(device),
        ] {
            let [kind, name] = arguments(&knob);
            assert_eq!(parse(&kind, &name), Ok(knob));
        }
    }

    #[test]
    fn a_bind_has_the_time_of_its_recipe_and_a_barrier_that_of_the_longest() {
        let grace = include_str!("../recipes/nvidia-grace.toml");
        let named = "driver = \"nvgrace-gpu-vfio-pci\"\nbind_seconds = 260";
        let text = grace.replacen("driver = \"nvgrace_gpu_vfio_pci\"", named, 1);
        let limits = BindLimits::of_recipes(&Recipes::of(&[&text]));
        let name = |text: &str| text.parse::<DriverName>().expect("driver");
        let on_host = |named: &DriverName| name(&named.as_str().replace('-', "_")).into();
        let seconds = |knob: &Knob| deadline(knob, &limits, on_host).as_secs();
        let device = "0009:01:00.0".parse().expect("address");
        let variant = name("nvgrace_gpu_vfio_pci");
        for (knob, limit) in [
            (Knob::Bind(variant.clone()), 260),
            (Knob::Bind(name("nvidia")), 40),
            (Knob::Probe, 260),
            (Knob::Barrier(device), 260),
            (Knob::Unbind(variant), 15),
            (Knob::Override(device), 15),
            (Knob::UnbindLock(device), 15),
        ] {
            assert_eq!(seconds(&knob), limit, "{knob}");
        }
    }

    #[test]
    fn what_is_waited_for_is_told_with_the_time_that_it_has() {
        let knob = Knob::Bind("nvgrace_gpu_vfio_pci".parse().expect("driver"));
        let device = "0009:01:00.0".parse().expect("address");
        let [waited, limit] = [12, 260].map(Duration::from_secs);
        assert_eq!(
            waiting(&knob, device, waited, limit),
            "waiting for '0009:01:00.0' to become ready on 'nvgrace_gpu_vfio_pci' (12 s of at most 260 s)"
        );
    }

    fn answer(script: &str, ended: &Arc<Notify>) -> Answer {
        let mut child = Command::new("sh");
        child.args(["-c", script]);
        Answer::of(child, ended.clone()).expect("a thread")
    }

    #[tokio::test]
    async fn the_childs_status_is_the_errno_and_nobody_is_told_that_it_ended_in_time() {
        let ended = Arc::default();
        let status = |code: i32| {
            let answer = answer(&format!("exit {code}"), &ended);
            answer.within(Duration::from_secs(20), |_| {})
        };
        assert_eq!(status(0), Some(Errno::UnknownErrno));
        assert_eq!(status(Errno::ETIME as i32), Some(Errno::ETIME));
        let told = tokio::time::timeout(Duration::from_millis(50), ended.notified());
        told.await.expect_err("nothing was late");
    }

    #[test]
    fn a_wait_of_over_two_seconds_is_told_while_it_lasts() {
        let told = Mutex::new(Vec::new());
        let answer = answer("sleep 2.5", &Arc::default());
        let note = |waited: Duration| told.lock().expect("told").push(waited.as_secs());
        let answer = answer.within(Duration::from_secs(60), note);
        assert_eq!(answer, Some(Errno::UnknownErrno));
        assert_eq!(*told.lock().expect("told"), [2]);
    }

    #[tokio::test]
    async fn a_write_that_ends_after_its_deadline_is_told_of() {
        let ended = Arc::default();
        let answer = answer("sleep 0.3; exit 5", &ended);
        assert_eq!(answer.within(Duration::from_millis(20), |_| {}), None);
        let told = tokio::time::timeout(Duration::from_secs(20), ended.notified());
        told.await.expect("told");
        assert_eq!(answer.now(), Some(Errno::EIO));
    }
}
