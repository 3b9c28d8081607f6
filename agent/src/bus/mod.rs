//! The D-Bus service `org.variantd1`: `/org/variantd1`, and an object per device. libvirt's hook does not come here: `crate::hook`.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract; a test compares it with what is served.

mod about;
mod announce;
mod authority;
mod budget;
mod call;
mod caller;
mod device;
mod error;
mod frame;
mod gate;
mod job;
mod lane;
mod manager;
mod method;
mod name;
mod object;
mod publish;

use std::sync::Arc;

use api::name::MANAGER;
use tokio::task::spawn_blocking;
use zbus::connection::Builder;
use zbus::fdo::ObjectManager;
use zbus::{Address, Connection};

use crate::progress::carried;

pub use announce::announce;
pub use authority::Authority;
pub use budget::MEMORY_BOUND;
pub use caller::Callers;
pub use error::BusError;
pub use job::Jobs;
pub use lane::Lanes;
pub use manager::{Manager, Reload};
pub use name::{Lost, NameError, release, request, require_free};
pub use publish::{Publisher, Sources};

/// How far plans and other long work stand behind the loop that reads the bus (nice(2)).
const BEHIND_THE_BUS: i32 = 5;

/// Adds the manager to a connection, and the list of all objects.
pub(crate) fn serve(builder: Builder<'_>, manager: Manager) -> Builder<'_> {
    let builder = builder.serve_at(MANAGER, ObjectManager);
    builder.serve_at(MANAGER, manager)
}

/// Has this thread stand back behind the one that reads the bus.
pub fn stand_back() {
    // Without effect it is only slower for others.
    let _ = rustix::process::nice(BEHIND_THE_BUS);
}

/// A connection that serves, and the one on which the bus is asked who calls.
#[derive(Debug)]
pub struct Served {
    /// Ends the service when dropped.
    pub connection: Connection,
    callers: Callers,
}

impl Served {
    async fn through_gate(
        callers: Callers,
        add: impl FnOnce(Builder<'static>) -> Builder<'static>,
    ) -> zbus::Result<Self> {
        let address = Address::system()?;
        let connection = gate::connect(&address, callers.clone(), add).await?;
        Ok(Self {
            connection,
            callers,
        })
    }

    /// Returns once one of the two is closed: without either no call is answered.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.connection.closed() => {}
            () = self.callers.closed() => {}
        }
    }
}

/// Serves the manager on the system bus, behind a gate; it has no name yet.
///
/// # Errors
/// When there is no bus.
pub async fn serve_manager(manager: Manager) -> zbus::Result<Served> {
    let callers = manager.authority.callers.clone();
    let add = |builder| serve(builder, manager);
    Served::through_gate(callers, add).await
}

/// Runs `work`, which may block, on `part` in a thread of its own.
async fn blocking<P, T>(part: &Arc<P>, work: impl FnOnce(&P) -> T + Send + 'static) -> T
where
    P: Send + Sync + 'static,
    T: Send + 'static,
{
    let part = part.clone();
    let done = spawn_blocking(carried(move || work(&part))).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests;
