//! One lock per domain, in order of arrival: libvirt's order of operations on a domain is kept.
//!
//! The next start must not overtake a release that arrived before it. Operations on different domains never wait for
//! each other.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use domain::DomainUuid;

/// Locks by domain, created when needed and dropped when no operation holds or awaits them.
#[derive(Debug, Default)]
pub struct Locks {
    gates: Mutex<BTreeMap<DomainUuid, Arc<Gate>>>,
}

impl Locks {
    /// Runs `work` exclusively for `domain`, after all earlier operations.
    pub fn with<T>(&self, domain: &DomainUuid, work: impl FnOnce() -> T) -> T {
        let gate = self.gate(domain);
        let _turn = gate.enter();
        work()
    }

    /// Takes the map's lock and returns; does not wait for a domain's lock.
    pub fn answer(&self) {
        drop(self.gates.lock());
    }

    fn gate(&self, domain: &DomainUuid) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        // One reference is the map's own: no operation holds or awaits such a lock.
        gates.retain(|_, gate| Arc::strong_count(gate) > 1);
        gates.entry(domain.clone()).or_default().clone()
    }
}

/// Admits one at a time, by ticket.
#[derive(Debug, Default)]
struct Gate {
    tickets: Mutex<Tickets>,
    turned: Condvar,
}

#[derive(Debug, Default)]
struct Tickets {
    next: u64,
    inside: u64,
}

/// The turn of the lock's holder; dropping it admits the next.
struct Turn<'a>(&'a Gate);

impl Gate {
    fn enter(&self) -> Turn<'_> {
        let mut tickets = self.tickets.lock().unwrap_or_else(PoisonError::into_inner);
        let mine = tickets.next;
        tickets.next += 1;
        let waits = |tickets: &mut Tickets| tickets.inside != mine;
        drop(
            self.turned
                .wait_while(tickets, waits)
                .unwrap_or_else(PoisonError::into_inner),
        );
        Turn(self)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let tickets = self.0.tickets.lock();
        tickets.unwrap_or_else(PoisonError::into_inner).inside += 1;
        // All, because a `Condvar` does not choose the thread whose ticket is next.
        self.0.turned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;
    use std::thread;

    fn uuid(last: u8) -> DomainUuid {
        let text = format!("6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a{last:02x}");
        text.parse().expect("uuid")
    }

    /// Returns after `count` operations have drawn a ticket for the domain.
    fn await_arrivals(locks: &Locks, count: u64) {
        let gate = locks.gate(&uuid(1));
        while gate.tickets.lock().expect("tickets").next < count {
            thread::yield_now();
        }
    }

    #[test]
    fn another_domain_does_not_wait_and_the_same_domain_waits_in_order() {
        let locks = Locks::default();
        let (send, order) = mpsc::channel();
        thread::scope(|scope| {
            locks.with(&uuid(1), || {
                for number in 1..=5 {
                    let (locks, send) = (&locks, send.clone());
                    scope.spawn(move || locks.with(&uuid(1), || send.send(number)));
                    await_arrivals(locks, number + 1);
                }
                locks.with(&uuid(2), || send.send(0).expect("send"));
            });
        });
        let order: Vec<u64> = order.try_iter().collect();
        assert_eq!(order, [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn panic_releases_the_domain_lock() {
        let locks = Locks::default();
        let work = || locks.with(&uuid(1), || std::panic::resume_unwind(Box::new(())));
        catch_unwind(AssertUnwindSafe(work)).expect_err("panicked");
        assert_eq!(locks.with(&uuid(1), || 7), 7);
    }
}
