//! A machine whose writes, to the kernel and of records, fail, hang or end the agent at a chosen point.
//!
//! Every write and every load of a module is a fault point, counted over all agents that run on the machine in turn; on
//! request every read is one, too. An agent that has ended continues in the test without any effect.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::holder::{HeldNode, Holder};
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;
use kernel_glue::occupancy::Occupancy;
use kernel_glue::region::{RegionError, Regions};
use nix::errno::Errno;

use crate::record::{Files, Storage};
use crate::service::{Action, ServiceError, ServiceName, Services};

/// The service of the machine.
pub(super) const SERVICE: &str = "nvidia-persistenced.service";

/// The fault at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// The operation fails without effect.
    Fails,
    /// The operation has its effect, and returns an error.
    FailsLate,
    /// The write blocks past its deadline, and has no effect when it ends.
    Hangs,
    /// The write blocks past its deadline, and has its effect when it ends.
    HangsLate,
    /// The agent ends before the operation.
    DiesBefore,
    /// The agent ends after the operation.
    DiesAfter,
    /// The device is removed.
    Vanishes,
    /// The kernel or the file system denies the permission.
    Denied,
    /// The file system is read-only.
    ReadOnly,
    /// A write or a read fails with this errno, without effect.
    Errno(Errno),
}

/// The faults that do not change the machine.
pub(super) const FAULTS: [Fault; 6] = [
    Fault::Fails,
    Fault::FailsLate,
    Fault::Hangs,
    Fault::HangsLate,
    Fault::DiesBefore,
    Fault::DiesAfter,
];

/// The state that outlives an agent.
#[derive(Debug)]
pub(super) struct Machine {
    pub(super) model: Model,
    script: Mutex<Script>,
    /// The device that the service holds while it runs, and whether it runs.
    service: Mutex<Option<(PciAddress, bool)>>,
}

#[derive(Debug, Default)]
struct Script {
    point: usize,
    faults: BTreeMap<usize, Fault>,
    /// Reads are fault points, too.
    reads: bool,
    healthy: bool,
    /// The write that holds each device's lock, and whether it will have an effect.
    stuck: BTreeMap<PciAddress, (Attribute, String, bool)>,
}

/// One run of the agent: its kernel and its storage.
#[derive(Clone, Debug)]
pub(super) struct Life {
    machine: Arc<Machine>,
    dead: Arc<AtomicBool>,
}

impl Machine {
    pub(super) fn new(model: Model, faults: &[(usize, Fault)]) -> Arc<Self> {
        let script = Script {
            faults: faults.iter().copied().collect(),
            ..Script::default()
        };
        Arc::new(Self {
            model,
            script: Mutex::new(script),
            service: Mutex::default(),
        })
    }

    /// Makes reads fault points, too.
    pub(super) fn count_reads(&self) {
        self.script().reads = true;
    }

    pub(super) fn life(self: &Arc<Self>) -> Life {
        Life {
            machine: self.clone(),
            dead: Arc::default(),
        }
    }

    /// Starts a service that holds `device`.
    pub(super) fn serve(&self, device: PciAddress) {
        *self.service.lock().expect("service") = Some((device, false));
        self.run_service(true);
    }

    /// False if the service does not run.
    pub(super) fn is_served(&self) -> bool {
        self.service
            .lock()
            .expect("service")
            .is_none_or(|(_, runs)| runs)
    }

    fn run_service(&self, runs: bool) {
        let mut service = self.service.lock().expect("service");
        let Some((device, running)) = service.as_mut() else {
            return;
        };
        *running = runs;
        let mut occupancy = Occupancy::default();
        occupancy.holders.found.extend(runs.then(daemon));
        self.model.set_occupancy(*device, occupancy);
    }

    /// Number of faults that have not occurred.
    pub(super) fn ahead(&self) -> usize {
        self.script().faults.len()
    }

    /// Number of points passed.
    pub(super) fn point(&self) -> usize {
        self.script().point
    }

    /// Ends every stuck write; nothing fails from now on.
    pub(super) fn heal(&self) {
        self.script().healthy = true;
        self.end_stuck_writes();
    }

    /// Ends every stuck write.
    pub(super) fn end_stuck_writes(&self) {
        for (_, (attribute, value, late)) in std::mem::take(&mut self.script().stuck) {
            if late {
                let _ = self.model.write(&attribute, &value);
            }
        }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().expect("no test panics with it")
    }

    fn next(&self) -> Option<Fault> {
        let mut script = self.script();
        if script.healthy {
            return None;
        }
        script.point += 1;
        let point = script.point;
        script.faults.remove(&point)
    }
}

impl Life {
    pub(super) fn is_over(&self) -> bool {
        self.dead.load(Ordering::SeqCst)
    }

    /// Does `work` at the next point, with its fault.
    fn at_point(
        &self,
        work: impl FnOnce() -> Result<(), Errno>,
        other: impl FnOnce(Fault),
    ) -> Result<(), Errno> {
        if self.is_over() {
            return Err(Errno::EINTR);
        }
        let die = || {
            self.dead.store(true, Ordering::SeqCst);
            Err(Errno::EINTR)
        };
        match self.machine.next() {
            None => work(),
            Some(Fault::Errno(errno)) => Err(errno),
            Some(Fault::Fails) => Err(Errno::ENOSPC),
            Some(Fault::FailsLate) => work().and(Err(Errno::EIO)),
            Some(Fault::Denied) => Err(Errno::EACCES),
            Some(Fault::ReadOnly) => Err(Errno::EROFS),
            Some(fault @ (Fault::Hangs | Fault::HangsLate)) => {
                other(fault);
                Err(Errno::ETIMEDOUT)
            }
            Some(Fault::Vanishes) => {
                other(Fault::Vanishes);
                Err(Errno::ENODEV)
            }
            Some(Fault::DiesBefore) => die(),
            Some(Fault::DiesAfter) => {
                let _ = work();
                die()
            }
        }
    }
}

impl Life {
    /// Reads, unless the next point fails.
    fn reading<T>(&self, read: impl FnOnce() -> Result<T, Errno>) -> Result<T, Errno> {
        if self.machine.script().reads {
            self.at_point(|| Ok(()), |_| {})?;
        }
        read()
    }
}

impl Kernel for Life {
    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        let device = match attribute {
            Attribute::Override(device)
            | Attribute::UnbindLock(device)
            | Attribute::Barrier(device) => *device,
            _ => value.parse().expect("an address"),
        };
        let machine = &self.machine;
        if machine.script().stuck.contains_key(&device) {
            return Err(Errno::ETIMEDOUT);
        }
        let other = |fault| {
            if fault == Fault::Vanishes {
                return machine.model.remove_device(device);
            }
            let write = (
                attribute.clone(),
                value.to_owned(),
                fault == Fault::HangsLate,
            );
            machine.script().stuck.insert(device, write);
        };
        self.at_point(|| machine.model.write(attribute, value), other)
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        self.at_point(|| self.machine.model.load_module(module), |_| {})
    }

    fn driver(&self, device: PciAddress) -> Result<Option<DriverName>, Errno> {
        self.reading(|| self.machine.model.driver(device))
    }

    fn driver_override(&self, device: PciAddress) -> Result<Option<String>, Errno> {
        self.reading(|| self.machine.model.driver_override(device))
    }

    fn registered(&self, name: &str) -> Result<Option<DriverName>, Errno> {
        self.reading(|| self.machine.model.registered(name))
    }

    fn vfio_users(&self, device: PciAddress) -> Result<Vec<u32>, Errno> {
        self.reading(|| self.machine.model.vfio_users(device))
    }

    fn regions(&self, device: PciAddress) -> Result<Regions, RegionError> {
        self.machine.model.regions(device)
    }

    fn occupancy(&self, device: PciAddress) -> Result<Occupancy, Errno> {
        self.reading(|| self.machine.model.occupancy(device))
    }

    fn unbind_lock(&self, device: PciAddress) -> Result<Option<bool>, Errno> {
        self.reading(|| self.machine.model.unbind_lock(device))
    }

    fn is_unconfined(&self, device: PciAddress) -> Result<bool, Errno> {
        self.reading(|| self.machine.model.is_unconfined(device))
    }

    fn lists(&self, device: PciAddress, driver: &DriverName) -> Result<bool, Errno> {
        self.reading(|| self.machine.model.lists(device, driver))
    }
}

impl Services for Life {
    fn dependents(&self, _: &ServiceName) -> Result<Vec<String>, ServiceError> {
        Ok(Vec::new())
    }

    fn stop(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        self.set_service(false, Action::Stop, unit)
    }

    fn start(&self, unit: &ServiceName) -> Result<(), ServiceError> {
        self.set_service(true, Action::Start, unit)
    }
}

impl Life {
    fn set_service(
        &self,
        runs: bool,
        action: Action,
        unit: &ServiceName,
    ) -> Result<(), ServiceError> {
        let set = || {
            self.machine.run_service(runs);
            Ok(())
        };
        let failed = |errno: Errno| ServiceError::Failed {
            action,
            unit: unit.to_string(),
            why: errno.to_string(),
        };
        self.at_point(set, |_| {}).map_err(failed)
    }
}

/// The service's process.
fn daemon() -> Holder {
    let node = HeldNode {
        path: "/dev/nvidia0".into(),
        descriptor: Some(4),
        shared: false,
    };
    Holder {
        process: 2211,
        command: "nvidia-persistenced".into(),
        unit: Some(SERVICE.into()),
        nodes: vec![node],
    }
}

impl Storage for Life {
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        self.reading(|| Ok(()))?;
        Files.read(path, limit)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        self.reading(|| Ok(()))?;
        Files.list(directory)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        let write = || {
            fs::create_dir_all(path.parent().expect("a directory"))?;
            let beside = path.with_extension("new");
            fs::write(&beside, text)?;
            fs::rename(&beside, path)
        };
        let result = self.at_point(|| write().map_err(|_| Errno::EIO), |_| {});
        result.map_err(io::Error::from)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let remove = || match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Errno::EIO),
            _ => Ok(()),
        };
        self.at_point(remove, |_| {}).map_err(io::Error::from)
    }
}
