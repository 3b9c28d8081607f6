//! Domains that have an entry of which nothing was heard: left by an agent that ended, or by a release that failed.
//!
//! While a record cannot be read, its domain may be one of them: so the list is made again until all could be read.

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
    /// Not all records could be read yet; the domains that were heard of since the agent started.
    unlisted: Option<BTreeSet<DomainUuid>>,
}

impl Orphans {
    /// Those that the records name.
    pub(super) fn of(records: &Records) -> Self {
        let mut orphans = Self {
            domains: BTreeSet::new(),
            unlisted: Some(BTreeSet::new()),
        };
        orphans.list(records);
        orphans
    }

    /// Lists the records, if that has not been possible yet.
    fn list(&mut self, records: &Records) {
        let Some(heard) = &self.unlisted else {
            return;
        };
        let (domains, unread) = records.domains();
        let unheard = domains.into_iter().filter(|domain| !heard.contains(domain));
        self.domains.extend(unheard);
        match unread {
            None => self.unlisted = None,
            Some(why) => warn!("what earlier guests hold is not known yet: {why}"),
        }
    }

    pub(super) fn contains(&self, domain: &DomainUuid) -> bool {
        self.domains.contains(domain)
    }

    /// Adds a domain; true when it was not among them.
    pub(super) fn insert(&mut self, domain: &DomainUuid) -> bool {
        self.domains.insert(domain.clone())
    }

    /// Takes a domain off; true when it was, or may have been, among them.
    fn remove(&mut self, domain: &DomainUuid) -> bool {
        let unheard = self.unlisted.as_mut();
        let unheard = unheard.is_some_and(|heard| heard.insert(domain.clone()));
        self.domains.remove(domain) || unheard
    }
}

impl Assigner {
    /// Puts the domain on the list of those whose devices are still to be given back.
    pub(super) fn left_over(&self, domain: &DomainUuid) {
        self.orphans().insert(domain);
    }

    /// Takes the domain off the list of those nothing was heard of; true when it was on it.
    pub(super) fn heard_of(&self, domain: &DomainUuid) -> bool {
        self.orphans().remove(domain)
    }

    /// The domains of which nothing was heard.
    pub(super) fn unheard(&self) -> BTreeSet<DomainUuid> {
        let mut orphans = self.orphans();
        orphans.list(&self.records);
        if orphans.unlisted.is_some() {
            self.again.something();
        }
        orphans.domains.clone()
    }

    /// Whether all domains with an entry from before are known.
    pub(super) fn has_listed(&self) -> bool {
        self.orphans().unlisted.is_none()
    }

    pub(super) fn orphans(&self) -> MutexGuard<'_, Orphans> {
        self.orphans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
