//! Domains whose preparation somebody took back: they wait for a request until somebody asks again.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use crate::domain::DomainUuid;
use crate::file;

/// The domains, kept over a restart: one UUID a line.
#[derive(Debug)]
pub struct Declined {
    path: PathBuf,
    domains: Mutex<BTreeSet<DomainUuid>>,
}

impl Declined {
    /// Starts with what `path` holds; nothing when there is no such file.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let text = file::read(&path).unwrap_or_default();
        let domains = text.lines().filter_map(|line| line.parse().ok()).collect();
        Self {
            path,
            domains: Mutex::new(domains),
        }
    }

    /// True when the domain waits for a request.
    #[must_use]
    pub fn has(&self, domain: &DomainUuid) -> bool {
        self.domains().contains(domain)
    }

    /// From now on the domain waits for a request.
    pub fn insert(&self, domain: &DomainUuid) {
        let mut domains = self.domains();
        if domains.insert(domain.clone()) {
            self.keep(&domains);
        }
    }

    /// Somebody asked, or the domain is gone.
    pub fn remove(&self, domain: &DomainUuid) {
        let mut domains = self.domains();
        if domains.remove(domain) {
            self.keep(&domains);
        }
    }

    fn keep(&self, domains: &BTreeSet<DomainUuid>) {
        let text: String = domains.iter().map(|domain| format!("{domain}\n")).collect();
        if let Err(error) = file::replace(&self.path, &text, 0o644) {
            warn!("cannot write '{}': {error}", self.path.display());
        }
    }

    fn domains(&self) -> MutexGuard<'_, BTreeSet<DomainUuid>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_declined_survives_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("declined");
        let domain = "aaaaaaaa-2222-3333-4444-555555555555"
            .parse()
            .expect("uuid");
        Declined::load(path.clone()).insert(&domain);
        let again = Declined::load(path.clone());
        assert!(again.has(&domain));
        again.remove(&domain);
        assert!(!Declined::load(path).has(&domain));
    }
}
