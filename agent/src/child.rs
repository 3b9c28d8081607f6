//! A kernel whose writes run in child processes, each with a deadline.
//!
//! A write that binds or unbinds can block in the kernel, where no signal interrupts it (the unbind of a busy `nvidia`,
//! a device lock), and so can modprobe. A stuck child is left running; the agent continues.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::holder::Holders;
use kernel_glue::id::PciId;
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::live::Live;
use kernel_glue::numa::NumaNode;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::rebind::Step;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;
use tokio::sync::Notify;
use tracing::{debug, error, info};

use crate::bind_limit::BindLimits;
use crate::helper::Running;
use crate::probe;
use crate::request::{Request, Written, command, no_answer, written};

/// The deadline of a write without a probe.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

/// The deadline of loading a VFIO driver's module, which probes nothing by itself.
pub(crate) const LOADING: Duration = Duration::from_secs(30);

/// After this time the agent logs that it waits for a write,
const FIRST_WORD: Duration = Duration::from_secs(2);
/// and repeats it after this time.
const NEXT_WORD: Duration = Duration::from_secs(10);

/// The current time limits of binds; called for each write, because recipes may be reloaded.
pub type Limits = Box<dyn Fn() -> BindLimits + Send + Sync>;

/// The live kernel, written by children of this program.
pub struct InChild {
    live: Live,
    root: PathBuf,
    program: PathBuf,
    limits: Limits,
    loading: Duration,
    stuck: Mutex<BTreeMap<Object, Running<Written>>>,
    ended: Arc<Notify>,
}

/// The object that a child changes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Object {
    Device(PciAddress),
    /// A module, by its name with underscores.
    Module(String),
}

impl InChild {
    /// Runs `program`, which must call [`crate::request::serve`], to write below `root`.
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

    /// Sets the time limit for loading a module.
    #[must_use]
    pub fn with_loading(self, loading: Duration) -> Self {
        Self { loading, ..self }
    }

    /// Notifies `ended` of each stuck write that has ended.
    #[must_use]
    pub fn ended(&self) -> Arc<Notify> {
        self.ended.clone()
    }

    /// Runs a child within its time limit; a stuck one is left running, and remembered.
    fn within(
        &self,
        object: Object,
        request: &Request,
        limit: Duration,
        waiting: impl Fn(Duration),
    ) -> Result<(), Errno> {
        self.refuse_stuck(&object)?;
        let ended = self.ended.clone();
        let came_late = move || {
            info!("the stuck process has ended");
            ended.notify_one();
        };
        let child = Running::start(command(&self.program, request), request, came_late);
        let child = child.map_err(|why| no_answer(&why))?;
        match child.told_within(limit, &[FIRST_WORD, NEXT_WORD], waiting) {
            // Also a reply of "refused": the child has exited, so the kernel is done with the device.
            Some(answer) => written(answer),
            None => {
                error!("{object} is stuck in the kernel; see 'journalctl -k'");
                let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
                stuck.insert(object, child);
                Err(Errno::ETIMEDOUT)
            }
        }
    }

    fn deadline(&self, attribute: &Attribute, device: PciAddress) -> Duration {
        // If the lookup fails, the name is used unchanged.
        let registered = |name: &DriverName| self.live.registered(name.as_str()).unwrap_or(None);
        let id = self.live.id(device);
        deadline(attribute, id, &(self.limits)(), registered)
    }

    /// Refuses an object with a stuck write.
    fn refuse_stuck(&self, object: &Object) -> Result<(), Errno> {
        let mut stuck = self.stuck.lock().unwrap_or_else(PoisonError::into_inner);
        // The result of the late write does not matter: the next restore reads the device's state.
        let ended = stuck.get(object).and_then(Running::now);
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
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        let device = device(attribute, value)?;
        let object = Object::Device(device);
        self.refuse_stuck(&object)?;
        let step = Step {
            attribute: attribute.clone(),
            value: value.to_owned(),
        };
        debug!("{step}");
        let request = Request::Write {
            root: self.root.clone(),
            attribute: attribute.clone(),
            value: value.to_owned(),
        };
        let limit = self.deadline(attribute, device);
        let waiting = |waited| progress(attribute, device, waited, limit);
        let written = self.within(object, &request, limit, waiting);
        if written == Err(Errno::ETIMEDOUT) {
            error!("the write was to '{attribute}'");
        }
        written
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        if self.live.registered(module)?.is_some() {
            return Ok(());
        }
        let object = Object::Module(module.replace('-', "_"));
        let request = Request::LoadModule {
            root: self.root.clone(),
            module: module.to_owned(),
        };
        let limit = self.loading;
        self.within(object, &request, limit, |waited| {
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
        // A query takes the device's lock as a bind does, and would wait behind the stuck write.
        self.refuse_stuck(&object).map_err(|_| RegionError::Stuck)?;
        probe::ask(&self.program, &self.root, device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        self.live.occupancy(device)
    }

    fn memory_users(&self, node: NumaNode) -> Result<Holders, Errno> {
        self.live.memory_users(node)
    }

    fn names_memory(&self, driver: &DriverName) -> bool {
        self.live.names_memory(driver)
    }

    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        self.live.is_unconfined(device)
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        self.live.unbind_lock(device)
    }
}

impl fmt::Display for Object {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Device(device) => write!(f, "the write for '{device}'"),
            Self::Module(module) => write!(f, "modprobe of '{module}'"),
        }
    }
}

fn device(attribute: &Attribute, value: &str) -> Result<PciAddress, Errno> {
    match attribute {
        Attribute::Override(device)
        | Attribute::UnbindLock(device)
        | Attribute::Barrier(device) => Ok(*device),
        _ => device_in(value),
    }
}

fn device_in(text: &str) -> Result<PciAddress, Errno> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// `device` is the device's id, if it is known; `registered` returns the host's name of a recipe's driver.
fn deadline(
    attribute: &Attribute,
    device: Option<PciId>,
    limits: &BindLimits,
    registered: impl Fn(&DriverName) -> Option<DriverName>,
) -> Duration {
    match attribute {
        Attribute::Bind(driver) => {
            let is_it =
                |name: &DriverName| name == driver || registered(name).as_ref() == Some(driver);
            limits.of(device, is_it)
        }
        // A barrier waits for a bind in progress, and the kernel chooses the driver: use the limit of any driver.
        Attribute::Probe | Attribute::Barrier(_) => limits.with_any_driver(device),
        // An unbind runs the driver's remove function and no probe. It blocks only while the device is in use.
        Attribute::Override(_) | Attribute::Unbind(_) | Attribute::UnbindLock(_) => DEADLINE,
    }
}

fn progress(attribute: &Attribute, device: PciAddress, waited: Duration, limit: Duration) {
    info!("{}", waiting(attribute, device, waited, limit));
}

fn waiting(attribute: &Attribute, device: PciAddress, waited: Duration, limit: Duration) -> String {
    let what = match attribute {
        Attribute::Bind(driver) => format!("to become ready on '{driver}'"),
        Attribute::Unbind(driver) => format!("to be released by '{driver}'"),
        _ => format!("(the write to '{attribute}')"),
    };
    let (waited, limit) = (waited.as_secs(), limit.as_secs());
    format!("waiting for '{device}' {what} ({waited} s of at most {limit} s)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use planner::recipe::Recipes;

    #[test]
    fn a_bind_has_the_time_of_its_recipe_and_a_barrier_that_of_the_longest() {
        let grace = include_str!("../recipes/nvidia-grace.toml");
        let named = "driver = \"nvgrace-gpu-vfio-pci\"\nbind_seconds = 260";
        let text = grace.replacen("driver = \"nvgrace_gpu_vfio_pci\"", named, 1);
        let limits = BindLimits::of_recipes(&Recipes::of(&[&text]));
        let name = |text: &str| text.parse::<DriverName>().expect("driver");
        let on_host = |named: &DriverName| name(&named.as_str().replace('-', "_")).into();
        let id = |text: &str| text.parse().ok();
        let (gpu, rubin) = (id("10de:2342"), id("10de:307f"));
        let of = |id, attribute: &Attribute| deadline(attribute, id, &limits, on_host).as_secs();
        let seconds = |attribute: &Attribute| of(gpu, attribute);
        let device = "0009:01:00.0".parse().expect("address");
        let variant = name("nvgrace_gpu_vfio_pci");
        for (attribute, limit) in [
            (Attribute::Bind(variant.clone()), 260),
            (Attribute::Bind(name("nvidia")), 40),
            (Attribute::Probe, 260),
            (Attribute::Barrier(device), 260),
            (Attribute::Unbind(variant), 15),
            (Attribute::Override(device), 15),
            (Attribute::UnbindLock(device), 15),
        ] {
            assert_eq!(seconds(&attribute), limit, "{attribute}");
        }
        // The recipe's entry of this device asks for more.
        for attribute in [
            Attribute::Bind(name("nvgrace_gpu_vfio_pci")),
            Attribute::Barrier(device),
        ] {
            assert_eq!(of(rubin, &attribute), 270, "{attribute}");
        }
        assert_eq!(of(rubin, &Attribute::Override(device)), 15);
    }

    #[test]
    fn wait_message_names_the_object_and_the_limit() {
        let attribute = Attribute::Bind("nvgrace_gpu_vfio_pci".parse().expect("driver"));
        let device = "0009:01:00.0".parse().expect("address");
        let [waited, limit] = [12, 260].map(Duration::from_secs);
        assert_eq!(
            waiting(&attribute, device, waited, limit),
            "waiting for '0009:01:00.0' to become ready on 'nvgrace_gpu_vfio_pci' (12 s of at most 260 s)"
        );
    }
}
