//! The D-Bus service: name `org.variantd1`, objects `/org/variantd1` and `/org/variantd1/Hook`.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract; a test compares it with what is served.

mod caller;
mod device;
mod error;
mod hook;
mod manager;

use std::sync::Arc;

use tokio::task::spawn_blocking;
use zbus::connection::Builder;

pub use error::BusError;
pub use hook::Hook;
pub use manager::{Manager, Reload};

/// The bus name.
pub const NAME: &str = "org.variantd1";
/// The manager's object.
pub const MANAGER: &str = "/org/variantd1";
/// The hook's object.
pub const HOOK: &str = "/org/variantd1/Hook";

/// Adds both objects to a connection.
pub fn serve(builder: Builder<'_>, manager: Manager, hook: Hook) -> Builder<'_> {
    builder.serve_at(MANAGER, manager).serve_at(HOOK, hook)
}

/// Runs `work`, which may block, on `part` in a thread of its own.
async fn blocking<P, T>(part: &Arc<P>, work: impl FnOnce(&P) -> T + Send + 'static) -> T
where
    P: Send + Sync + 'static,
    T: Send + 'static,
{
    let part = part.clone();
    let done = spawn_blocking(move || work(&part)).await;
    done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))
}

#[cfg(test)]
mod tests;
