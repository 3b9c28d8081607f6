//! The D-Bus interface `org.variantd1` as the agent and its clients share it.
//!
//! `packaging/dbus/org.variantd1.xml` is the contract. Must use nothing of libvirt: clients do not load its libraries.

pub mod again;
pub mod client;
pub mod name;
pub mod refused;
pub mod report;
