//! Domains that have an entry and no event since: left by an agent that ended, or by a failed release.
//!
//! While a record cannot be read, its domain may be one of them, so the list is built again until all records could be
//! read.

use std::collections::BTreeSet;
use std::sync::{MutexGuard, PoisonError};

use tracing::warn;

use super::Assigner;
use crate::record::Records;
use domain::DomainUuid;

/// The domains, as far as they are known.
#[derive(Debug, Default)]
pub(super) struct Orphans {
    domains: BTreeSet<DomainUuid>,
    /// Set while not all records could be read; contains the domains with an event since the agent started.
    unlisted: Option<BTreeSet<DomainUuid>>,
}

impl Orphans {
    /// The domains that the records name.
    pub(super) fn of(records: &Records) -> Self {
        let mut orphans = Self {
            domains: BTreeSet::new(),
            unlisted: Some(BTreeSet::new()),
        };
        orphans.list(records);
        orphans
    }

    /// Reads the records, if that was not possible before.
    fn list(&mut self, records: &Records) {
        let Some(heard) = &self.unlisted else {
            return;
        };
        let (domains, unread) = records.domains();
        let without_event = domains.into_iter().filter(|domain| !heard.contains(domain));
        self.domains.extend(without_event);
        match unread {
            None => self.unlisted = None,
            Some(why) => warn!("cannot read yet which devices earlier guests hold: {why}"),
        }
    }

    pub(super) fn contains(&self, domain: &DomainUuid) -> bool {
        self.domains.contains(domain)
    }

    /// Adds a domain; true if it was not in the list.
    pub(super) fn insert(&mut self, domain: &DomainUuid) -> bool {
        self.domains.insert(domain.clone())
    }

    /// Removes a domain; true if it was, or may have been, in the list.
    fn remove(&mut self, domain: &DomainUuid) -> bool {
        let without_event = self.unlisted.as_mut();
        let without_event = without_event.is_some_and(|heard| heard.insert(domain.clone()));
        self.domains.remove(domain) || without_event
    }
}

impl Assigner {
    /// Adds the domain to those whose devices must still be released.
    pub(super) fn left_over(&self, domain: &DomainUuid) {
        self.orphans().insert(domain);
    }

    /// Removes the domain from the list after an event; true if it was in the list.
    pub(super) fn note_event(&self, domain: &DomainUuid) -> bool {
        self.orphans().remove(domain)
    }

    /// The domains without an event.
    pub(super) fn without_event(&self) -> BTreeSet<DomainUuid> {
        let mut orphans = self.orphans();
        orphans.list(&self.records);
        if orphans.unlisted.is_some() {
            self.again.unfinished();
        }
        orphans.domains.clone()
    }

    /// Whether all domains with an earlier entry are known.
    pub(super) fn has_listed(&self) -> bool {
        self.orphans().unlisted.is_none()
    }

    pub(super) fn orphans(&self) -> MutexGuard<'_, Orphans> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
