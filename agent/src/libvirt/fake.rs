//! A libvirt for tests: definitions in memory, with the real one's behaviour that matters to the agent.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;

use super::{Capabilities, Change, Changes, DomainRef, Event, Libvirt, LibvirtError};
use domain::{Domain, DomainUuid};
use planner::from_libvirt::Networks;

/// Definitions by UUID.
#[derive(Default)]
pub(crate) struct Fake {
    state: Mutex<State>,
    /// While true, reading calls wait.
    closed: Mutex<bool>,
    /// While true, defining calls wait.
    held: Mutex<bool>,
    opened: Condvar,
    resumed: Condvar,
    looking: AtomicUsize,
    changes: Arc<Changes>,
    /// Delayed events, in order.
    late: Mutex<Option<Sender<(DomainUuid, Change, Instant)>>>,
    /// The receiver of events.
    events: Mutex<Option<UnboundedSender<Event>>>,
}

/// The action of another client.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Define(String),
    Undefine,
}

/// When another client acts: around the agent's next define.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Before the agent calls; its event has been sent.
    Before,
    /// While libvirt still validates the agent's text.
    Within,
    /// At the same moment: no client can read the text between.
    Hidden,
    /// After the agent's text was stored, before the call returns.
    After,
}

/// Duration of a define's validation.
const VALIDATION: Duration = Duration::from_millis(150);

/// Translates a definition into QEMU arguments.
pub(crate) type Translate = fn(&str) -> Result<String, String>;

#[derive(Default)]
struct State {
    acts: Vec<(Point, Act)>,
    reads: usize,
    definitions: BTreeMap<DomainUuid, String>,
    running: Vec<(DomainRef, String)>,
    defines: usize,
    drops: Option<(String, String)>,
    edits: Vec<(DomainUuid, String)>,
    refuses: Option<String>,
    secret: Option<String>,
    capabilities: Capabilities,
    /// Duration of a query of capabilities.
    hang: Duration,
    translate: Option<Translate>,
    networks: Networks,
    asked_for_networks: usize,
    asked: usize,
    stale: Vec<String>,
    keeps_initiators: bool,
}

impl Fake {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Defines like a user.
    pub(crate) fn put(&self, xml: &str) -> DomainRef {
        let domain = reference(xml);
        let mut state = self.state();
        state
            .definitions
            .insert(domain.uuid.clone(), xml.to_owned());
        domain
    }

    /// A guest that runs.
    pub(crate) fn run(&self, xml: &str) -> DomainRef {
        let domain = reference(xml);
        self.state().running.push((domain.clone(), xml.to_owned()));
        domain
    }

    /// Removes a device from a guest, whose XML is then `xml`; `stale` are the initiator objects that remain.
    pub(crate) fn unplug(&self, xml: &str, stale: &[&str]) -> DomainRef {
        let domain = reference(xml);
        self.end(&domain);
        self.state().stale = stale.iter().map(|id| (*id).to_owned()).collect();
        self.run(xml)
    }

    /// From now on QEMU does not delete initiators.
    pub(crate) fn keep_initiators(&self) {
        self.state().keeps_initiators = true;
    }

    /// A guest that ends.
    pub(crate) fn end(&self, domain: &DomainRef) {
        self.state().running.retain(|(other, _)| other != domain);
    }

    /// From now on a define replaces `from` by `to`, like a libvirt that does not know `from`.
    pub(crate) fn drop_on_define(&self, from: &str, to: &str) {
        self.state().drops = Some((from.to_owned(), to.to_owned()));
    }

    /// After each of the next reads another client defines one of `texts`.
    pub(crate) fn edit_after_reads(&self, domain: &DomainRef, texts: Vec<String>) {
        let edits = texts.into_iter().map(|text| (domain.uuid.clone(), text));
        self.state().edits = edits.collect();
    }

    /// From now on every define fails.
    pub(crate) fn refuse_defines(&self, words: &str) {
        self.state().refuses = Some(words.to_owned());
    }

    /// From now on only callers with permission see `secret`.
    pub(crate) fn hide(&self, secret: &str) {
        self.state().secret = Some(secret.to_owned());
    }

    /// Makes reading calls wait, until it is called with false.
    pub(crate) fn close_to_looks(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    /// Makes every define wait, until it is called with false.
    pub(crate) fn hold_defines(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.resumed.notify_all();
    }

    /// Another client does this around the next define.
    pub(crate) fn act(&self, point: Point, act: Act) {
        self.state().acts.push((point, act));
    }

    /// Delays all further events.
    pub(crate) fn delay_events(&self, delay: Duration) {
        let (send, receive) = channel();
        let changes = self.changes.clone();
        thread::spawn(move || {
            while let Ok((domain, change, due)) = receive.recv() {
                let due: Instant = due;
                thread::sleep((due + delay).saturating_duration_since(Instant::now()));
                changes.note(&domain, change);
            }
        });
        *self.late.lock().unwrap_or_else(PoisonError::into_inner) = Some(send);
    }

    /// Sends each further define to `events`.
    pub(crate) fn tell(&self, events: UnboundedSender<Event>) {
        *self.events.lock().unwrap_or_else(PoisonError::into_inner) = Some(events);
    }

    fn changed(&self, domain: &DomainRef, change: Change) {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        match &*late {
            Some(late) => late
                .send((domain.uuid.clone(), change, Instant::now()))
                .expect("the thread"),
            None => self.changes.note(&domain.uuid, change),
        }
        let events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let event = match change {
            Change::Defined => Event::Defined(domain.clone()),
            Change::Undefined => Event::Undefined(domain.clone()),
        };
        // There is no receiver any more.
        let _ = events.as_ref().map(|events| events.send(event));
    }

    /// The action of another client at this point of the agent's define of `domain`.
    fn others(&self, point: Point, domain: &DomainRef) {
        let acts: Vec<_> = self
            .state()
            .acts
            .extract_if(.., |(at, _)| *at == point)
            .collect();
        for (_, act) in acts {
            let change = match act {
                Act::Define(text) => {
                    self.state().definitions.insert(domain.uuid.clone(), text);
                    Change::Defined
                }
                Act::Undefine => {
                    self.state().definitions.remove(&domain.uuid);
                    Change::Undefined
                }
            };
            self.changed(domain, change);
        }
    }

    /// True if the domain has a definition.
    pub(crate) fn has(&self, domain: &DomainRef) -> bool {
        self.state().definitions.contains_key(&domain.uuid)
    }

    /// Number of reading calls that have begun.
    pub(crate) fn looking(&self) -> usize {
        self.looking.load(Ordering::SeqCst)
    }

    fn look(&self) {
        self.looking.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(closed, |closed| *closed));
    }

    /// Number of queries of capabilities.
    pub(crate) fn asked(&self) -> usize {
        self.state().asked
    }

    /// Sets the translation of definitions.
    pub(crate) fn translates(&self, translate: Translate) {
        self.state().translate = Some(translate);
    }

    /// Sets the capabilities.
    pub(crate) fn can(&self, capabilities: Capabilities) {
        self.state().capabilities = capabilities;
    }

    /// From now on a query of capabilities takes this time.
    pub(crate) fn hang_capabilities(&self, hang: Duration) {
        self.state().hang = hang;
    }

    /// Sets the networks.
    pub(crate) fn has_networks(&self, networks: Networks) {
        self.state().networks = networks;
    }

    /// Number of queries of networks.
    pub(crate) fn asked_for_networks(&self) -> usize {
        self.state().asked_for_networks
    }

    /// Number of queries for a definition with its secrets.
    pub(crate) fn reads(&self) -> usize {
        self.state().reads
    }

    /// Number of defines.
    pub(crate) fn defines(&self) -> usize {
        self.state().defines
    }

    /// The current definition.
    pub(crate) fn text(&self, domain: &DomainRef) -> String {
        self.state().definitions[&domain.uuid].clone()
    }
}

impl State {
    /// The definition, before another client edits it.
    fn read(&mut self, uuid: &DomainUuid) -> Option<String> {
        let text = self.definitions.get(uuid).cloned();
        if !self.edits.is_empty() {
            let (domain, edit) = self.edits.remove(0);
            self.definitions.insert(domain, edit);
        }
        text
    }
}

impl Libvirt for Fake {
    fn defined(&self) -> Result<Vec<DomainRef>, LibvirtError> {
        Ok(self
            .state()
            .definitions
            .values()
            .map(|x| reference(x))
            .collect())
    }

    fn running(&self) -> Result<Vec<(DomainRef, String)>, LibvirtError> {
        Ok(self.state().running.clone())
    }

    fn find(&self, name: &str) -> Result<Option<DomainRef>, LibvirtError> {
        let named = |domain: &DomainRef| domain.name == name || domain.uuid.to_string() == name;
        Ok(self.defined()?.into_iter().find(named))
    }

    fn inactive_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        let text = self.state().read(uuid);
        let second = {
            let mut state = self.state();
            state.reads += 1;
            state.reads == 2
        };
        if let (true, Some(text)) = (second, &text) {
            self.others(Point::Before, &reference(text));
        }
        Ok(text)
    }

    fn public_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        self.look();
        let mut state = self.state();
        let text = state.read(uuid);
        let secret = state.secret.clone().unwrap_or_default();
        Ok(match secret.as_str() {
            "" => text,
            secret => text.map(|text| text.replace(secret, "")),
        })
    }

    fn is_active(&self, uuid: &DomainUuid) -> Result<bool, LibvirtError> {
        let state = self.state();
        Ok(state.running.iter().any(|(domain, _)| domain.uuid == *uuid))
    }

    fn live_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        let state = self.state();
        let found = state
            .running
            .iter()
            .find(|(domain, _)| domain.uuid == *uuid);
        Ok(found.map(|(_, xml)| xml.clone()))
    }

    fn stale_initiators(&self, _: &DomainUuid) -> Result<Vec<String>, LibvirtError> {
        Ok(self.state().stale.clone())
    }

    fn delete_initiator(&self, _: &DomainUuid, id: &str) -> Result<(), LibvirtError> {
        let mut state = self.state();
        if state.keeps_initiators {
            return Err(LibvirtError::Reported("monitor is busy".into()));
        }
        state.stale.retain(|other| other != id);
        Ok(())
    }

    fn capabilities(&self, _: &Domain) -> Result<Capabilities, LibvirtError> {
        self.state().asked += 1;
        let (hang, capabilities) = {
            let state = self.state();
            (state.hang, state.capabilities.clone())
        };
        thread::sleep(hang);
        Ok(capabilities)
    }

    fn translate(&self, xml: &str) -> Result<String, LibvirtError> {
        let translate = self.state().translate;
        let unsupported = || Err("this function is not supported".to_owned());
        let translated = translate.map_or_else(unsupported, |translate| translate(xml));
        translated.map_err(LibvirtError::Reported)
    }

    fn networks(&self) -> Result<Networks, LibvirtError> {
        let mut state = self.state();
        state.asked_for_networks += 1;
        Ok(state.networks.clone())
    }

    fn changes(&self) -> &Changes {
        &self.changes
    }

    fn undefine(&self, uuid: &DomainUuid) -> Result<(), LibvirtError> {
        let text = self.state().definitions.remove(uuid);
        if let Some(text) = text {
            self.changed(&reference(&text), Change::Undefined);
        }
        Ok(())
    }

    fn define(&self, xml: &str) -> Result<(), LibvirtError> {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.resumed.wait_while(held, |held| *held));
        let domain = reference(xml);
        let within = |state: &State| state.acts.iter().any(|(at, _)| *at == Point::Within);
        if within(&self.state()) {
            self.others(Point::Within, &domain);
            thread::sleep(VALIDATION);
        }
        self.others(Point::Hidden, &domain);
        {
            let mut state = self.state();
            state.defines += 1;
            if let Some(words) = &state.refuses {
                return Err(LibvirtError::Reported(words.clone()));
            }
            let text = match &state.drops {
                Some((from, to)) => xml.replace(from, to),
                None => xml.to_owned(),
            };
            state.definitions.insert(domain.uuid.clone(), text);
        }
        self.changed(&domain, Change::Defined);
        self.others(Point::After, &domain);
        Ok(())
    }
}

fn reference(xml: &str) -> DomainRef {
    let domain = Domain::parse(xml).expect("a domain");
    DomainRef {
        uuid: domain.uuid.expect("a UUID"),
        name: domain.name,
    }
}
