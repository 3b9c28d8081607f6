//! The hook's socket: Varlink for libvirt's qemu hook, without the bus, for root alone. `hooks::protocol` describes the
//! messages.
//!
//! ```text
//! socket.rs      listens, or uses systemd's socket (activation.rs); accepts root, up to a number of connections
//! connection.rs  one connection: messages with deadlines, dispatch, progress
//! operation.rs   the work of each operation of libvirt
//! ```

mod activation;
mod connection;
mod operation;
mod socket;

pub use operation::Hook;
pub use socket::{Socket, thread};

#[cfg(test)]
mod tests;
