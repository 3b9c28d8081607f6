//! The hook's socket: Varlink for libvirt's qemu hook, past the bus, for root alone. `hooks::protocol` describes the messages.
//!
//! ```text
//! socket.rs      listens, or takes systemd's socket (activation.rs); lets root in, and no more than there is room for
//! connection.rs  one connection: messages with deadlines, dispatch, progress
//! operation.rs   what each operation of libvirt's does
//! ```

mod activation;
mod connection;
mod operation;
mod socket;

pub use operation::Hook;
pub use socket::{Socket, thread};

#[cfg(test)]
mod tests;
