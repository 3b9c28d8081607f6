//! The live connection: opened in its own thread, and opened again when the daemon restarts.
//!
//! One thread runs libvirt's default event loop for the life of the process; another opens the connection, registers
//! for events and waits for its end. Calls come from any thread and share the connection; libvirt serialises them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Once, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::UnboundedSender;
use tracing::{debug, info, warn};
use virt::connect::Connect;
use virt::domain::Domain;
use virt_sys as sys;

use super::event::{Sink, Watch};
use super::{Capabilities, Changes, DomainRef, Event, Libvirt, LibvirtError, initiator, network};
use domain::{Domain as Definition, DomainUuid};
use planner::from_libvirt::Networks;
use planner::target::{Version, Versions};

/// Seconds between keepalive messages, and how many may go unanswered.
const KEEPALIVE: (i32, u32) = (5, 3);
/// Shortest pause between attempts to connect, and the only one while a call waits.
const SHORTEST_PAUSE: Duration = Duration::from_millis(250);
/// Longest pause between attempts to connect.
const LONGEST_PAUSE: Duration = Duration::from_secs(15);

/// libvirt has one event loop per process.
static EVENT_LOOP: Once = Once::new();

/// QEMU runs on this host as a separate process.
const PROCESSES: &str = "/proc";

/// Maximum time that a call waits for a connection: the call itself may have started the agent, and libvirt's daemon
/// may be restarting. After this time without a connection, a call waits for one more attempt only, so that sequential
/// calls do not add up.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection that is opened again when the daemon restarts.
#[derive(Clone, Default)]
pub struct Live {
    current: Arc<Current>,
}

#[derive(Default)]
struct Current {
    state: Mutex<State>,
    changed: Condvar,
    changes: Arc<Changes>,
}

struct State {
    open: Option<Open>,
    /// The time since which there is no connection; meaningless while there is one.
    without_since: Instant,
    /// Number of begun and of ended attempts to connect.
    begun: u64,
    ended: u64,
    /// Calls that wait for a connection.
    waiting: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            open: None,
            without_since: Instant::now(),
            begun: 0,
            ended: 0,
            waiting: 0,
        }
    }
}

/// A connection, and the capabilities that libvirt reported on it, valid as long as the connection.
#[derive(Clone)]
struct Open {
    connect: Connect,
    capabilities: Arc<Mutex<BTreeMap<Kind, Capabilities>>>,
}

/// Architecture, machine type and accelerator.
type Kind = [Option<String>; 3];

/// Starts the two threads; events go to `events`, first [`Event::Connected`].
///
/// # Errors
/// libvirt's library cannot set up its event loop.
pub fn connect(uri: String, events: UnboundedSender<Event>) -> Result<Live, LibvirtError> {
    // Otherwise the library prints each error to standard error, in addition to returning it.
    virt::error::clear_error_callback();
    // Must come before the first connection: a connection without an event loop has no events and no keepalive.
    virt::event::event_register_default_impl().map_err(printed)?;
    let live = Live::default();
    let kept = live.clone();
    EVENT_LOOP.call_once(|| drop(thread::spawn(run_events)));
    thread::spawn(move || kept.keep_open(&uri, &events));
    Ok(live)
}

fn run_events() {
    loop {
        if let Err(error) = virt::event::event_run_default_impl() {
            warn!(
                "libvirt's event loop failed, and continues in 1 s: {}",
                error.message()
            );
            thread::sleep(Duration::from_secs(1));
        }
    }
}

impl Live {
    fn keep_open(&self, uri: &str, events: &UnboundedSender<Event>) {
        let mut pause = SHORTEST_PAUSE;
        while !events.is_closed() {
            lock(&self.current.state).begun += 1;
            match self.open(uri, events) {
                Ok(()) => pause = SHORTEST_PAUSE,
                Err(error) => debug!("cannot connect to '{uri}': {}", error.message()),
            }
            lock(&self.current.state).ended += 1;
            self.current.changed.notify_all();
            // Also after a connection that was open: a daemon that ends at each connection must not cause a busy loop.
            self.rest(pause);
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Pauses between two attempts; a waiting call shortens the pause.
    fn rest(&self, pause: Duration) {
        thread::sleep(SHORTEST_PAUSE);
        let longer = pause.saturating_sub(SHORTEST_PAUSE);
        let state = lock(&self.current.state);
        let no_caller = |state: &mut State| state.waiting == 0;
        drop(
            self.current
                .changed
                .wait_timeout_while(state, longer, no_caller),
        );
    }

    /// Opens the connection, serves until its end, and closes it.
    fn open(&self, uri: &str, events: &UnboundedSender<Event>) -> Result<(), virt::error::Error> {
        let connect = Connect::open(Some(uri))?;
        // libvirt's test driver has no keepalive; the close callback works without it.
        let _ = connect.set_keep_alive(KEEPALIVE.0, KEEPALIVE.1);
        let (closed, wait) = mpsc::channel();
        let sink = Sink {
            events: events.clone(),
            changes: self.current.changes.clone(),
        };
        let watch = Watch::register(&connect, sink, closed)?;
        let versions = Versions {
            // The daemon's version. `virGetVersion` would be that of the library in this process.
            libvirt: Version::from_number(connect.lib_version()?),
            qemu: Version::from_number(connect.hyp_version()?),
        };
        // After the registration, so that no change made through this connection goes without its event.
        self.replace(Some(Open {
            connect,
            capabilities: Arc::default(),
        }));
        info!("connected to '{uri}': {versions}");
        let _ = events.send(Event::Connected(versions));
        let reason = wait.recv().unwrap_or("end");
        self.replace(None);
        // After `replace`: no new call may use a connection whose registrations are gone.
        drop(watch);
        warn!("connection to '{uri}' closed: {reason}");
        let _ = events.send(Event::Disconnected);
        Ok(())
    }

    fn replace(&self, open: Option<Open>) {
        let mut state = lock(&self.current.state);
        state.without_since = Instant::now();
        state.open = open;
        self.current.changed.notify_all();
    }

    /// Returns a separate reference, so that no lock is held during a call.
    fn opened(&self) -> Result<Open, LibvirtError> {
        let mut state = lock(&self.current.state);
        // The attempt in progress may have begun before libvirt was reachable.
        let next = state.begun + 1;
        let hopes = |state: &mut State| {
            let lately = state.without_since.elapsed() < CONNECT_TIMEOUT;
            state.open.is_none() && (lately || state.ended < next)
        };
        state.waiting += 1;
        self.current.changed.notify_all();
        let waited = self
            .current
            .changed
            .wait_timeout_while(state, CONNECT_TIMEOUT, hopes);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.waiting -= 1;
        state.open.clone().ok_or(LibvirtError::Disconnected)
    }

    fn now(&self) -> Result<Connect, LibvirtError> {
        self.opened().map(|open| open.connect)
    }

    fn lookup(&self, uuid: &DomainUuid) -> Result<Option<Domain>, LibvirtError> {
        known(self.now()?.lookup_domain_by_uuid_string(&uuid.to_string()))
    }

    /// QEMU's reply on its monitor; libvirt writes each such command to the guest's log.
    fn ask_qemu(&self, uuid: &DomainUuid, command: &str) -> Result<String, LibvirtError> {
        let gone = || LibvirtError::Reported(format!("no domain with UUID {uuid}"));
        let domain = self.lookup(uuid)?.ok_or_else(gone)?;
        let flags = sys::VIR_DOMAIN_QEMU_MONITOR_COMMAND_DEFAULT;
        domain.qemu_monitor_command(command, flags).map_err(printed)
    }

    fn definition(&self, uuid: &DomainUuid, flags: u32) -> Result<Option<String>, LibvirtError> {
        let Some(domain) = self.lookup(uuid)? else {
            return Ok(None);
        };
        // For a transient domain VIR_DOMAIN_XML_INACTIVE returns its live definition.
        if known(domain.is_persistent())? != Some(true) {
            return Ok(None);
        }
        known(domain.xml_desc(sys::VIR_DOMAIN_XML_INACTIVE | flags))
    }
}

impl Libvirt for Live {
    fn defined(&self) -> Result<Vec<DomainRef>, LibvirtError> {
        let flags = sys::VIR_CONNECT_LIST_DOMAINS_PERSISTENT;
        let domains = self.now()?.list_all_domains(flags).map_err(printed)?;
        domains.iter().map(named).collect()
    }

    fn running(&self) -> Result<Vec<(DomainRef, String)>, LibvirtError> {
        let flags = sys::VIR_CONNECT_LIST_DOMAINS_ACTIVE;
        let domains = self.now()?.list_all_domains(flags).map_err(printed)?;
        let live = domains
            .iter()
            .filter_map(|domain| Some((named(domain), known(domain.xml_desc(0)).transpose()?)));
        live.map(|(domain, xml)| Ok((domain?, xml?))).collect()
    }

    fn find(&self, name: &str) -> Result<Option<DomainRef>, LibvirtError> {
        // A domain's name can have the form of a UUID; libvirt's own tools try the UUID first, too (virsh-util.c).
        let by_uuid = match name.parse::<DomainUuid>() {
            Ok(uuid) => self.lookup(&uuid)?,
            Err(()) => None,
        };
        let domain = match by_uuid {
            Some(domain) => Some(domain),
            None => known(self.now()?.lookup_domain_by_name(name))?,
        };
        domain.as_ref().map(named).transpose()
    }

    fn inactive_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        self.definition(uuid, sys::VIR_DOMAIN_XML_SECURE)
    }

    fn public_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        self.definition(uuid, 0)
    }

    fn is_active(&self, uuid: &DomainUuid) -> Result<bool, LibvirtError> {
        match self.lookup(uuid)? {
            Some(domain) => Ok(known(domain.is_active())?.unwrap_or(false)),
            None => Ok(false),
        }
    }

    fn live_xml(&self, uuid: &DomainUuid) -> Result<Option<String>, LibvirtError> {
        let Some(domain) = self.lookup(uuid)? else {
            return Ok(None);
        };
        let xml = known(domain.xml_desc(0))?;
        // Called last: without a running guest the text was the definition.
        let runs = known(domain.is_active())?.unwrap_or(false);
        Ok(xml.filter(|_| runs))
    }

    fn stale_initiators(&self, uuid: &DomainUuid) -> Result<Vec<String>, LibvirtError> {
        let started_with = initiator::started_with(Path::new(PROCESSES), uuid);
        let live = self.live_xml(uuid)?.unwrap_or_default();
        // QEMU's monitor is used only in this case, because libvirt marks the guest as tainted.
        if initiator::have_devices(&started_with, &live) {
            return Ok(Vec::new());
        }
        let names = |path| {
            let answer = self.ask_qemu(uuid, &initiator::list(path))?;
            initiator::names(&answer).map_err(LibvirtError::Reported)
        };
        let (objects, devices) = (names(initiator::OBJECTS)?, names(initiator::DEVICES)?);
        Ok(initiator::stale(&started_with, &objects, &devices))
    }

    fn delete_initiator(&self, uuid: &DomainUuid, id: &str) -> Result<(), LibvirtError> {
        let answer = self.ask_qemu(uuid, &initiator::delete(id))?;
        let nothing: Result<serde_json::Map<_, _>, _> = initiator::returned(&answer);
        nothing.map(drop).map_err(LibvirtError::Reported)
    }

    fn capabilities(&self, domain: &Definition) -> Result<Capabilities, LibvirtError> {
        let accelerator = &domain.platform.accelerator;
        let kind = [&domain.arch, &domain.machine, accelerator].map(Clone::clone);
        let open = self.opened()?;
        if let Some(known) = lock(&open.capabilities).get(&kind) {
            return Ok(known.clone());
        }
        let [arch, machine, accelerator] = kind.each_ref().map(Option::as_deref);
        let text = open
            .connect
            .domain_capabilities(None, arch, machine, accelerator, 0);
        let capabilities = Capabilities::parse(&text.map_err(printed)?);
        lock(&open.capabilities).insert(kind, capabilities.clone());
        Ok(capabilities)
    }

    fn translate(&self, xml: &str) -> Result<String, LibvirtError> {
        let connect = self.now()?;
        connect
            .domain_xml_to_native("qemu-argv", xml, 0)
            .map_err(printed)
    }

    fn networks(&self) -> Result<Networks, LibvirtError> {
        network::networks(&self.now()?).map_err(printed)
    }

    fn changes(&self) -> &Changes {
        &self.current.changes
    }

    fn undefine(&self, uuid: &DomainUuid) -> Result<(), LibvirtError> {
        let Some(domain) = self.lookup(uuid)? else {
            return Ok(());
        };
        // Without one of the flags libvirt refuses to undefine a domain that has an NVRAM file.
        let nvram = sys::VIR_DOMAIN_UNDEFINE_KEEP_NVRAM;
        let all = domain.undefine_flags(nvram | sys::VIR_DOMAIN_UNDEFINE_KEEP_TPM);
        // libvirt before 8.9 does not know the flag of the TPM, nor does libvirt's test driver.
        let undefined = all
            .or_else(|_| domain.undefine_flags(nvram))
            .or_else(|_| domain.undefine());
        known(undefined).map(drop)
    }

    fn define(&self, xml: &str) -> Result<(), LibvirtError> {
        let defined = self
            .now()?
            // Against libvirt's schema: without the flag it drops unknown elements without an error.
            .define_domain_xml_flags(xml, sys::VIR_DOMAIN_DEFINE_VALIDATE);
        defined.map(drop).map_err(printed)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn named(domain: &Domain) -> Result<DomainRef, LibvirtError> {
    let uuid = domain.uuid_string().map_err(printed)?;
    Ok(DomainRef {
        uuid: uuid
            .parse()
            .map_err(|()| LibvirtError::Reported(format!("'{uuid}' is not a UUID")))?,
        name: domain.name().map_err(printed)?,
    })
}

/// A domain that was removed meanwhile is not an error.
fn known<T>(result: Result<T, virt::error::Error>) -> Result<Option<T>, LibvirtError> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.code().to_raw() == sys::VIR_ERR_NO_DOMAIN => Ok(None),
        Err(error) => Err(printed(error)),
    }
}

pub(super) fn printed(error: virt::error::Error) -> LibvirtError {
    LibvirtError::Reported(error.message().to_owned())
}

#[cfg(test)]
#[path = "connection_test.rs"]
mod test;
