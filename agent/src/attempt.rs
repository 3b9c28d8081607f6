//! Attempts to complete a definition that did not last, so that they are not repeated endlessly.
//!
//! Each define causes an event to which the agent reacts. If libvirt does not keep the definition, or another program
//! removes elements, the next round would define it once more, without end. So a text that was tried for one definition
//! and one pair of versions is not tried again until a request, and no domain is defined more than [`DEFINES`] times
//! within [`WINDOW`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::failure::PrepareError;
use crate::libvirt::DomainRef;
use domain::DomainUuid;
use domain::code::Code;
use domain::refusal::Refusal;
use planner::fingerprint::Fingerprint;
use planner::target::Versions;

/// Maximum number of automatic defines of one domain within the window.
const DEFINES: usize = 10;
/// The window.
const WINDOW: Duration = Duration::from_secs(60);
/// Maximum number of remembered attempts of one domain; the oldest are forgotten.
const REMEMBERED: usize = 64;

/// Attempts by domain.
#[derive(Debug, Default)]
pub struct Attempts(Mutex<BTreeMap<DomainUuid, Tried>>);

#[derive(Debug, Default)]
struct Tried {
    /// Attempts that did not last, with the reason.
    failed: VecDeque<(Fingerprint, PrepareError)>,
    /// Times of defines.
    defines: VecDeque<Instant>,
    /// Attempts within the window.
    lately: BTreeSet<Fingerprint>,
}

/// The fingerprint of an attempt: the definition, its completed text, and the versions.
#[must_use]
pub fn fingerprint(before: &str, wanted: &str, versions: Option<Versions>) -> Fingerprint {
    Fingerprint::of_parts(&[before, wanted, &format!("{versions:?}")])
}

impl Attempts {
    /// Counts an attempt, if it was not tried before and the domain was not defined too often.
    ///
    /// # Errors
    /// The error of the earlier attempt; [`Code::XmlLoop`].
    pub fn begin(
        &self,
        domain: &DomainRef,
        attempt: Fingerprint,
        now: Instant,
    ) -> Result<(), PrepareError> {
        let mut all = self.all();
        let tried = all.entry(domain.uuid.clone()).or_default();
        if let Some((_, why)) = tried.failed.iter().find(|(other, _)| *other == attempt) {
            return Err(why.clone());
        }
        tried
            .defines
            .retain(|then| now.duration_since(*then) < WINDOW);
        // A pause as long as the window ends a loop, so its texts may be tried again.
        if tried.defines.is_empty() {
            tried.lately.clear();
        }
        if tried.defines.len() >= DEFINES {
            let why = PrepareError::from(looping(domain));
            // After the window none of the texts of the loop is tried again.
            let round: Vec<_> = std::mem::take(&mut tried.lately).into_iter().collect();
            tried.fail(round.into_iter().chain([attempt]), &why);
            return Err(why);
        }
        tried.defines.push_back(now);
        tried.lately.insert(attempt);
        Ok(())
    }

    /// Records that these attempts have not lasted.
    pub fn failed(
        &self,
        domain: &DomainUuid,
        attempts: impl IntoIterator<Item = Fingerprint>,
        why: &PrepareError,
    ) {
        let mut all = self.all();
        all.entry(domain.clone()).or_default().fail(attempts, why);
    }

    /// A request came, or the domain was removed: everything may be tried again.
    pub fn forget(&self, domain: &DomainUuid) {
        self.all().remove(domain);
    }

    fn all(&self) -> MutexGuard<'_, BTreeMap<DomainUuid, Tried>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tried {
    fn fail(&mut self, attempts: impl IntoIterator<Item = Fingerprint>, why: &PrepareError) {
        for attempt in attempts {
            self.failed.retain(|(other, _)| *other != attempt);
            self.failed.push_back((attempt, why.clone()));
        }
        while self.failed.len() > REMEMBERED {
            self.failed.pop_front();
        }
    }
}

fn looping(domain: &DomainRef) -> Refusal {
    let reason = format!(
        "the definition of '{domain}' was completed {DEFINES} times within {} s and did not stay complete; variantd stops completing it",
        WINDOW.as_secs()
    );
    let hint = format!(
        "find the program that changes it ('journalctl -u libvirtd -u virtqemud'), then run 'variantctl prepare {domain}'"
    );
    Refusal::new(Code::XmlLoop, reason, hint).by(["variantctl", "prepare", &domain.name])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::UUID;

    fn domain() -> DomainRef {
        DomainRef {
            uuid: UUID.parse().expect("uuid"),
            name: "d0".to_owned(),
        }
    }

    fn is_loop(result: Result<(), PrepareError>) -> bool {
        matches!(result, Err(PrepareError::Refused(refusal)) if refusal.code == Code::XmlLoop)
    }

    #[test]
    fn failed_attempt_is_not_repeated_until_a_request() {
        let (attempts, now) = (Attempts::default(), Instant::now());
        let one = fingerprint("a", "b", Some(Versions::NEWEST_TESTED));
        attempts.begin(&domain(), one, now).expect("first");
        let why = PrepareError::NotFound("d0".into());
        attempts.failed(&domain().uuid, [one], &why);
        assert_eq!(attempts.begin(&domain(), one, now), Err(why));
        let other = fingerprint("a", "b", None);
        attempts
            .begin(&domain(), other, now)
            .expect("other versions");
        attempts.forget(&domain().uuid);
        attempts.begin(&domain(), one, now).expect("asked for");
    }

    #[test]
    fn a_loop_ends_and_its_texts_are_not_taken_up_later() {
        let (attempts, start) = (Attempts::default(), Instant::now());
        let texts: Vec<_> = (0..20)
            .map(|n| fingerprint("a", &n.to_string(), None))
            .collect();
        for text in &texts[..DEFINES] {
            attempts
                .begin(&domain(), *text, start)
                .expect("one of some");
        }
        assert!(is_loop(attempts.begin(&domain(), texts[DEFINES], start)));
        let later = start + WINDOW;
        assert!(is_loop(attempts.begin(&domain(), texts[0], later)));
        assert!(is_loop(attempts.begin(&domain(), texts[DEFINES], later)));
        attempts
            .begin(&domain(), texts[DEFINES + 1], later)
            .expect("another text");
    }
}
