//! The event shim: turns libvirt's callbacks into channel messages.
//!
//! Callbacks run in the event loop's thread and make no libvirt call except reading a domain's name and UUID, which are
//! stored in its handle.

#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Arc;
use std::sync::mpsc::Sender;

use tokio::sync::mpsc::UnboundedSender;
use virt::connect::Connect;
use virt::error::Error;
use virt_sys as sys;

use super::{Change, Changes, DomainRef, Event};

/// The receivers of events: the stored changes of definitions first, so that a receiver of the event finds the change
/// there.
#[derive(Clone)]
pub(super) struct Sink {
    pub(super) events: UnboundedSender<Event>,
    pub(super) changes: Arc<Changes>,
}

impl Sink {
    fn send(&self, event: Event) {
        match &event {
            Event::Defined(domain) => self.changes.note(&domain.uuid, Change::Defined),
            Event::Undefined(domain) => self.changes.note(&domain.uuid, Change::Undefined),
            _ => {}
        }
        let _ = self.events.send(event);
    }
}

/// Registrations on a connection; dropping it removes them, which allows the connection to close.
pub(super) struct Watch {
    connect: Connect,
    registered: Vec<c_int>,
    /// The registration for networks; a daemon without networks has none.
    networks: Option<c_int>,
    /// The data of `on_close`; a driver without a close event, such as libvirt's test driver, accepts the registration
    /// and frees nothing.
    closed: *mut Sender<&'static str>,
}

impl Watch {
    /// Registers for events of guests, for removed devices, and for the connection's end.
    pub(super) fn register(
        connect: &Connect,
        events: Sink,
        closed: Sender<&'static str>,
    ) -> Result<Self, Error> {
        let mut watch = Self {
            connect: connect.clone(),
            registered: Vec::new(),
            networks: None,
            closed: Box::into_raw(Box::new(closed)),
        };
        watch.add(lifecycle(), events.clone())?;
        watch.add(removal(), events.clone())?;
        watch.add_networks(events);
        watch.add_close()?;
        Ok(watch)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: the connection is alive (we hold a reference), and all registrations, if they
        // exist, are ours; libvirt frees the data of events itself. A failure means they do not exist. `on_close` is called
        // under the lock that its end takes (src/datatypes.c), so no callback uses `closed` any more.
        unsafe {
            for id in &self.registered {
                sys::virConnectDomainEventDeregisterAny(self.connect.as_ptr(), *id);
            }
            if let Some(id) = self.networks {
                sys::virConnectNetworkEventDeregisterAny(self.connect.as_ptr(), id);
            }
            sys::virConnectUnregisterCloseCallback(self.connect.as_ptr(), Some(on_close));
            drop(Box::from_raw(self.closed));
        }
    }
}

type LifecycleCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, c_int, c_int, *mut c_void) -> c_int;
type RemovalCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *const c_char, *mut c_void);
type NetworkCallback =
    unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, c_int, c_int, *mut c_void);
type AnyNetworkCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virNetworkPtr, *mut c_void);
type GenericCallback = unsafe extern "C" fn(sys::virConnectPtr, sys::virDomainPtr, *mut c_void);

/// An event type, with a callback whose data is the boxed sender.
struct Subscription {
    event: c_int,
    callback: GenericCallback,
}

fn lifecycle() -> Subscription {
    Subscription {
        event: sys::VIR_DOMAIN_EVENT_ID_LIFECYCLE as c_int,
        // SAFETY: this event promises to call with the arguments of `on_lifecycle`
        // (virConnectDomainEventCallback); the cast is libvirt's own macro VIR_DOMAIN_EVENT_CALLBACK.
        callback: unsafe {
            std::mem::transmute::<LifecycleCallback, GenericCallback>(on_lifecycle as _)
        },
    }
}

fn removal() -> Subscription {
    Subscription {
        event: sys::VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED as c_int,
        // SAFETY: the same, with the arguments of `on_removal` (virConnectDomainEventDeviceRemovedCallback).
        callback: unsafe {
            std::mem::transmute::<RemovalCallback, GenericCallback>(on_removal as _)
        },
    }
}

impl Watch {
    fn add(&mut self, subscription: Subscription, events: Sink) -> Result<(), Error> {
        let data = Box::into_raw(Box::new(events));
        // SAFETY: the callback fits its event, by the making of the subscription, and takes `data`, which
        // lives until libvirt calls `free_events` with it.
        let id = unsafe {
            sys::virConnectDomainEventRegisterAny(
                self.connect.as_ptr(),
                std::ptr::null_mut(),
                subscription.event,
                Some(subscription.callback),
                data.cast(),
                Some(free_events),
            )
        };
        if id >= 0 {
            self.registered.push(id);
            return Ok(());
        }
        // SAFETY: registration failed, so libvirt does not know `data` and it is still ours alone.
        drop(unsafe { Box::from_raw(data) });
        Err(Error::last_error())
    }

    /// A failure is not an error of the connection: another daemon serves networks, and need not run.
    fn add_networks(&mut self, events: Sink) {
        let data = Box::into_raw(Box::new(events));
        // SAFETY: this event promises to call with the arguments of `on_network`
        // (virConnectNetworkEventLifecycleCallback); the cast is libvirt's own macro VIR_NETWORK_EVENT_CALLBACK.
        let callback =
            unsafe { std::mem::transmute::<NetworkCallback, AnyNetworkCallback>(on_network as _) };
        // SAFETY: the callback fits its event and takes `data`, which lives until libvirt calls `free_events` with it.
        let id = unsafe {
            sys::virConnectNetworkEventRegisterAny(
                self.connect.as_ptr(),
                std::ptr::null_mut(),
                sys::VIR_NETWORK_EVENT_ID_LIFECYCLE as c_int,
                Some(callback),
                data.cast(),
                Some(free_events),
            )
        };
        if id >= 0 {
            self.networks = Some(id);
            return;
        }
        // SAFETY: registration failed, so libvirt does not know `data` and it is still ours alone.
        drop(unsafe { Box::from_raw(data) });
    }

    fn add_close(&self) -> Result<(), Error> {
        // SAFETY: `closed` lives until the registration has been taken back.
        let status = unsafe {
            sys::virConnectRegisterCloseCallback(
                self.connect.as_ptr(),
                Some(on_close),
                self.closed.cast(),
                None,
            )
        };
        match status {
            0 => Ok(()),
            _ => Err(Error::last_error()),
        }
    }
}

unsafe extern "C" fn on_lifecycle(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    event: c_int,
    _detail: c_int,
    data: *mut c_void,
) -> c_int {
    // SAFETY: `data` is the boxed sender given at registration; callbacks of one registration come
    // from the one event loop thread. `domain` is valid during the call.
    let (events, domain) = unsafe { (&*data.cast::<Sink>(), named(domain)) };
    if let Some(event) = domain.and_then(|domain| event_of(event, domain)) {
        events.send(event);
    }
    0
}

unsafe extern "C" fn on_removal(
    _connect: sys::virConnectPtr,
    domain: sys::virDomainPtr,
    _alias: *const c_char,
    data: *mut c_void,
) {
    // SAFETY: as in `on_lifecycle`.
    let (events, domain) = unsafe { (&*data.cast::<Sink>(), named(domain)) };
    if let Some(domain) = domain {
        events.send(Event::Unplugged(domain));
    }
}

unsafe extern "C" fn on_network(
    _connect: sys::virConnectPtr,
    _network: sys::virNetworkPtr,
    _event: c_int,
    _detail: c_int,
    data: *mut c_void,
) {
    // SAFETY: as in `on_lifecycle`.
    let events = unsafe { &*data.cast::<Sink>() };
    events.send(Event::Networks);
}

unsafe extern "C" fn on_close(_connect: sys::virConnectPtr, reason: c_int, data: *mut c_void) {
    // SAFETY: `data` is the sender that the registration's `Watch` keeps.
    let closed = unsafe { &*data.cast::<Sender<&'static str>>() };
    let reason = match reason.cast_unsigned() {
        sys::VIR_CONNECT_CLOSE_REASON_EOF => "the daemon ended",
        sys::VIR_CONNECT_CLOSE_REASON_KEEPALIVE => "no answer to keepalive messages",
        _ => "an error or our own end",
    };
    let _ = closed.send(reason);
}

unsafe extern "C" fn free_events(data: *mut c_void) {
    // SAFETY: libvirt calls this once, with the pointer given at registration.
    drop(unsafe { Box::from_raw(data.cast::<Sink>()) });
}

/// # Safety
/// `domain` must be a valid domain handle.
unsafe fn named(domain: sys::virDomainPtr) -> Option<DomainRef> {
    let mut uuid = [0 as c_char; sys::VIR_UUID_STRING_BUFLEN as usize];
    // SAFETY: the handle is valid by contract and keeps its name for its life; the buffer has the
    // documented size and is ended by NUL on success.
    let (uuid, name) = unsafe {
        if sys::virDomainGetUUIDString(domain, uuid.as_mut_ptr()) != 0 {
            return None;
        }
        let name = sys::virDomainGetName(domain);
        if name.is_null() {
            return None;
        }
        (CStr::from_ptr(uuid.as_ptr()), CStr::from_ptr(name))
    };
    Some(DomainRef {
        uuid: uuid.to_str().ok()?.parse().ok()?,
        name: name.to_string_lossy().into_owned(),
    })
}

fn event_of(event: c_int, domain: DomainRef) -> Option<Event> {
    match event.cast_unsigned() {
        sys::VIR_DOMAIN_EVENT_DEFINED => Some(Event::Defined(domain)),
        sys::VIR_DOMAIN_EVENT_UNDEFINED => Some(Event::Undefined(domain)),
        sys::VIR_DOMAIN_EVENT_STARTED => Some(Event::Started(domain)),
        sys::VIR_DOMAIN_EVENT_STOPPED => Some(Event::Stopped(domain)),
        _ => None,
    }
}
