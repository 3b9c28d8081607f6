//! Domains whose preparation was reverted: the agent does not complete them until a request.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tracing::warn;

use domain::DomainUuid;
use settings::file;

/// The domains, kept over a restart: one UUID a line.
///
/// If the file exists and cannot be read, it is read again at the next query, and not overwritten before.
#[derive(Debug)]
pub struct OptedOut {
    path: PathBuf,
    domains: Mutex<Domains>,
}

#[derive(Debug, Default)]
struct Domains {
    known: BTreeSet<DomainUuid>,
    /// The whole file has been read.
    loaded: bool,
}

impl OptedOut {
    /// Loads the content of `path`; empty if there is no such file.
    #[must_use]
    pub fn load(path: PathBuf) -> Self {
        let opted_out = Self {
            path,
            domains: Mutex::default(),
        };
        drop(opted_out.domains());
        opted_out
    }

    /// True if the domain has opted out, or that cannot be read.
    #[must_use]
    pub fn has(&self, domain: &DomainUuid) -> bool {
        let domains = self.domains();
        // Unknown counts as opted out: completing a reverted domain would undo what an administrator did.
        !domains.loaded || domains.known.contains(domain)
    }

    /// Opts the domain out.
    pub fn insert(&self, domain: &DomainUuid) {
        let mut domains = self.domains();
        if domains.known.insert(domain.clone()) {
            self.keep(&domains);
        }
    }

    /// A request came, or the domain was removed.
    pub fn remove(&self, domain: &DomainUuid) {
        let mut domains = self.domains();
        if domains.known.remove(domain) {
            self.keep(&domains);
        }
    }

    fn keep(&self, domains: &Domains) {
        if !domains.loaded {
            return;
        }
        let lines = domains.known.iter().map(|domain| format!("{domain}\n"));
        let text: String = lines.collect();
        if let Err(error) = file::replace(&self.path, &text, 0o644) {
            warn!("cannot write '{}': {error}", self.path.display());
        }
    }

    /// An agent that was killed may have left the file without its last sync, and a request that changes nothing does not write it.
    fn settle(&self) {
        if let Err(error) = file::settle(&self.path) {
            warn!("cannot sync '{}': {error}", self.path.display());
        }
    }

    fn domains(&self) -> MutexGuard<'_, Domains> {
        let mut domains = self.domains.lock().unwrap_or_else(PoisonError::into_inner);
        if domains.loaded {
            return domains;
        }
        match file::read(&self.path) {
            Ok(text) => {
                self.settle();
                let read = text.lines().filter_map(|line| line.parse().ok());
                // Otherwise domains were added while the file could not be read, and are written now.
                let is_first = domains.known.is_empty();
                domains.known.extend(read);
                domains.loaded = true;
                if !is_first {
                    self.keep(&domains);
                }
            }
            Err(why) if why.kind() == io::ErrorKind::NotFound => domains.loaded = true,
            Err(why) => warn!(
                "cannot read '{}', so domains are only completed by 'variantctl prepare': {why}",
                self.path.display()
            ),
        }
        domains
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opt_out_survives_a_restart() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("declined");
        let domain = "aaaaaaaa-2222-3333-4444-555555555555"
            .parse()
            .expect("uuid");
        OptedOut::load(path.clone()).insert(&domain);
        let again = OptedOut::load(path.clone());
        assert!(again.has(&domain));
        again.remove(&domain);
        assert!(!OptedOut::load(path).has(&domain));
    }

    #[test]
    fn unreadable_opt_outs_are_read_later_and_not_overwritten() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("declined");
        let [first, second] = ["aaaaaaaa", "bbbbbbbb"].map(|start| {
            let uuid = format!("{start}-2222-3333-4444-555555555555");
            uuid.parse::<DomainUuid>().expect("uuid")
        });
        // As after a lack of descriptors: the file exists and cannot be read.
        std::os::unix::fs::symlink(&path, &path).expect("a loop");
        let opted_out = OptedOut::load(path.clone());
        assert!(opted_out.has(&first));
        opted_out.insert(&second);
        std::fs::remove_file(&path).expect("removed");
        std::fs::write(&path, format!("{first}\n")).expect("written");
        assert!(opted_out.has(&first) && opted_out.has(&second));
        opted_out.remove(&second);
        assert!(OptedOut::load(path).has(&first));
    }
}
