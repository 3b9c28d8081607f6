//! The D-Bus service `org.variantd1`: `/org/variantd1`, and an object per device. And `org.variantd1.Hook`, on a
//! connection of its own, and past the bus on a socket: what anybody sends to the first never stands before what libvirt waits for.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract; a test compares it with what is served.

mod about;
mod announce;
mod authority;
mod budget;
mod caller;
mod device;
mod error;
mod frame;
mod gate;
mod hook;
mod job;
mod lane;
mod manager;
mod name;
mod object;
mod publish;
mod socket;

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{self, Handle};
use tokio::task::spawn_blocking;
use tracing::warn;
use zbus::connection::Builder;
use zbus::fdo::ObjectManager;
use zbus::{Address, Connection};

use crate::progress::carried;

use gate::Who;

pub use announce::announce;
pub use authority::Authority;
pub use budget::MEMORY_BOUND;
pub use caller::Callers;
pub use error::BusError;
pub use hook::Hook;
pub use job::Jobs;
pub use lane::Lanes;
pub use manager::{Manager, Reload};
pub use name::{Lost, NameError, release, request, require_free};
pub use publish::{Publisher, Sources};
pub use socket::Socket;

/// The bus name.
pub const NAME: &str = "org.variantd1";
/// The hook's bus name.
pub const HOOK_NAME: &str = "org.variantd1.Hook";
/// The manager's object.
pub const MANAGER: &str = "/org/variantd1";
/// The hook's object.
pub const HOOK: &str = "/org/variantd1/Hook";

/// How far everything else stands behind the hook (nice(2)); by as much variantd.service has the agent before other programs.
const BEHIND: i32 = 10;

/// How far plans and other long work stand behind the loop that reads the bus.
const BEHIND_THE_BUS: i32 = 5;

/// Adds the manager to a connection, and the list of all objects.
pub(crate) fn serve(builder: Builder<'_>, manager: Manager) -> Builder<'_> {
    let builder = builder.serve_at(MANAGER, ObjectManager);
    builder.serve_at(MANAGER, manager)
}

/// Starts the thread in which the hook is served, and gives its runtime. Made before [`give_way`], it comes before all others.
///
/// # Errors
/// When there is no thread to be had.
pub fn hook_thread() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let serve = move || runtime.block_on(pending::<()>());
    thread::Builder::new().name("hook".into()).spawn(serve)?;
    Ok(handle)
}

/// Has this thread, and all that it starts, stand back behind the hook's, for which libvirt waits.
pub fn give_way() {
    if let Err(error) = rustix::process::nice(BEHIND) {
        warn!("libvirt's hook has to share the processor with other callers: {error}");
    }
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
        who: Who,
        add: impl FnOnce(Builder<'static>) -> Builder<'static>,
    ) -> zbus::Result<Self> {
        let address = Address::system()?;
        let connection = gate::connect(&address, callers.clone(), who, add).await?;
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
    Served::through_gate(callers, Who::Everybody, add).await
}

/// Serves the hook's object on a connection of its own, in its `thread`; it has no name yet. Neither on the bus nor here does a
/// call of libvirt's hook wait behind what somebody else sends.
///
/// # Errors
/// When there is no bus.
pub async fn serve_hook(hook: Hook, thread: &Handle) -> zbus::Result<Served> {
    let served = thread.spawn(async {
        let callers = Callers::on(Builder::system()).await?;
        let hook = Hook {
            callers: callers.clone(),
            ..hook
        };
        let add = |builder: Builder<'static>| builder.serve_at(HOOK, hook);
        Served::through_gate(callers, Who::Root, add).await
    });
    served.await.map_err(io::Error::other)?
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
