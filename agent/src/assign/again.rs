//! Retries failed releases of devices, by one rule for all causes.
//!
//! ```text
//! something failed ----> wait, longer each time -> settle -> all is settled: until the next failure
//!                          ^   `- a stuck write ends                |
//!                          `------------ something is left <--------'
//! ```
//!
//! Uses only the records, without libvirt: a device that is not `bound` does not belong to a running guest.

use std::collections::BTreeSet;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::{Assigner, OnRefusal};
use crate::assignment::Event;
use crate::record::{Held, Manual};
use domain::DomainUuid;

/// Seconds before each attempt; the last one repeats.
const PAUSES: [u64; 6] = [2, 5, 15, 30, 60, 300];

/// What must be retried.
#[derive(Debug, Default)]
pub(super) struct Again {
    failed: Notify,
    /// Domains whose release failed; the records may not show it.
    domains: Mutex<BTreeSet<DomainUuid>>,
}

impl Again {
    /// Records that a release of the domain failed.
    pub(super) fn domain(&self, domain: &DomainUuid) {
        self.domains().insert(domain.clone());
        self.unfinished();
    }

    /// Records that another change is unfinished.
    pub(super) fn unfinished(&self) {
        self.failed.notify_one();
    }

    fn domains(&self) -> MutexGuard<'_, BTreeSet<DomainUuid>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Retries until the agent ends; `ended` is notified of each stuck write that has ended.
pub async fn serve(assigner: Arc<Assigner>, ended: Arc<Notify>) {
    let pauses = PAUSES.map(Duration::from_secs);
    serve_with(assigner, ended, &pauses).await;
}

pub(super) async fn serve_with(assigner: Arc<Assigner>, ended: Arc<Notify>, pauses: &[Duration]) {
    let last = pauses.last().copied().unwrap_or_default();
    loop {
        let first = tokio::select! {
            () = assigner.again.failed.notified() => None,
            // A stuck write has ended, so the device can be restored now; without this, `PAUSES` could add five minutes.
            () = ended.notified() => Some(Duration::ZERO),
        };
        let pauses = first.into_iter().chain(pauses.iter().copied());
        for pause in pauses.chain(iter::repeat(last)) {
            tokio::select! {
                () = sleep(pause) => {}
                () = ended.notified() => {}
            }
            let again = assigner.clone();
            // A panic leaves something unfinished.
            if spawn_blocking(move || again.settle())
                .await
                .unwrap_or(false)
            {
                break;
            }
        }
    }
}

impl Assigner {
    /// Tries once to release interrupted devices and to start services that should run; true if nothing is left.
    pub fn settle(&self) -> bool {
        self.without_event();
        // Taken as a whole: a release that fails again inserts its domain again.
        let domains = std::mem::take(&mut *self.again.domains());
        for domain in &domains {
            if let Err(error) = self.release_left_over(domain) {
                warn!("cannot release the devices of domain {domain} yet, retrying: {error}");
            }
        }
        let others =
            |domain: &DomainUuid, held: &Held| held.is_unsettled() && !domains.contains(domain);
        for left in self.recover_entries(others, &Event::Resumed, OnRefusal::Kept) {
            if let Some(sentence) = left.sentence {
                warn!("cannot release '{}' yet, retrying: {sentence}", left.device);
            }
        }
        self.recover_manually(None, OnRefusal::Kept);
        self.start_services();
        self.is_settled()
    }

    fn is_settled(&self) -> bool {
        let survey = self.records.survey();
        let mut held = survey.found.iter().flat_map(|(_, entry)| &entry.devices);
        self.has_listed()
            && self.again.domains().is_empty()
            && survey.unread.is_none()
            && !held.any(Held::is_unsettled)
            && !survey.manual.iter().any(Manual::is_unsettled)
            && !self.owes_services()
    }
}
