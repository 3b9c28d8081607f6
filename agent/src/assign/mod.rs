//! Gives a domain its devices and takes them back: what libvirt's hook asks for.
//!
//! ```text
//! prepare: verify -> claim: record 'binding' -> devices are free -> bind all -> record 'bound'
//!                                     a failure: put all back -> drop the record
//! release: nobody holds the device -> record 'releasing' -> give all back -> drop the record
//! start of the agent: 'binding', 'degraded' -> put back; 'releasing' -> give back;
//!                     'bound' -> stays while libvirt says that the guest runs, else give back
//! ```
//!
//! Must never ask libvirt, directly or through anything that waits for it.

mod again;
mod ask;
mod bind;
pub mod check;
mod claim;
mod device_state;
mod error;
mod manual;
mod orphan;
mod permit;
mod recover;
mod release;
mod returning;
mod service;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Condvar, Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::config::{Config, ConfigError};
use kernel_glue::host::Host;
use kernel_glue::rebind::Before;
use nix::errno::Errno;
use tracing::warn;

use crate::assignment::Event;
use crate::context::Context;
use crate::host_view::{HostView, Interest};
use crate::libvirt::DomainRef;
use crate::lock::Locks;
use crate::record::{Entry, Held, RecordError, Records};
use crate::service::{Services, Untouched};
use domain::code::Code;
use domain::refusal::Refusal;
use domain::{Definition, Domain, DomainUuid};
use planner::plan::{Plan, Planned};

use again::Again;
use orphan::Orphans;

pub use again::serve as try_again;
pub use bind::SharedKernel;
pub use device_state::{Condition, DeviceState};
pub use error::AssignError;
pub use manual::{Answer, BindOptions, BindOutcome, GroupAnswer, Onlooker, Recovered};
pub use returning::Unwilling;

/// Assigns devices to domains.
pub struct Assigner {
    kernel: Arc<SharedKernel>,
    context: Arc<Context>,
    /// Who has which device.
    records: Records,
    /// What is being done outside of any guest.
    at_work: Mutex<BTreeMap<PciAddress, Condition>>,
    locks: Locks,
    /// Held while the records are searched and a claim is written, never longer; the devices that are
    /// being asked for their regions, which cannot be claimed meanwhile.
    claims: Mutex<BTreeSet<PciAddress>>,
    /// A device has been asked.
    asked: Condvar,
    /// Domains with a device from before the agent started, or with devices that could not be given
    /// back, of which nothing was heard since.
    orphans: Mutex<Orphans>,
    /// What could not be given back.
    again: Again,
    /// What is to be said of devices that are given back, until they are bound again.
    notes: Mutex<BTreeMap<PciAddress, Refusal>>,
    services: Arc<dyn Services>,
    /// Read while devices are bound, written while services are started.
    binding: RwLock<()>,
    /// How long a QEMU that libvirt has ended may still hold its device files.
    let_go: Duration,
}

impl Assigner {
    /// An assigner that goes on where the records stand.
    #[must_use]
    pub fn new(kernel: Arc<SharedKernel>, context: Arc<Context>, records: Records) -> Self {
        let orphans = Mutex::new(Orphans::of(&records));
        Self {
            kernel,
            context,
            records,
            at_work: Mutex::default(),
            locks: Locks::default(),
            claims: Mutex::default(),
            asked: Condvar::new(),
            orphans,
            again: Again::default(),
            notes: Mutex::default(),
            services: Arc::new(Untouched),
            binding: RwLock::default(),
            let_go: Duration::from_secs(10),
        }
    }

    /// The same, that stops and starts services through `services`; otherwise none is touched.
    #[must_use]
    pub fn with_services(self, services: Arc<dyn Services>) -> Self {
        Self { services, ..self }
    }

    /// Before libvirt touches anything: checks the definition and binds its devices.
    ///
    /// # Errors
    /// The start must not go on; the devices are as they were before.
    pub fn prepare(&self, definition: &Definition) -> Result<(), AssignError> {
        let host_view = self.context.look();
        let given = definition.domain();
        self.not_taken(given)?;
        if host_view.interest(given).map_err(AssignError::Refused)? == Interest::None {
            return Ok(());
        }
        let domain = reference(given)?;
        let plan = verify(&host_view, definition)?;
        if let Some(unmet) = plan.unmet {
            return Err(AssignError::Refused(unmet));
        }
        answering(
            host_view.host().map_err(AssignError::Refused)?,
            &plan.devices,
        )?;
        // A module may take its time to load: no other operation on the domain waits for that.
        self.resolve(&plan.devices)?;
        let bind = || {
            self.restore_incomplete(&domain.uuid)?;
            let given: Vec<PciAddress> = given.sources().collect();
            let consent = check::Consent::configured(host_view.rules.config.allow_group);
            let devices = self.whole(&host_view, &given, plan.devices, consent);
            let devices = devices.map_err(AssignError::Refused)?;
            self.claim_free(&host_view, &domain, &devices)?;
            self.bind(&domain, &devices)
        };
        self.locks.with(&domain.uuid, || self.undisturbed(bind))
    }

    /// After libvirt's own device work: each device must be on its planned driver.
    ///
    /// # Errors
    /// Names the first device that is not.
    pub fn start(&self, given: &Domain) -> Result<(), AssignError> {
        let domain = reference(given)?;
        let wanted = match self.records.entry(&domain.uuid)? {
            Some(entry) => entry.devices,
            None => self.covered(given)?,
        };
        for held in &wanted {
            let found = Before::read(&*self.kernel, held.address)?.driver;
            if found.as_ref() != Some(&held.record.target) {
                let found = found.as_ref();
                return Err(error::wrong_driver(
                    held.address,
                    &held.record.target,
                    found,
                ));
            }
        }
        Ok(())
    }

    /// After QEMU is gone: gives the domain's devices back.
    ///
    /// # Errors
    /// Names the devices that could not be given back; they stay journalled, so that this can be
    /// called again.
    pub fn release(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        let released = self.locks.with(domain, || {
            self.heard_of(domain);
            self.release_devices(domain)
        });
        self.start_services();
        released
    }

    /// What domains hold, by the records.
    #[must_use]
    pub fn held(&self) -> Vec<(DomainRef, Entry)> {
        self.records.entries()
    }

    fn bind(&self, domain: &DomainRef, devices: &[Planned]) -> Result<(), AssignError> {
        if devices.is_empty() {
            return Ok(());
        }
        let held = self.claim(domain, devices).inspect_err(|_| {
            self.left_over(&domain.uuid);
        })?;
        let planned = |held: &Held| devices.iter().any(|d| d.address == held.address);
        let (now, others): (Vec<_>, Vec<_>) = held.into_iter().partition(planned);
        if let Err(setback) = bind::bind(&*self.kernel, &now) {
            let error = error::setback(setback.error, &setback.left);
            return Err(self.step_back(domain, others, setback.left, error));
        }
        let kept = self.verify_memory(&now).and_then(|()| {
            let bound = now.iter().filter_map(|held| held.after(&Event::Bound));
            let all = sorted(others.iter().cloned().chain(bound));
            Ok(self.records.set_entry(domain, &all)?)
        });
        kept.map_err(|error| {
            let left = bind::restore_drivers(&*self.kernel, &now, |_| Event::Cancelled);
            self.step_back(domain, others, left, error)
        })
    }

    /// Journals what is left of a bind that did not come about; the first reason counts.
    fn step_back(
        &self,
        domain: &DomainRef,
        others: Vec<Held>,
        left: Vec<Held>,
        reason: AssignError,
    ) -> AssignError {
        let left = sorted(others.into_iter().chain(left));
        if !left.is_empty() {
            self.again.something();
        }
        if let Err(error) = self.keep(domain, left) {
            warn!("{error}");
        }
        reason
    }

    /// Writes what is left of an entry, or removes it when nothing is.
    fn keep(&self, domain: &DomainRef, left: Vec<Held>) -> Result<(), AssignError> {
        if !left.is_empty() {
            self.left_over(&domain.uuid);
        }
        let kept = self.records.set_entry(domain, &left);
        Ok(kept.inspect_err(|_| self.left_over(&domain.uuid))?)
    }

    /// The kernel closes a killed QEMU's files after libvirt has reaped it.
    fn wait_for_qemu(&self, devices: &[Held]) {
        let until = Instant::now() + self.let_go;
        let returned = |held: &&Held| held.record.before.is_some();
        while devices
            .iter()
            .filter(returned)
            .any(|held| !self.is_free(held))
        {
            if Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A device that is gone is free; of one that cannot be looked at nothing is known.
    fn is_free(&self, held: &Held) -> bool {
        match self.kernel.vfio_users(held.address) {
            Ok(users) => users.is_empty(),
            Err(errno) => errno == Errno::ENODEV,
        }
    }

    /// Why not all is known of what is bound; then no device can be called free.
    #[must_use]
    pub fn unread(&self) -> Option<RecordError> {
        self.records.survey().unread
    }
}

/// A device that has fallen off its bus would take a driver with it.
fn answering(host: &Host, devices: &[Planned]) -> Result<(), AssignError> {
    let config = |address| host.devices.get(&address).map(|device| &device.config);
    let dead = Config::Unreadable(ConfigError::AllOnes);
    let silent = devices.iter().find(|d| config(d.address) == Some(&dead));
    match silent {
        Some(device) => Err(error::silent(device.address)),
        None => Ok(()),
    }
}

/// In address order, as an entry has them.
fn sorted(devices: impl Iterator<Item = Held>) -> Vec<Held> {
    let mut devices: Vec<Held> = devices.collect();
    devices.sort_by_key(|held| held.address);
    devices
}

/// A definition that a rewrite would mend is incomplete, any other that fails is refused.
fn verify(host_view: &HostView<'_>, definition: &Definition) -> Result<Plan, AssignError> {
    host_view
        .verify(definition)
        .map_err(|refusal| match host_view.rewrite(definition, false) {
            Ok(_) => AssignError::Incomplete(refusal),
            Err(_) => AssignError::Refused(refusal),
        })
}

/// The names of a domain.
///
/// # Errors
/// When it has no UUID; libvirt's always has one.
pub fn reference(domain: &Domain) -> Result<DomainRef, AssignError> {
    let no_uuid = || {
        let reason = "the domain has no UUID";
        Refusal::new(Code::XmlNoDomain, reason, "give it to libvirt to define")
    };
    Ok(DomainRef {
        uuid: domain
            .uuid
            .clone()
            .ok_or_else(no_uuid)
            .map_err(AssignError::Refused)?,
        name: domain.name.clone(),
    })
}

#[cfg(test)]
mod again_test;
#[cfg(test)]
mod ask_test;
#[cfg(test)]
mod atomics_test;
#[cfg(test)]
mod bad_input_test;
#[cfg(test)]
mod exhaustion_test;
#[cfg(test)]
mod fault_fixture;
#[cfg(test)]
mod fault_test;
#[cfg(test)]
mod parallel_test;
#[cfg(test)]
mod service_test;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod trial_fixture;
#[cfg(test)]
mod writes_test;
