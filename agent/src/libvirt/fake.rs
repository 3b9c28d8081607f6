//! A libvirt for tests: definitions in memory, with the habits that the agent has to live with.

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
    /// Whoever only looks waits while this is true.
    closed: Mutex<bool>,
    /// Whoever defines waits while this is true.
    held: Mutex<bool>,
    opened: Condvar,
    let_go: Condvar,
    looking: AtomicUsize,
    changes: Arc<Changes>,
    /// Events that come later, in order.
    late: Mutex<Option<Sender<(DomainUuid, Change, Instant)>>>,
    /// Whoever hears of definitions.
    events: Mutex<Option<UnboundedSender<Event>>>,
}

/// What another client does.
#[derive(Clone, Debug)]
pub(crate) enum Act {
    Define(String),
    Undefine,
}

/// When another client acts: around the next define of the agent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
    /// Before the agent calls; its event has come.
    Before,
    /// While libvirt still validates what the agent defines.
    Within,
    /// In the same moment: nobody can read the text between.
    Hidden,
    /// After the agent's definition was stored, before the call comes back.
    After,
}

/// How long a define validates.
const VALIDATION: Duration = Duration::from_millis(150);

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

    /// Defines as a user does.
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

    /// A device leaves a guest, whose XML is `xml` from now on; `stale` are the initiator objects that stay behind.
    pub(crate) fn unplug(&self, xml: &str, stale: &[&str]) -> DomainRef {
        let domain = reference(xml);
        self.end(&domain);
        self.state().stale = stale.iter().map(|id| (*id).to_owned()).collect();
        self.run(xml)
    }

    /// From now on QEMU deletes no initiator.
    pub(crate) fn keep_initiators(&self) {
        self.state().keeps_initiators = true;
    }

    /// A guest that ends.
    pub(crate) fn end(&self, domain: &DomainRef) {
        self.state().running.retain(|(other, _)| other != domain);
    }

    /// From now on a define replaces `from` by `to`, as a libvirt that does not know `from`.
    pub(crate) fn drop_on_define(&self, from: &str, to: &str) {
        self.state().drops = Some((from.to_owned(), to.to_owned()));
    }

    /// After each of the next reads somebody else defines one of `texts`.
    pub(crate) fn edit_after_reads(&self, domain: &DomainRef, texts: Vec<String>) {
        let edits = texts.into_iter().map(|text| (domain.uuid.clone(), text));
        self.state().edits = edits.collect();
    }

    /// From now on every define fails.
    pub(crate) fn refuse_defines(&self, words: &str) {
        self.state().refuses = Some(words.to_owned());
    }

    /// From now on only who may see secrets sees `secret`.
    pub(crate) fn hide(&self, secret: &str) {
        self.state().secret = Some(secret.to_owned());
    }

    /// From now on whoever only looks waits, until it is opened again.
    pub(crate) fn close_to_looks(&self, closed: bool) {
        *self.closed.lock().unwrap_or_else(PoisonError::into_inner) = closed;
        self.opened.notify_all();
    }

    /// From now on every define waits, until they are let go.
    pub(crate) fn hold_defines(&self, held: bool) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = held;
        self.let_go.notify_all();
    }

    /// Around the next define another client does this.
    pub(crate) fn act(&self, point: Point, act: Act) {
        self.state().acts.push((point, act));
    }

    /// From now on events come so much later.
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

    /// From now on each define is told to `events`.
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
        // Nobody hears any more.
        let _ = events.as_ref().map(|events| events.send(event));
    }

    /// What another client does at this point of our define of `domain`.
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

    /// Whether the domain has a definition.
    pub(crate) fn has(&self, domain: &DomainRef) -> bool {
        self.state().definitions.contains_key(&domain.uuid)
    }

    /// How many have begun to look.
    pub(crate) fn looking(&self) -> usize {
        self.looking.load(Ordering::SeqCst)
    }

    fn look(&self) {
        self.looking.fetch_add(1, Ordering::SeqCst);
        let closed = self.closed.lock().unwrap_or_else(PoisonError::into_inner);
        drop(self.opened.wait_while(closed, |closed| *closed));
    }

    /// How often it was asked what guests can have.
    pub(crate) fn asked(&self) -> usize {
        self.state().asked
    }

    /// What guests can have.
    pub(crate) fn can(&self, capabilities: Capabilities) {
        self.state().capabilities = capabilities;
    }

    /// Its networks from now on.
    pub(crate) fn has_networks(&self, networks: Networks) {
        self.state().networks = networks;
    }

    /// How often it was asked for its networks.
    pub(crate) fn asked_for_networks(&self) -> usize {
        self.state().asked_for_networks
    }

    /// How many defines there were.
    pub(crate) fn defines(&self) -> usize {
        self.state().defines
    }

    /// The present definition.
    pub(crate) fn text(&self, domain: &DomainRef) -> String {
        self.state().definitions[&domain.uuid].clone()
    }
}

impl State {
    /// The definition, before somebody edits it.
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
            return Err(LibvirtError::Said("monitor is busy".into()));
        }
        state.stale.retain(|other| other != id);
        Ok(())
    }

    fn capabilities(&self, _: &Domain) -> Result<Capabilities, LibvirtError> {
        let mut state = self.state();
        state.asked += 1;
        Ok(state.capabilities.clone())
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
        drop(self.let_go.wait_while(held, |held| *held));
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
                return Err(LibvirtError::Said(words.clone()));
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
