//! The devices of a domain are bound and restored in parallel: each waits up to 30 s for its link and memory.

use std::sync::{Barrier, Condvar};

use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::kernel::{Attribute, Kernel};
use kernel_glue::model::Model;
use nix::errno::Errno;

use super::trial_fixture::*;
use super::*;
use crate::fixture::{GPU, VARIANT, address, as_the_model, context, definition, driver, guest};
use settings::config::Config;

/// Longer than any machine needs to start four threads; only a failure waits for it.
const GIVE_UP: Duration = Duration::from_secs(20);

/// A kernel on which the probe of a driver ends only after it has begun on all devices of a domain.
struct Rendezvous {
    model: Model,
    probed: DriverName,
    devices: usize,
    /// A device that the VFIO driver does not accept; the others do not wait for it.
    failing: Option<PciAddress>,
    arrived: Mutex<usize>,
    all: Condvar,
    /// Where a module waits: when it begins to load, and before it has loaded.
    loading: Option<[Barrier; 2]>,
}

impl Rendezvous {
    fn new(plan: &[Line], probed: &str, failing: Option<&str>) -> Arc<Self> {
        Arc::new(Self {
            model: model(plan),
            probed: driver(probed),
            devices: plan.len() - usize::from(failing.is_some()),
            failing: failing.map(address),
            arrived: Mutex::default(),
            all: Condvar::new(),
            loading: None,
        })
    }

    fn meet(&self) -> Result<(), Errno> {
        let mut arrived = self.arrived.lock().expect("lock");
        *arrived += 1;
        self.all.notify_all();
        let missing = |arrived: &mut usize| *arrived < self.devices;
        let waited = self.all.wait_timeout_while(arrived, GIVE_UP, missing);
        match waited.expect("lock").1.timed_out() {
            true => Err(Errno::ETIME),
            false => Ok(()),
        }
    }
}

impl Kernel for Rendezvous {
    as_the_model! { driver driver_override registered vfio_users regions occupancy unbind_lock }

    fn write(&self, attribute: &Attribute, value: &str) -> Result<(), Errno> {
        let failing = self.failing.map(|device| device.to_string());
        let alone = failing.as_deref() == Some(value);
        match attribute {
            Attribute::Bind(to) if alone && *to == driver(VARIANT) => return Err(Errno::ETIME),
            Attribute::Bind(to) if !alone && *to == self.probed => self.meet()?,
            _ => {}
        }
        self.model.write(attribute, value)
    }

    fn load_module(&self, module: &str) -> Result<(), Errno> {
        if let Some(stops) = &self.loading {
            for stop in stops {
                stop.wait();
            }
        }
        self.model.load_module(module)
    }
}

fn state(kernel: &Rendezvous, line: &Line) -> Before {
    Before::read(kernel, address(line.0)).expect("state")
}

fn assigner(kernel: &Arc<Rendezvous>) -> (tempfile::TempDir, Assigner) {
    let (directory, context) = context(Config::default());
    let records = Records::new(directory.path().to_owned());
    (directory, Assigner::new(kernel.clone(), context, records))
}

#[test]
fn four_devices_are_probed_at_once() {
    let kernel = Rendezvous::new(FOUR, VARIANT, None);
    let (_directory, assigner) = assigner(&kernel);
    assigner
        .bind(&domain(), &planned(FOUR), || Ok(()))
        .expect("all bound");
    for line in FOUR {
        assert_eq!(state(&kernel, line).driver, Some(driver(VARIANT)));
    }
}

/// Four GPUs bound to the host's driver, to check that it is restored.
const BUSY: &[Line] = &[
    ("0009:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT),
    ("0019:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT),
    ("0029:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT),
    ("0039:01:00.0", "10de:2342", Some("nvidia"), None, VARIANT),
];

#[test]
fn a_module_that_takes_its_time_keeps_no_lock_that_others_need() {
    let one = &FOUR[..1];
    let mut kernel = Rendezvous::new(one, "nvidia", None);
    let stops = [Barrier::new(2), Barrier::new(2)];
    Arc::get_mut(&mut kernel)
        .expect("no other reference")
        .loading = Some(stops);
    let (_directory, assigner) = assigner(&kernel);
    let [begun, go_on] = kernel.loading.as_ref().expect("stops");
    thread::scope(|scope| {
        let bind = scope.spawn(|| assigner.bind(&domain(), &planned(one), || Ok(())));
        begun.wait();
        assigner.answers();
        assert!(assigner.device_states().is_empty());
        go_on.wait();
        bind.join().expect("joined").expect("bound");
    });
}

#[test]
fn a_module_that_takes_its_time_does_not_keep_its_domain_locked() {
    let (_directory, good) = context(Config::default());
    let complete = good.look().rewrite(&definition(&guest(GPU)), false);
    let complete = complete.expect("a complete guest").text;
    let mut kernel = Rendezvous::new(&FOUR[..1], "nvidia", None);
    let stops = [Barrier::new(2), Barrier::new(2)];
    let alone = Arc::get_mut(&mut kernel);
    alone.expect("no other reference").loading = Some(stops);
    let (_directory, assigner) = assigner(&kernel);
    let [begun, go_on] = kernel.loading.as_ref().expect("stops");
    thread::scope(|scope| {
        let start = scope.spawn(|| assigner.prepare(&definition(&complete)));
        begun.wait();
        assigner
            .release(&domain().uuid)
            .expect("it is not waited for");
        go_on.wait();
        start.join().expect("joined").expect("bound");
    });
}

#[test]
fn four_devices_are_released_in_parallel() {
    let kernel = Rendezvous::new(BUSY, "nvidia", None);
    let (_directory, assigner) = assigner(&kernel);
    assigner
        .bind(&domain(), &planned(BUSY), || Ok(()))
        .expect("all bound");
    assigner.release(&domain().uuid).expect("all released");
    for line in BUSY {
        assert_eq!(state(&kernel, line), before(line));
    }
}

#[test]
fn failed_bind_of_one_of_four_devices_restores_all() {
    let kernel = Rendezvous::new(BUSY, "nvidia", Some(BUSY[2].0));
    let (_directory, assigner) = assigner(&kernel);
    let error = assigner
        .bind(&domain(), &planned(BUSY), || Ok(()))
        .expect_err("one fails");
    assert!(error.to_string().contains(BUSY[2].0), "{error}");
    for line in BUSY {
        assert_eq!(state(&kernel, line), before(line));
    }
    assert!(assigner.held().is_empty());
}
