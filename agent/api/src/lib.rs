//! The D-Bus interface `org.variantd1`, for the agent and its clients.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract. Must use nothing of libvirt: clients do not load its libraries.

pub mod again;
pub mod client;
pub mod name;
pub mod refused;
pub mod report;
