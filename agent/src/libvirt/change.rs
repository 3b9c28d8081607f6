//! Changes of definitions as libvirt's events report them, in order, for the watched domains.
//!
//! libvirt has no compare-and-swap: only the events show whether another client changed a definition while the agent
//! wrote it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::DomainUuid;

/// Maximum number of changes that a watch stores.
const LIMIT: usize = 256;

/// One change of a definition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It was created or changed.
    Defined,
    /// It was removed.
    Undefined,
}

/// The changes of the watched definitions.
#[derive(Debug, Default)]
pub struct Changes {
    watched: Mutex<BTreeMap<DomainUuid, Log>>,
    noted: Condvar,
}

#[derive(Debug, Default)]
struct Log {
    seen: Vec<Change>,
    /// The agent's call has returned.
    over: bool,
}

/// Watches the changes of one definition until it is dropped. One at a time for each domain.
#[derive(Debug)]
pub struct Watch<'a> {
    changes: &'a Changes,
    domain: DomainUuid,
}

impl Changes {
    /// Starts to store the changes of a definition.
    #[must_use]
    pub fn watch(&self, domain: &DomainUuid) -> Watch<'_> {
        self.watched().insert(domain.clone(), Log::default());
        Watch {
            changes: self,
            domain: domain.clone(),
        }
    }

    /// libvirt has reported a change.
    pub fn note(&self, domain: &DomainUuid, change: Change) {
        if let Some(log) = self.watched().get_mut(domain)
            // More changes than that are answered as "kept changing" long before.
            && log.seen.len() < LIMIT
        {
            log.seen.push(change);
        }
        self.noted.notify_all();
    }

    fn watched(&self) -> MutexGuard<'_, BTreeMap<DomainUuid, Log>> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch<'_> {
    /// The changes so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Change> {
        let watched = self.changes.watched();
        watched
            .get(&self.domain)
            .map_or(Vec::new(), |log| log.seen.clone())
    }

    /// Waits until `wanted` accepts the changes, up to a time limit; returns the changes.
    #[must_use]
    pub fn until(&self, such: impl Fn(&[Change]) -> bool, limit: Duration) -> Vec<Change> {
        self.wait(limit, |log| !such(&log.seen));
        self.seen()
    }

    /// Waits until there are more than `count` changes, or [`Self::end`]; true if there are.
    #[must_use]
    pub fn before_end(&self, count: usize, limit: Duration) -> bool {
        self.wait(limit, |log| log.seen.len() <= count && !log.over);
        self.seen().len() > count
    }

    /// Wakes the thread in [`Self::before_end`].
    pub fn end(&self) {
        if let Some(log) = self.changes.watched().get_mut(&self.domain) {
            log.over = true;
        }
        self.changes.noted.notify_all();
    }

    fn wait(&self, limit: Duration, waits: impl Fn(&Log) -> bool) {
        let watched = self.changes.watched();
        let waits =
            |watched: &mut BTreeMap<DomainUuid, Log>| watched.get(&self.domain).is_some_and(&waits);
        drop(self.changes.noted.wait_timeout_while(watched, limit, waits));
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.changes.watched().remove(&self.domain);
    }
}
