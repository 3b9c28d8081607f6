//! What could not be given back is tried again, by one rule, whoever left it and however.
//!
//! ```text
//! something failed ----> wait, longer each time -> settle -> all is settled: until the next failure
//!                          ^   `- a write that was stuck ends       |
//!                          `------------ something is left <--------'
//! ```
//!
//! By the records alone, without libvirt: a device that is not `bound` is no running guest's.

use std::collections::BTreeSet;
use std::iter;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tracing::warn;

use super::{Assigner, Unwilling};
use crate::assignment::Event;
use crate::record::{Held, Manual};
use domain::DomainUuid;

/// Seconds before each attempt; the last one counts for all that follow.
const PAUSES: [u64; 6] = [2, 5, 15, 30, 60, 300];

/// What is to be tried again.
#[derive(Debug, Default)]
pub(super) struct Again {
    failed: Notify,
    /// Domains whose release failed, for which the records may not say so.
    domains: Mutex<BTreeSet<DomainUuid>>,
}

impl Again {
    /// A release of the domain failed.
    pub(super) fn domain(&self, domain: &DomainUuid) {
        self.domains().insert(domain.clone());
        self.something();
    }

    /// Something else is left.
    pub(super) fn something(&self) {
        self.failed.notify_one();
    }

    fn domains(&self) -> MutexGuard<'_, BTreeSet<DomainUuid>> {
        self.domains.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tries again for the life of the agent; `ended` is told of each write that was stuck and has ended.
pub async fn serve(assigner: Arc<Assigner>, ended: Arc<Notify>) {
    let pauses = PAUSES.map(Duration::from_secs);
    serve_with(assigner, ended, &pauses).await;
}

pub(super) async fn serve_with(assigner: Arc<Assigner>, ended: Arc<Notify>, pauses: &[Duration]) {
    let last = pauses.last().copied().unwrap_or_default();
    loop {
        let first = tokio::select! {
            () = assigner.again.failed.notified() => None,
            () = ended.notified() => Some(Duration::ZERO),
        };
        let pauses = first.into_iter().chain(pauses.iter().copied());
        for pause in pauses.chain(iter::repeat(last)) {
            tokio::select! {
                () = sleep(pause) => {}
                () = ended.notified() => {}
            }
            let again = assigner.clone();
            // What panicked has left something.
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
    /// Tries once to give back what is left half-way, and to start services that should run; true when nothing is left.
    pub fn settle(&self) -> bool {
        self.unheard();
        let domains = std::mem::take(&mut *self.again.domains());
        for domain in &domains {
            if let Err(error) = self.release_left_over(domain) {
                warn!("devices of domain {domain} are still not given back: {error}");
            }
        }
        let others =
            |domain: &DomainUuid, held: &Held| held.is_unsettled() && !domains.contains(domain);
        for left in self.recover_entries(others, &Event::Resumed, Unwilling::Kept) {
            if let Some(sentence) = left.sentence {
                warn!("'{}' is still not given back: {sentence}", left.device);
            }
        }
        self.recover_manually(None, Unwilling::Kept);
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
