//! Assigns devices to a domain and releases them, as libvirt's hook requests.
//!
//! ```text
//! prepare: verify -> GPU memory is stable -> claim: record 'binding' -> devices are free, GPU memory is removed
//!          -> bind all -> GPU memory and EGM regions are as needed -> record 'bound'
//!                on failure: restore all -> drop the record
//! release: no process holds the device -> record 'releasing' -> release all -> drop the record
//! start of the agent: 'binding', 'degraded' -> restore; 'releasing' -> release;
//!                     'bound' -> keep while libvirt reports the guest as running, else release
//! ```
//!
//! Must never call libvirt, directly or through code that waits for it: libvirt waits for its hook.

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

pub use crate::assignment::OwnerKind;
pub use again::serve as try_again;
pub use bind::SharedKernel;
pub use device_state::{Condition, DeviceState};
pub use error::AssignError;
pub use manual::{Answer, BindOptions, BindOutcome, GroupAnswer, Onlooker, Recovered};
pub use returning::OnRefusal;

/// Assigns devices to domains.
pub struct Assigner {
    kernel: Arc<SharedKernel>,
    context: Arc<Context>,
    /// The domains and their devices.
    records: Records,
    /// Devices that are being changed outside of any guest.
    at_work: Mutex<BTreeMap<PciAddress, Condition>>,
    locks: Locks,
    /// Held while the records are searched and a claim is written, never longer. Contains the devices whose regions are
    /// being queried; they cannot be claimed meanwhile.
    claims: Mutex<BTreeSet<PciAddress>>,
    /// Notified when a region query has ended.
    asked: Condvar,
    /// Domains with a device from before the agent started, or with devices that could not be released, without an
    /// event since.
    orphans: Mutex<Orphans>,
    /// Releases to retry.
    again: Again,
    /// Notes about released devices, until they are bound again.
    notes: Mutex<BTreeMap<PciAddress, Refusal>>,
    services: Arc<dyn Services>,
    /// Read-locked while devices are bound, write-locked while services are started.
    binding: RwLock<()>,
    /// How long a QEMU that libvirt has ended may still hold its device files.
    qemu_timeout: Duration,
    /// How long the EGM regions of bound GPUs may be missing.
    egm_timeout: Duration,
    /// How long the driver may add memory to the host, and how long it may remove it.
    memory_timeout: Duration,
}

impl Assigner {
    /// An assigner that continues from the records.
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
            // libvirt also waits 10 s for QEMU to end after SIGTERM, before it sends SIGKILL (virProcessKillPainfullyDelay).
            qemu_timeout: Duration::from_secs(10),
            egm_timeout: Duration::from_secs(5),
            memory_timeout: check::WAIT,
        }
    }

    /// Stops and starts services through `services`; without this call it touches none.
    #[must_use]
    pub fn with_services(self, services: Arc<dyn Services>) -> Self {
        Self { services, ..self }
    }

    /// Before libvirt's own device work: checks the definition and binds its devices.
    ///
    /// # Errors
    /// The start must be refused; the devices' previous state was restored.
    pub fn prepare(&self, definition: &Definition) -> Result<(), AssignError> {
        let host_view = self.context.look();
        let given = definition.domain();
        // Before the check for recipes: a definition can name a device that another guest holds, though no recipe covers it now.
        self.not_taken(given)?;
        if host_view.interest(given).map_err(AssignError::Refused)? == Interest::None {
            return Ok(());
        }
        let domain = reference(given)?;
        let plan = verify(&host_view, definition)?;
        if let Some(unmet) = plan.unmet {
            return Err(AssignError::Refused(unmet));
        }
        // Up to here the host was only read.
        answering(
            host_view.host().map_err(AssignError::Refused)?,
            &plan.devices,
        )?;
        // A module may take long to load: no other operation on the domain waits for that.
        self.resolve(&plan.devices)?;
        let planned = plan.devices.iter().map(|one| (one.address, &one.driver));
        self.wait_until_stable(planned, &host_view.rules.config.stop_services)?;
        // Under the domain's lock: a second start, a release or a recovery of this domain must not run between claim and record.
        let bind = || {
            self.restore_incomplete(&domain.uuid)?;
            let given: Vec<PciAddress> = given.sources().collect();
            let consent = check::Consent::configured(host_view.rules.config.allow_group);
            let devices = self.whole(&host_view, &given, plan.devices, consent);
            let devices = devices.map_err(AssignError::Refused)?;
            let held = self.claim_free(&host_view, &domain, &devices)?;
            self.bind_claimed(&domain, &devices, held, || self.verify_egm(definition))
        };
        self.locks.with(&domain.uuid, || self.undisturbed(bind))
    }

    /// After libvirt's own device work: each device must be bound to its planned driver.
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

    /// After QEMU has ended: releases the domain's devices.
    ///
    /// # Errors
    /// Names the devices that could not be released; they stay journalled, so that the caller can retry.
    pub fn release(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        let released = self.locks.with(domain, || {
            self.note_event(domain);
            self.release_devices(domain)
        });
        self.start_services();
        released
    }

    /// The devices of domains, by the records.
    #[must_use]
    pub fn held(&self) -> Vec<(DomainRef, Entry)> {
        self.records.entries()
    }

    /// Binds the devices, of all that the domain holds; `accept` is called when all are bound, and its refusal restores them.
    fn bind_claimed(
        &self,
        domain: &DomainRef,
        devices: &[Planned],
        held: Vec<Held>,
        accept: impl FnOnce() -> Result<(), AssignError>,
    ) -> Result<(), AssignError> {
        if devices.is_empty() {
            return Ok(());
        }
        // An entry can have devices of an earlier start that could not be released. They stay in it, and are not bound here.
        let planned = |held: &Held| devices.iter().any(|d| d.address == held.address);
        let (now, others): (Vec<_>, Vec<_>) = held.into_iter().partition(planned);
        if let Err(failed_bind) = bind::bind(&*self.kernel, &self.context.metrics, &now) {
            // `bind` has restored the devices already; what it could not restore stays in the entry for the retry.
            let error = error::failed_bind(failed_bind.error, &failed_bind.left);
            return Err(self.journal_failed_bind(domain, others, failed_bind.left, error));
        }
        let accepted = self.verify_memory(&now).and_then(|()| accept());
        let kept = accepted.and_then(|()| {
            let bound = now.iter().filter_map(|held| held.after(&Event::Bound));
            let all = sorted(others.iter().cloned().chain(bound));
            Ok(self.records.set_entry(domain, &all)?)
        });
        kept.map_err(|error| {
            let left = bind::restore_drivers(&*self.kernel, &now, |_| Event::Cancelled);
            self.journal_failed_bind(domain, others, left, error)
        })
    }

    /// Journals what is left of a failed bind; the first error counts.
    fn journal_failed_bind(
        &self,
        domain: &DomainRef,
        others: Vec<Held>,
        left: Vec<Held>,
        reason: AssignError,
    ) -> AssignError {
        let left = sorted(others.into_iter().chain(left));
        if !left.is_empty() {
            self.again.unfinished();
        }
        if let Err(error) = self.keep(domain, left) {
            warn!("{error}");
        }
        reason
    }

    /// Writes what is left of an entry, or removes it if nothing is left.
    fn keep(&self, domain: &DomainRef, left: Vec<Held>) -> Result<(), AssignError> {
        if !left.is_empty() {
            self.left_over(&domain.uuid);
        }
        let kept = self.records.set_entry(domain, &left);
        Ok(kept.inspect_err(|_| self.left_over(&domain.uuid))?)
    }

    /// The kernel closes a killed QEMU's files after libvirt has reaped it.
    fn wait_for_qemu(&self, devices: &[Held]) {
        // A device without a previous state was adopted in a running guest. It keeps its driver, so nothing waits for its files.
        let returned = devices.iter().filter(|held| held.record.before.is_some());
        let returned: Vec<PciAddress> = returned.map(|held| held.address).collect();
        self.wait_until_closed(&returned);
    }

    /// Waits until no process has the devices open, at most as long as a QEMU may still hold them.
    fn wait_until_closed(&self, devices: &[PciAddress]) {
        let until = Instant::now() + self.qemu_timeout;
        while devices.iter().any(|device| !self.is_free(*device)) {
            if Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// A removed device is free; a device that cannot be read is not known to be free.
    fn is_free(&self, device: PciAddress) -> bool {
        match self.kernel.vfio_users(device) {
            Ok(users) => users.is_empty(),
            // ENODEV: unplugged, so no process can hold it. After any other error the holders are unknown.
            Err(errno) => errno == Errno::ENODEV,
        }
    }

    /// Why the list of bound devices is incomplete. While it is, no device counts as free.
    #[must_use]
    pub fn unread(&self) -> Option<RecordError> {
        self.records.survey().unread
    }
}

/// A bind would block on a device that has fallen off its bus.
fn answering(host: &Host, devices: &[Planned]) -> Result<(), AssignError> {
    let config = |address| host.devices.get(&address).map(|device| &device.config);
    let dead = Config::Unreadable(ConfigError::AllOnes);
    let silent = devices.iter().find(|d| config(d.address) == Some(&dead));
    match silent {
        Some(device) => Err(error::silent(device.address)),
        None => Ok(()),
    }
}

/// Sorted by address, as in an entry.
fn sorted(devices: impl Iterator<Item = Held>) -> Vec<Held> {
    let mut devices: Vec<Held> = devices.collect();
    devices.sort_by_key(|held| held.address);
    devices
}

/// A definition that a rewrite would complete is incomplete; any other that fails is refused.
fn verify(host_view: &HostView<'_>, definition: &Definition) -> Result<Plan, AssignError> {
    host_view
        .verify(definition)
        .map_err(|refusal| match host_view.rewrite(definition, false) {
            Ok(_) => AssignError::Incomplete(refusal),
            Err(_) => AssignError::Refused(refusal),
        })
}

/// The name and UUID of a domain.
///
/// # Errors
/// It has no UUID; libvirt's domains always have one.
pub fn reference(domain: &Domain) -> Result<DomainRef, AssignError> {
    let no_uuid = || {
        let reason = "the domain has no UUID";
        Refusal::new(Code::XmlNoDomain, reason, "define it in libvirt first")
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
