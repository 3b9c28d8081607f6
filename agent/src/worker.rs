//! The libvirt half of the agent: turns events, repairs and requests into prepared definitions.
//!
//! Each call of libvirt may block until a guest has started, so each runs in its own thread; at most [`AT_ONCE`] of
//! them, and one per domain.

use std::collections::{BTreeMap, BTreeSet, btree_map};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kernel_glue::address::PciAddress;
use thiserror::Error;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{Semaphore, SemaphorePermit, broadcast, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{debug, info, warn};

use crate::assign::{AssignError, Assigner, OnRefusal, Recovered};
use crate::context::Context;
use crate::failure::PrepareError;
use crate::journald;
use crate::libvirt::{DomainRef, Event, Libvirt, LibvirtError};
use crate::lock::Locks;
use crate::metrics::Source;
use crate::prepare::{AttachDevice, Options, Preparer, Trigger, ask_for_networks};
use crate::progress;
use crate::record::RecordError;
use crate::report;
use crate::stack::{self, collect::Programs};
use crate::unplug;
use api::refused::Kind;
use api::report::{Outcome, Report};
use domain::{Domain, DomainUuid};
use planner::attach::Attached;
use planner::saved_plan::SavedPlan;
use planner::target::Versions;

/// libvirt serves five concurrent calls of one client (max_client_requests); beyond that it stops reading, including
/// keepalive messages.
const AT_ONCE: usize = 4;
/// The fifth resolves a name, so that a call for a domain that does not exist is answered while guests start.
const NAMES_AT_ONCE: usize = 1;
/// Of the four, calls for callers that may only read, one of root and one of all others, so that they do not delay the
/// others.
const LOOKS_AT_ONCE: usize = 2;

/// From a define until libvirt's event about it has come: milliseconds, unless the host is very busy. Our choice.
const EVENT: Duration = Duration::from_secs(2);

/// Reports that wait for a subscriber; beyond that the oldest are dropped.
const BACKLOG: usize = 256;

/// Pause between two queries of libvirt's networks, each of which makes a call for each network.
const PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 250 });

/// Tests do not wait as long until sources of the stack that failed are asked again.
const LONGEST_PAUSE: Duration = if cfg!(test) {
    Duration::from_millis(50)
} else {
    Duration::MAX
};

/// Prepares domains, one call per domain at a time.
pub struct Worker {
    libvirt: Arc<dyn Libvirt>,
    context: Arc<Context>,
    assigner: Arc<Assigner>,
    calls: Semaphore,
    looks: Semaphore,
    names: Semaphore,
    locks: Locks,
    /// Preparations that are queued or under way, by domain.
    pending: watch::Sender<BTreeMap<DomainUuid, usize>>,
    /// Domains whose preparation is queued: another event about them changes nothing.
    queued: Mutex<BTreeSet<DomainUuid>>,
    reports: Mutex<BTreeMap<DomainUuid, Report>>,
    /// Subscribers of the reports.
    watchers: broadcast::Sender<Report>,
    networks: NetworkQuestion,
    /// A task waits until sources of the stack that failed are asked again.
    stack_waits: AtomicBool,
}

/// A preparation of a domain that is queued or under way, until it is dropped.
struct Pending {
    worker: Arc<Worker>,
    domain: DomainUuid,
}

impl Pending {
    fn begin(worker: &Arc<Worker>, domain: &DomainUuid) -> Self {
        let pending = &worker.pending;
        pending.send_modify(|all| *all.entry(domain.clone()).or_default() += 1);
        Self {
            worker: worker.clone(),
            domain: domain.clone(),
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.worker.pending.send_modify(|all| {
            if let btree_map::Entry::Occupied(mut count) = all.entry(self.domain.clone()) {
                *count.get_mut() -= 1;
                if *count.get() == 0 {
                    count.remove();
                }
            }
        });
    }
}

/// Waits for the preparations of one domain.
///
/// ```text
/// +-> idle() --false--> the end
/// |     | true: is the definition incomplete? no: the end. yes: libvirt's event about it may be on its way
/// +-- changed()
/// ```
#[derive(Debug)]
pub struct Waiter {
    pending: watch::Receiver<BTreeMap<DomainUuid, usize>>,
    domain: DomainUuid,
    /// When libvirt's event about an earlier define has come.
    event: Instant,
}

impl Waiter {
    /// Waits until no preparation of the domain is queued or under way; false if no event can be on its way any more.
    pub async fn idle(&mut self) -> bool {
        let domain = &self.domain;
        let idle = self.pending.wait_for(|all| !all.contains_key(domain)).await;
        idle.is_ok() && Instant::now() < self.event
    }

    /// Waits until a preparation begins or ends, or no event can be on its way any more.
    pub async fn changed(&mut self) {
        let _ = timeout_at(self.event, self.pending.changed()).await;
    }
}

/// The query of libvirt's networks: at most one is running, and one waits.
#[derive(Default)]
struct NetworkQuestion {
    waits: AtomicBool,
    under_way: tokio::sync::Mutex<()>,
}

/// Interrupted devices could not be searched.
#[derive(Debug, Error)]
pub enum RecoverError {
    /// The records cannot be read.
    #[error("cannot read the records of interrupted changes: {0}")]
    Journal(#[from] RecordError),
    /// It is unknown which guests run.
    #[error("cannot ask libvirt which guests run: {0}; start libvirt first")]
    Libvirt(#[from] LibvirtError),
}

impl Worker {
    /// A worker on `libvirt`.
    #[must_use]
    pub fn new(
        libvirt: Arc<dyn Libvirt>,
        context: Arc<Context>,
        assigner: Arc<Assigner>,
    ) -> Arc<Self> {
        Arc::new(Self {
            libvirt,
            context,
            assigner,
            calls: Semaphore::new(AT_ONCE),
            looks: Semaphore::new(LOOKS_AT_ONCE),
            names: Semaphore::new(NAMES_AT_ONCE),
            locks: Locks::default(),
            pending: watch::Sender::default(),
            queued: Mutex::default(),
            reports: Mutex::default(),
            watchers: broadcast::Sender::new(BACKLOG),
            networks: NetworkQuestion::default(),
            stack_waits: AtomicBool::default(),
        })
    }

    /// Serves events and repairs until one of the channels ends.
    pub async fn serve(
        self: Arc<Self>,
        mut events: UnboundedReceiver<Event>,
        mut repairs: UnboundedReceiver<DomainRef>,
    ) {
        loop {
            tokio::select! {
                // Handling an event only starts a task, so events stay in libvirt's order and the queue stays short.
                Some(event) = events.recv() => self.react(event),
                Some(domain) = repairs.recv() => self.queue(domain, Trigger::Repair),
                else => return,
            }
        }
    }

    /// Prepares a domain now and reports the result.
    ///
    /// # Errors
    /// As [`Preparer::prepare`].
    pub async fn prepare(
        self: &Arc<Self>,
        domain: DomainRef,
        trigger: Trigger,
    ) -> Result<Report, PrepareError> {
        let worker = self.clone();
        let pending = Pending::begin(self, &domain.uuid);
        let work = move || {
            // It continues when its caller no longer waits.
            let _pending = pending;
            worker.locks.with(&domain.uuid, || {
                // Removed before the definition is read: an event from now on means a change that this preparation may not see.
                worker.queued().remove(&domain.uuid);
                progress::begin()?;
                worker.prepare_now(&domain, trigger)
            })
        };
        self.call(work).await
    }

    /// Makes the edits of a saved plan now and reports the result.
    ///
    /// # Errors
    /// As [`Preparer::apply`].
    pub async fn apply(
        self: &Arc<Self>,
        domain: DomainRef,
        saved: SavedPlan,
    ) -> Result<Report, PrepareError> {
        let worker = self.clone();
        let pending = Pending::begin(self, &domain.uuid);
        let work = move || {
            let _pending = pending;
            worker.locks.with(&domain.uuid, || {
                progress::begin()?;
                worker.apply_now(&domain, &saved)
            })
        };
        self.call(work).await
    }

    /// Plans a domain for a caller that may only read.
    ///
    /// # Errors
    /// As [`Preparer::propose`].
    pub async fn propose(
        self: &Arc<Self>,
        domain: DomainRef,
        options: Options,
    ) -> Result<SavedPlan, PrepareError> {
        let _permit = permit(&self.looks).await;
        let preparer = self.preparer();
        self.call(move || preparer.propose(&domain, options)).await
    }

    /// Plans a text that libvirt has not stored.
    ///
    /// # Errors
    /// As [`Preparer::propose_text`].
    pub async fn propose_text(
        self: &Arc<Self>,
        xml: String,
        options: Options,
    ) -> Result<SavedPlan, PrepareError> {
        let _permit = permit(&self.looks).await;
        let preparer = self.preparer();
        self.call(move || preparer.propose_text(xml, options)).await
    }

    /// Judges and completes a device that is to be attached to a domain, for a caller that may only read. A running guest must be
    /// able to get it.
    ///
    /// # Errors
    /// As [`Preparer::attach`] and [`Assigner::may_claim`].
    pub async fn attach(
        self: &Arc<Self>,
        domain: DomainRef,
        device: AttachDevice,
    ) -> Result<Attached, PrepareError> {
        let _permit = permit(&self.looks).await;
        let (preparer, assigner) = (self.preparer(), self.assigner.clone());
        let judge = move || {
            let attached = preparer.attach(&domain, device)?;
            if attached.live {
                let free = assigner.may_claim(&domain.uuid, &attached.devices);
                free.map_err(|error| error.refusal().clone())?;
            }
            Ok(attached)
        };
        self.call(judge).await
    }

    /// Waits for the preparations of a domain; makes none.
    #[must_use]
    pub fn waiter(&self, domain: &DomainUuid) -> Waiter {
        Waiter {
            pending: self.pending.subscribe(),
            domain: domain.clone(),
            event: Instant::now() + EVENT,
        }
    }

    /// True if the event DEFINED makes the agent change the definition as it is now.
    ///
    /// # Errors
    /// As [`Preparer::lacks`].
    pub async fn lacks(self: &Arc<Self>, domain: DomainRef) -> Result<bool, PrepareError> {
        let _permit = permit(&self.looks).await;
        let preparer = self.preparer();
        self.call(move || preparer.lacks(&domain)).await
    }

    /// The domain of this name or UUID.
    ///
    /// # Errors
    /// There is none, or libvirt does not answer.
    pub async fn find(self: &Arc<Self>, name: String) -> Result<DomainRef, PrepareError> {
        let libvirt = self.libvirt.clone();
        let found = self.within(&self.names, move || (libvirt.find(&name), name));
        let found = found.await;
        match found {
            (Ok(Some(domain)), _) => Ok(domain),
            (Ok(None), name) => Err(PrepareError::NotFound(name)),
            (Err(why), domain) => Err(PrepareError::Libvirt { domain, why }),
        }
    }

    /// Releases interrupted devices, `device` or all. Calls libvirt only if a guest may have left a device bound.
    ///
    /// # Errors
    /// libvirt does not report which guests run, and no guest's device was changed then; or not all records can be
    /// read.
    pub async fn recover(
        self: &Arc<Self>,
        device: Option<PciAddress>,
    ) -> Result<Vec<Recovered>, RecoverError> {
        let worker = self.clone();
        let work = move || {
            // The result of a cancelled job has no receiver.
            if progress::begin().is_err() {
                return Ok(Vec::new());
            }
            progress::stage("releasing interrupted devices without a guest", 0.1);
            if let Some(why) = worker.assigner.unread() {
                return Err(why.into());
            }
            let mut recovered = worker.assigner.recover_manually(device, OnRefusal::Freed);
            progress::stage("releasing interrupted devices of guests", 0.4);
            recovered.extend(worker.assigner.recover_unsettled(device));
            // With an empty list libvirt is not called, so `recover` works while libvirt is stopped.
            if !worker.assigner.held().is_empty() {
                progress::stage("asking libvirt which guests run", 0.7);
                let running = worker.libvirt.running()?;
                let running: Vec<_> = running.into_iter().map(|(domain, _)| domain.uuid).collect();
                recovered.extend(worker.assigner.recover_guests(&running, device));
            }
            Ok(recovered)
        };
        self.call(work).await
    }

    /// The result of each relevant domain, by UUID.
    #[must_use]
    pub fn reports(&self) -> Vec<Report> {
        self.kept().values().cloned().collect()
    }

    /// A subscription to the reports: those of `reports`, and `foreign` for a domain that is no longer relevant.
    #[must_use]
    pub fn watch(&self) -> broadcast::Receiver<Report> {
        self.watchers.subscribe()
    }

    /// Takes each lock that is never held during a call of libvirt, and returns.
    pub fn answers(&self) {
        drop(self.queued());
        drop(self.kept());
        self.locks.answer();
    }

    /// No definition is relevant, and no call of libvirt is running.
    #[must_use]
    pub fn is_unneeded(&self) -> bool {
        self.kept().is_empty() && self.calls.available_permits() == AT_ONCE
    }

    fn react(self: &Arc<Self>, event: Event) {
        match event {
            Event::Connected(versions) => {
                self.context.metrics.connected(true);
                // Before anything is planned: an upgrade of libvirt may be the reason of the new connection.
                self.context.known_versions.learn(versions);
                self.assigner.notifier().notify();
                tokio::spawn(self.clone().catch_up(versions));
            }
            Event::Defined(domain) => self.queue(domain, Trigger::Define),
            Event::Undefined(domain) => {
                self.context.opted_out.remove(&domain.uuid);
                self.context.attempts.forget(&domain.uuid);
                self.keep(&domain, report::of(&domain, Outcome::Foreign));
                tokio::spawn(self.clone().undefined(domain));
            }
            Event::Started(domain) => debug!("guest '{domain}' runs"),
            Event::Stopped(domain) => drop(tokio::spawn(self.clone().ended(domain))),
            Event::Unplugged(domain) => drop(tokio::spawn(self.clone().device_left(domain))),
            Event::Networks => {
                // A waiting query will see this change, too.
                if !self.networks.waits.swap(true, Ordering::SeqCst) {
                    tokio::spawn(self.clone().networks_changed());
                }
            }
            Event::Disconnected => self.context.metrics.connected(false),
        }
    }

    /// Prepares a domain in the background, unless it is queued already.
    fn queue(self: &Arc<Self>, domain: DomainRef, trigger: Trigger) {
        if trigger == Trigger::Define && !self.queued().insert(domain.uuid.clone()) {
            return;
        }
        let worker = self.clone();
        let pending = Pending::begin(self, &domain.uuid);
        tokio::spawn(async move {
            let _pending = pending;
            worker.prepare(domain, trigger).await
        });
    }

    /// Handles what happened without a connection: running guests first, then definitions.
    /// Definitions are planned for the stack as it is now.
    async fn catch_up(self: Arc<Self>, versions: Versions) {
        let worker = self.clone();
        let found = self.call(move || {
            ask_for_networks(&worker.context, &*worker.libvirt);
            worker.settle()?;
            worker.ask_stack(versions);
            worker.context.assigned.forget_all();
            worker.libvirt.defined()
        });
        self.queue_all(found.await);
        if !self.stack_waits.swap(true, Ordering::SeqCst) {
            self.ask_stack_again().await;
            self.stack_waits.store(false, Ordering::SeqCst);
        }
    }

    /// Plans all definitions.
    fn queue_all(self: &Arc<Self>, defined: Result<Vec<DomainRef>, LibvirtError>) {
        match defined {
            Ok(domains) => {
                for domain in domains {
                    self.queue(domain, Trigger::Define);
                }
            }
            Err(error) => warn!("cannot read from libvirt which domains exist: {error}"),
        }
    }

    /// Asks the installed programs what they can express, if one of them changed or a source failed; true if that told something
    /// new.
    fn ask_stack(&self, versions: Versions) -> bool {
        let programs = Programs {
            libvirt: &self.libvirt,
            versions,
            probe: &stack::emulator::run_unit,
            limit: stack::collect::LIMIT,
        };
        let is_new = stack::collect::refresh(&self.context.known_stack, &programs);
        if is_new {
            self.assigner.notifier().notify();
        }
        is_new
    }

    /// Asks again after each pause, until no source fails. Definitions that were planned for another stack are planned again.
    async fn ask_stack_again(self: &Arc<Self>) {
        while let Some(pause) = self.context.known_stack.pause() {
            sleep(pause.min(LONGEST_PAUSE)).await;
            let Ok(versions) = self.context.known_versions.versions() else {
                return;
            };
            let worker = self.clone();
            let ask = move || worker.ask_stack(versions).then(|| worker.libvirt.defined());
            if let Some(defined) = self.call(ask).await {
                self.queue_all(defined);
            }
        }
    }

    /// Queries at once, and not again before a pause: a burst of changes causes one query now and one for all the rest.
    async fn networks_changed(self: Arc<Self>) {
        let _under_way = self.networks.under_way.lock().await;
        let worker = self.clone();
        let ask = move || {
            // Later changes need another query.
            worker.networks.waits.store(false, Ordering::SeqCst);
            ask_for_networks(&worker.context, &*worker.libvirt);
        };
        self.call(ask).await;
        sleep(PAUSE).await;
    }

    /// A definition was removed: forgets its devices, after a preparation that has read it, and unless it exists again.
    async fn undefined(self: Arc<Self>, domain: DomainRef) {
        let worker = self.clone();
        let work = move || {
            worker.locks.with(&domain.uuid, || {
                if let Ok(None) = worker.libvirt.inactive_xml(&domain.uuid) {
                    worker.context.assigned.forget(&domain.uuid);
                }
            });
        };
        self.call(work).await;
    }

    /// A guest has ended: releases its devices, if its hook call did not arrive.
    async fn ended(self: Arc<Self>, domain: DomainRef) {
        debug!("guest '{domain}' ended");
        let worker = self.clone();
        let work = move || {
            if let Err(error) = worker.release_missed(&domain) {
                warn!("cannot query whether guest '{domain}' has ended: {error}");
            }
        };
        self.call(work).await;
    }

    fn release_missed(&self, domain: &DomainRef) -> Result<(), LibvirtError> {
        let is_active = || self.libvirt.is_active(&domain.uuid);
        self.assigner.release_missed(&domain.uuid, is_active)
    }

    /// A device has left a guest: deletes its remaining objects in QEMU, and releases the device.
    async fn device_left(self: Arc<Self>, domain: DomainRef) {
        let worker = self.clone();
        let work = move || {
            unplug::rescue(&*worker.libvirt, &domain);
            match worker.libvirt.live_xml(&domain.uuid) {
                Ok(Some(xml)) => match Domain::parse(&xml) {
                    Ok(live) => unplug::release_devices(&worker.assigner, &domain, &live),
                    Err(why) => warn!("cannot read the definition of guest '{domain}': {why}"),
                },
                Ok(None) => {}
                Err(why) => warn!("cannot read the devices of guest '{domain}': {why}"),
            }
        };
        self.call(work).await;
    }

    /// Adopts running guests, then releases the devices of guests that ended without an event.
    fn settle(&self) -> Result<(), LibvirtError> {
        let running = self.libvirt.running()?;
        for (domain, xml) in &running {
            let live = Domain::parse(xml);
            let adopted = live
                .as_ref()
                .map_err(|why| AssignError::Refused(why.clone()));
            if let Err(error) = adopted.and_then(|live| self.assigner.adopt(live)) {
                warn!("cannot adopt guest '{domain}': {error}");
            }
            unplug::rescue(&*self.libvirt, domain);
            if let Ok(live) = &live {
                unplug::release_devices(&self.assigner, domain, live);
            }
        }
        let running: Vec<_> = running.into_iter().map(|(domain, _)| domain.uuid).collect();
        self.assigner.recover(&running);
        // Guests that ended while the agent was not connected; the list of running guests is older than a start in the meantime.
        for (domain, _) in self.assigner.held() {
            self.release_missed(&domain)?;
        }
        Ok(())
    }

    fn prepare_now(&self, domain: &DomainRef, trigger: Trigger) -> Result<Report, PrepareError> {
        // Only on request: the query opens and resets the devices.
        if let Trigger::Request(_) = trigger {
            self.ask_regions(domain);
        }
        let result = self.preparer().prepare(domain, trigger);
        let report = match &result {
            Ok(report) => report.clone(),
            Err(error) => report::of_error(domain, error),
        };
        self.note(domain, trigger, report);
        result
    }

    /// A requested definition uses the regions that VFIO reports, if it can be queried.
    fn ask_regions(&self, domain: &DomainRef) {
        // The preparation reports errors of the definition or of libvirt.
        progress::stage("querying VFIO for the devices' regions", 0.1);
        let text = self.libvirt.inactive_xml(&domain.uuid).ok().flatten();
        if let Some(Ok(definition)) = text.map(|text| Domain::parse(&text)) {
            let _ = self.assigner.ask_regions(&definition);
        }
    }

    /// The refusal of a saved plan says nothing about the domain, so only a completed change is stored.
    fn apply_now(&self, domain: &DomainRef, saved: &SavedPlan) -> Result<Report, PrepareError> {
        let report = self.preparer().apply(domain, saved)?;
        let trigger = Trigger::Request(Options::of(saved));
        self.note(domain, trigger, report.clone());
        Ok(report)
    }

    fn preparer(&self) -> Preparer {
        Preparer::new(self.libvirt.clone(), self.context.clone())
    }

    /// Stores a report for later calls, and logs it for the operator if it matters.
    fn note(&self, domain: &DomainRef, trigger: Trigger, report: Report) {
        let metrics = &self.context.metrics;
        metrics.preparation(trigger.as_str(), &report);
        // A caller gets the error of its request, which is counted there.
        let is_event = matches!(trigger, Trigger::Define | Trigger::Repair);
        let code = report.code.as_ref().and_then(|code| code.parse().ok());
        if let Some(code) = code.filter(|_| is_event) {
            metrics.refused(Source::Event, Kind::Refused, code);
        }
        let variantd_domain = &*domain.name;
        match (&report.sentence, report.outcome) {
            (Some(sentence), _) => warn!(
                variantd_domain,
                message_id = journald::NOT_PREPARED,
                "cannot prepare domain '{domain}': {sentence}"
            ),
            (None, Outcome::Completed) => info!(
                variantd_domain,
                message_id = journald::PREPARED,
                "domain '{domain}' is prepared ({trigger:?}): {} changes",
                report.changes.len()
            ),
            (None, Outcome::Reverted) => {
                info!(
                    variantd_domain,
                    "domain '{domain}' is reverted; complete it again with 'variantctl prepare \
                        {domain}'"
                );
            }
            _ => debug!("domain '{domain}': {:?}", report.outcome),
        }
        // The summary is for the caller alone.
        let report = Report {
            summary: None,
            ..report
        };
        self.keep(domain, report);
    }

    /// Stores a report, and sends it to subscribers.
    fn keep(&self, domain: &DomainRef, report: Report) {
        let mut kept = self.kept();
        let is_news = match report.outcome {
            Outcome::Foreign => kept.remove(&domain.uuid).is_some(),
            _ => kept.insert(domain.uuid.clone(), report.clone()).as_ref() != Some(&report),
        };
        if is_news {
            // There is no subscriber.
            let _ = self.watchers.send(report);
        }
    }

    /// Runs a call of libvirt in a thread that may block.
    async fn call<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.within(&self.calls, work).await
    }

    async fn within<T: Send + 'static>(
        &self,
        calls: &Semaphore,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> T {
        let _permit = permit(calls).await;
        let done = spawn_blocking(progress::carried(work)).await;
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
    }

    fn queued(&self) -> MutexGuard<'_, BTreeSet<DomainUuid>> {
        self.queued.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, BTreeMap<DomainUuid, Report>> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn permit(semaphore: &Semaphore) -> SemaphorePermit<'_> {
    let permit = semaphore.acquire().await;
    permit.expect("the semaphore is never closed")
}

#[cfg(test)]
#[path = "worker_test.rs"]
mod test;
