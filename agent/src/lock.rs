//! One lock per domain: operations on one domain wait for each other, never on another's.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::domain::DomainUuid;

/// Locks by domain, made when needed and dropped when nobody holds or awaits them.
#[derive(Debug, Default)]
pub struct Locks {
    locks: Mutex<BTreeMap<DomainUuid, Arc<Mutex<()>>>>,
}

impl Locks {
    /// Runs `work` while nothing else runs for `domain`.
    pub fn with<T>(&self, domain: &DomainUuid, work: impl FnOnce() -> T) -> T {
        let lock = self.lock_of(domain);
        let _held = lock.lock().unwrap_or_else(PoisonError::into_inner);
        work()
    }

    fn lock_of(&self, domain: &DomainUuid) -> Arc<Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        locks.entry(domain.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;
    use std::thread;

    fn uuid(last: u8) -> DomainUuid {
        let text = format!("6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a{last:02x}");
        text.parse().expect("uuid")
    }

    #[test]
    fn one_domain_waits_for_itself_only() {
        let locks = Locks::default();
        let (send, order) = mpsc::channel();
        thread::scope(|scope| {
            locks.with(&uuid(1), || {
                let (locks, send) = (&locks, send.clone());
                let second = send.clone();
                scope.spawn(move || locks.with(&uuid(1), || second.send("same")));
                locks.with(&uuid(2), || send.send("other").expect("send"));
            });
        });
        assert_eq!(order.iter().take(2).collect::<Vec<_>>(), ["other", "same"]);
    }
}
