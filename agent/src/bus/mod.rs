//! The D-Bus service `org.variantd1`: `/org/variantd1`, and an object per device. And `org.variantd1.Hook`, on a
//! connection of its own: what anybody sends to the first never stands before what libvirt waits for.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract; a test compares it with what is served.

mod announce;
mod authority;
mod caller;
mod device;
mod error;
mod hook;
mod job;
mod manager;
mod object;
mod publish;
mod turn;

use std::io;
use std::sync::Arc;
use std::thread;

use tokio::runtime::{self, Handle};
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use zbus::Connection;
use zbus::connection::Builder;
use zbus::fdo::ObjectManager;

use crate::progress::carried;

pub use announce::announce;
pub use authority::Authority;
pub use error::BusError;
pub use hook::Hook;
pub use job::Jobs;
pub use manager::{Manager, Reload};
pub use publish::{Publisher, Sources};
pub use turn::Turns;

/// The bus name.
pub const NAME: &str = "org.variantd1";
/// The hook's bus name.
pub const HOOK_NAME: &str = "org.variantd1.Hook";
/// The manager's object.
pub const MANAGER: &str = "/org/variantd1";
/// The hook's object.
pub const HOOK: &str = "/org/variantd1/Hook";

/// Adds the manager to a connection, and the list of all objects.
pub fn serve(builder: Builder<'_>, manager: Manager) -> Builder<'_> {
    let builder = builder.serve_at(MANAGER, ObjectManager);
    builder.serve_at(MANAGER, manager)
}

/// Serves the hook's object on a connection and in a thread of its own, and gives both; it has no name yet. Neither on
/// the bus nor here does a call of libvirt's hook wait behind what somebody else sends.
///
/// # Errors
/// When there is no bus, or no thread to be had.
pub async fn serve_hook(hook: Hook) -> zbus::Result<(Connection, Handle)> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    let (send, made) = oneshot::channel();
    let serve = move || {
        runtime.block_on(async {
            let connection = Builder::system().serve_at(HOOK, hook).build().await;
            let served = connection.as_ref().ok().cloned();
            let _ = send.send(connection);
            if let Some(connection) = served {
                connection.closed().await;
            }
        });
    };
    thread::Builder::new().name("hook".into()).spawn(serve)?;
    let ended = || io::Error::other("the thread of the hook has ended");
    let connection = made.await.map_err(|_| ended())??;
    Ok((connection, handle))
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
