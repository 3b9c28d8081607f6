//! The D-Bus service `org.variantd1`: `/org/variantd1`, `/org/variantd1/Hook`, and an object per device.
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

use std::sync::Arc;

use tokio::task::spawn_blocking;
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
/// The manager's object.
pub const MANAGER: &str = "/org/variantd1";
/// The hook's object.
pub const HOOK: &str = "/org/variantd1/Hook";

/// Adds both objects to a connection, and the list of all of them.
pub fn serve(builder: Builder<'_>, manager: Manager, hook: Hook) -> Builder<'_> {
    let builder = builder.serve_at(MANAGER, ObjectManager);
    builder.serve_at(MANAGER, manager).serve_at(HOOK, hook)
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
