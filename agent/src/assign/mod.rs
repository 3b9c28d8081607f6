//! Gives a domain its devices and takes them back: what libvirt's hook asks for.
//!
//! ```text
//! prepare: verify -> claim and journal -> devices are free -> bind all -> (a failure: put back, drop the entry)
//! release: journal -> nobody holds the device -> restore all -> drop the entry
//! ```
//!
//! Must never ask libvirt, directly or through anything that waits for it.

mod ask;
mod bind;
mod check;
mod claim;
mod error;
mod manual;
mod recover;

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use kernel_glue::address::PciAddress;
use kernel_glue::rebind::Before;

use crate::bound::Bound;
use crate::code::Code;
use crate::domain::{Domain, DomainUuid};
use crate::journal::{Entry, Held, Journal};
use crate::libvirt::DomainRef;
use crate::lock::Locks;
use crate::plan::{Plan, Planned};
use crate::refusal::Refusal;
use crate::site::Site;
use crate::view::{Interest, View};

pub use bind::SharedKernel;
pub use error::AssignError;
pub use manual::{Answer, Recovered, State};

/// Assigns devices to domains.
pub struct Assigner {
    kernel: Arc<SharedKernel>,
    site: Arc<Site>,
    journal: Journal,
    /// What is bound outside of any guest.
    bound: Bound,
    locks: Locks,
    /// Held while the journal is searched and a claim is written, never longer; the devices that are
    /// being asked for their regions, which cannot be claimed meanwhile.
    claims: Mutex<BTreeSet<PciAddress>>,
    /// A device has been asked.
    asked: Condvar,
    /// Entries from before the agent started, whose domains nothing was heard of yet.
    orphans: Mutex<BTreeSet<DomainUuid>>,
    /// How long a QEMU that libvirt has ended may still hold its device files.
    let_go: Duration,
}

impl Assigner {
    /// An assigner that goes on where the journal stands.
    #[must_use]
    pub fn new(kernel: Arc<SharedKernel>, site: Arc<Site>, journal: Journal) -> Self {
        let orphans = journal.all().into_iter().map(|(domain, _)| domain.uuid);
        let orphans = Mutex::new(orphans.collect());
        let bound = Bound::new(journal.beside("bound"));
        Self {
            kernel,
            site,
            journal,
            bound,
            locks: Locks::default(),
            claims: Mutex::default(),
            asked: Condvar::new(),
            orphans,
            let_go: Duration::from_secs(10),
        }
    }

    /// Before libvirt touches anything: checks the definition and binds its devices.
    ///
    /// # Errors
    /// The start must not go on; the devices are as they were before.
    pub fn prepare(&self, xml: &str) -> Result<(), AssignError> {
        let view = self.site.look();
        if view.interest(xml).map_err(AssignError::Refused)? == Interest::None {
            return Ok(());
        }
        let domain = reference(xml)?;
        let plan = verify(&view, xml)?;
        self.locks.with(&domain.uuid, || {
            self.heard_of(&domain.uuid);
            let given = check::sources(xml)?;
            let devices = self.whole(&view, &given, plan.devices);
            let devices = devices.map_err(AssignError::Refused)?;
            self.claim_free(&view, &domain, &devices)?;
            self.bind(&domain, &devices)
        })
    }

    /// After libvirt's own device work: each device must be on its planned driver.
    ///
    /// # Errors
    /// Names the first device that is not.
    pub fn start(&self, xml: &str) -> Result<(), AssignError> {
        let domain = reference(xml)?;
        let wanted = match self.journal.read(&domain.uuid)? {
            Some(entry) => entry.devices,
            None => self.covered(xml)?,
        };
        for held in &wanted {
            let found = Before::read(&*self.kernel, held.address)?.driver;
            if found.as_ref() != Some(&held.driver) {
                let found = found.as_ref();
                return Err(error::wrong_driver(held.address, &held.driver, found));
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
        self.locks.with(domain, || {
            self.heard_of(domain);
            self.give_back(domain)
        })
    }

    /// What domains hold, by the journal.
    #[must_use]
    pub fn held(&self) -> Vec<(DomainRef, Entry)> {
        self.journal.all()
    }

    fn bind(&self, domain: &DomainRef, devices: &[Planned]) -> Result<(), AssignError> {
        if devices.is_empty() {
            return Ok(());
        }
        let entry = self.claim(domain, devices)?;
        let planned = |held: &&Held| devices.iter().any(|d| d.address == held.address);
        let now: Vec<Held> = entry.devices.iter().filter(planned).cloned().collect();
        let Err(setback) = bind::bind(&*self.kernel, &now) else {
            return Ok(());
        };
        let undone = |held: &Held| !now.contains(held) || setback.stuck.contains(held);
        let left: Vec<Held> = entry.devices.into_iter().filter(undone).collect();
        if !left.is_empty() {
            self.orphans().insert(domain.uuid.clone());
        }
        self.keep(domain, left)?;
        Err(setback.error.into())
    }

    fn give_back(&self, domain: &DomainUuid) -> Result<(), AssignError> {
        let Some(entry) = self.journal.read(domain)? else {
            return Ok(());
        };
        self.wait_for_qemu(&entry);
        let kept = bind::give_back(&*self.kernel, &entry.devices);
        let left = kept.iter().map(|(held, _)| held.clone()).collect();
        let uuid = domain.clone();
        let name = entry.name;
        self.keep(&DomainRef { uuid, name }, left)?;
        match kept.into_iter().next() {
            Some((_, error)) => {
                self.orphans().insert(domain.clone());
                Err(error.into())
            }
            None => Ok(()),
        }
    }

    /// Writes what is left of an entry, or removes it when nothing is.
    fn keep(&self, domain: &DomainRef, left: Vec<Held>) -> Result<(), AssignError> {
        if left.is_empty() {
            return Ok(self.journal.remove(&domain.uuid)?);
        }
        let entry = Entry::new(domain, left);
        Ok(self.journal.write(&domain.uuid, &entry)?)
    }

    /// The kernel closes a killed QEMU's files after libvirt has reaped it.
    fn wait_for_qemu(&self, entry: &Entry) {
        let until = Instant::now() + self.let_go;
        let users = |held: &Held| self.kernel.vfio_users(held.address).unwrap_or_default();
        let returned = |held: &&Held| held.before.is_some();
        while entry
            .devices
            .iter()
            .filter(returned)
            .any(|h| !users(h).is_empty())
        {
            if Instant::now() > until {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
    }

    /// Takes the domain off the list of those nothing was heard of; true when it was on it.
    fn heard_of(&self, domain: &DomainUuid) -> bool {
        self.orphans().remove(domain)
    }

    fn orphans(&self) -> MutexGuard<'_, BTreeSet<DomainUuid>> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A definition that a rewrite would mend is incomplete, any other that fails is refused.
fn verify(view: &View<'_>, xml: &str) -> Result<Plan, AssignError> {
    view.verify(xml)
        .map_err(|refusal| match view.rewrite(xml, false) {
            Ok(_) => AssignError::Incomplete(refusal),
            Err(_) => AssignError::Refused(refusal),
        })
}

/// The names in a domain's XML.
///
/// # Errors
/// When the text is no domain or has no UUID; libvirt's always has one.
pub fn reference(xml: &str) -> Result<DomainRef, AssignError> {
    let domain = Domain::parse(xml).map_err(AssignError::Refused)?;
    let no_uuid = || {
        let reason = "the domain has no UUID";
        Refusal::new(Code::XmlNoDomain, reason, "give it to libvirt to define")
    };
    Ok(DomainRef {
        uuid: domain
            .uuid
            .ok_or_else(no_uuid)
            .map_err(AssignError::Refused)?,
        name: domain.name,
    })
}

#[cfg(test)]
mod ask_test;
#[cfg(test)]
mod tests;
