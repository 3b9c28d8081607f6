//! The D-Bus service `org.variantd1`: `/org/variantd1`, and an object per device. libvirt's hook uses its own socket:
//! `crate::hook`.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract; a test compares it with the served interfaces.

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

/// Priority (nice(2)) of plans and other long work, lower than that of the loop that reads the bus.
const NICE: i32 = 5;

/// Adds the manager and the list of all objects to a connection.
pub(crate) fn serve(builder: Builder<'_>, manager: Manager) -> Builder<'_> {
    let builder = builder.serve_at(MANAGER, ObjectManager);
    builder.serve_at(MANAGER, manager)
}

/// Lowers the priority of this thread below the one that reads the bus.
pub fn lower_priority() {
    // A failure only makes other threads slower.
    let _ = rustix::process::nice(NICE);
}

/// The connection that serves, and the one on which the bus is queried for callers.
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

    /// Returns when one of the two is closed: without either no call is answered.
    pub async fn closed(&self) {
        tokio::select! {
            () = self.connection.closed() => {}
            () = self.callers.closed() => {}
        }
    }
}

/// Serves the manager on the system bus, behind the filter; it has no name yet.
///
/// # Errors
/// There is no bus.
pub async fn serve_manager(manager: Manager) -> zbus::Result<Served> {
    let callers = manager.authority.callers.clone();
    let add = |builder| serve(builder, manager);
    Served::through_gate(callers, add).await
}

/// Runs `work`, which may block, on `part` in its own thread.
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
