//! The callers: the user of a bus name, queried once per name and forgotten when the name disappears.
//!
//! The bus is queried on a separate connection, to which no other client sends, and each query has a deadline.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::name::{MANAGER, MANAGER_INTERFACE, SERVICE};
use nix::unistd::geteuid;
use tokio::time::timeout;
use tracing::debug;
use zbus::connection::Builder;
use zbus::fdo::{DBusProxy, NameOwnerChangedStream};
use zbus::message::Header;
use zbus::{Connection, OwnedVariant};

use super::BusError;
use super::budget::{Budget, Full, Incoming};
use api::client::next;
use domain::code::Code;
use domain::refusal::Refusal;

/// Timeout of a reply of the bus itself.
const DEADLINE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 5 });
/// Timeout of the agent's call to itself over the bus.
const ROUND: Duration = Duration::from_secs(20);

const BUS: &str = "org.freedesktop.DBus";

/// The callers of a connection, and their budget; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    /// `None` for a peer connection without a bus, whose user was checked when it connected.
    bus: Option<Connection>,
    state: Arc<Mutex<State>>,
    /// Number of received calls, without the agent's own.
    heard: Arc<AtomicU64>,
}

#[derive(Debug, Default)]
struct State {
    /// The user of each name that has called; `None` while the bus is queried.
    users: HashMap<String, Option<u32>>,
    budget: Budget,
}

impl Callers {
    /// The callers on the bus of `builder`.
    ///
    /// # Errors
    /// The bus cannot be reached.
    pub async fn on(builder: Builder<'_>) -> zbus::Result<Self> {
        let opened = timeout(DEADLINE, open(builder));
        let (bus, left) = opened.await.map_err(|_| late())??;
        let callers = Self {
            bus: Some(bus),
            ..Self::default()
        };
        tokio::spawn(callers.clone().forget(left));
        Ok(callers)
    }

    async fn forget(self, mut left: NameOwnerChangedStream) {
        while let Some(signal) = next(&mut left).await {
            if let Ok(change) = signal.args() {
                let mut state = self.state();
                // Unique names are never used again (D-Bus specification), so a name can be forgotten when it disappears.
                if state.users.remove(change.name().as_str()).is_some() {
                    state.budget.gone(change.name().as_str());
                }
            }
        }
        debug!("the bus sends no more NameOwnerChanged signals");
    }

    /// Waits until the bus can no longer be queried; forever without a bus.
    pub(super) async fn closed(&self) {
        match &self.bus {
            Some(bus) => bus.closed().await,
            None => pending().await,
        }
    }

    /// The connection for the agent's own questions; `None` without a bus.
    pub(super) fn bus(&self) -> Option<&Connection> {
        self.bus.as_ref()
    }

    /// The user who sent a message; `None` for a peer without a bus.
    pub(super) async fn user(&self, header: &Header<'_>) -> Result<Option<u32>, BusError> {
        match header.sender().filter(|_| self.bus.is_some()) {
            Some(sender) => Ok(Some(self.of_name(sender.as_str()).await?)),
            None => Ok(None),
        }
    }

    /// The user of a unique name.
    ///
    /// # Errors
    /// The name has disappeared, or the bus does not answer in time.
    pub(super) async fn of_name(&self, name: &str) -> zbus::Result<u32> {
        let Some(bus) = &self.bus else {
            return Err(zbus::Error::Unsupported);
        };
        // Entered before the query: a name that disappears meanwhile is removed again.
        if let Some(user) = self.state().users.entry(name.to_owned()).or_default() {
            return Ok(*user);
        }
        let asked = bus.call_method(
            Some(BUS),
            "/org/freedesktop/DBus",
            Some(BUS),
            "GetConnectionUnixUser",
            &name,
        );
        let user = match timeout(DEADLINE, asked).await {
            Ok(reply) => reply.and_then(|reply| reply.body().deserialize::<u32>()),
            Err(_) => Err(late()),
        };
        let mut state = self.state();
        match (state.users.get_mut(name), user) {
            (Some(known), Ok(user)) => {
                *known = Some(user);
                Ok(user)
            }
            (None, Ok(_)) => Err(gone()),
            (_, Err(error)) => {
                state.users.remove(name);
                Err(error)
            }
        }
    }

    /// Counts a call until it is answered; a caller that has disconnected has no budget.
    pub(super) fn admit(&self, call: Incoming<'_>) -> Result<(), Full> {
        let mut state = self.state();
        if !state.users.contains_key(call.sender) {
            // It has left, so an error reply would have no receiver.
            return Err(Full::NotReading);
        }
        if !self.is_ourselves(call.sender) {
            self.heard.fetch_add(1, Ordering::Relaxed);
        }
        state.budget.admit(call)
    }

    /// Adds a caller that is refused before its call is counted.
    pub(super) fn meet(&self, call: &Incoming<'_>) {
        let mut state = self.state();
        if state.users.contains_key(call.sender) {
            state.budget.meet(call);
        }
    }

    /// Runs `work` with the budget.
    pub(super) fn with_budget<T>(&self, work: impl FnOnce(&mut Budget) -> T) -> T {
        work(&mut self.state().budget)
    }

    /// Number of received calls, without the agent's own.
    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::Relaxed)
    }

    /// Calls the agent itself over the bus; does nothing without a bus.
    ///
    /// # Errors
    /// There is no reply in time.
    pub async fn round_trip(&self) -> zbus::Result<()> {
        let Some(bus) = &self.bus else {
            return Ok(());
        };
        let body = (MANAGER_INTERFACE, "Version");
        let properties = Some("org.freedesktop.DBus.Properties");
        let call = bus.call_method(Some(SERVICE), MANAGER, properties, "Get", &body);
        let reply = timeout(ROUND, call).await.map_err(|_| late())??;
        reply.body().deserialize::<OwnedVariant>().map(drop)
    }

    fn is_ourselves(&self, name: &str) -> bool {
        let own = self.bus.as_ref().and_then(Connection::unique_name);
        own.is_some_and(|own| own.as_str() == name)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Opens a connection, and a stream of names that leave the bus.
async fn open(builder: Builder<'_>) -> zbus::Result<(Connection, NameOwnerChangedStream)> {
    let bus = builder.build().await?;
    let driver = DBusProxy::new(&bus).await?;
    // A name without a new owner.
    let left = driver.receive_name_owner_changed_with_args(&[(2, "")]);
    let left = left.await?;
    Ok((bus, left))
}

/// Root, or the user that the agent runs as (tests).
pub(super) fn is_root(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}

/// Checks that the caller is root.
///
/// # Errors
/// [`BusError::not_authorized`].
pub(super) async fn require_root(callers: &Callers, header: &Header<'_>) -> Result<(), BusError> {
    match callers.user(header).await? {
        Some(user) if !is_root(user) => Err(root_only(user)),
        _ => Ok(()),
    }
}

/// The error for other users than root.
pub(super) fn root_only(user: u32) -> BusError {
    let reason = format!("only root may do this, not user {user}");
    let refusal = Refusal::new(Code::NotAuthorized, reason, "use sudo");
    BusError::not_authorized(refusal)
}

fn late() -> zbus::Error {
    zbus::Error::Failure("the bus does not answer in time".into())
}

fn gone() -> zbus::Error {
    zbus::Error::Failure("the caller has left the bus".into())
}

#[cfg(test)]
mod tests;
