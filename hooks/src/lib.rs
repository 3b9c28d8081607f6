//! Translates a caller's hook contract to a call of the agent. Decides nothing about devices.
//!
//! Never opens a libvirt connection: libvirt waits for its hook (docs/hooks.rst, "Calling libvirt
//! functions from within a hook script").

pub mod agent;
pub mod answer;
pub mod call;
mod exchange;
pub mod input;
pub mod protocol;
pub mod record;
pub mod relevance;
pub mod syslog;
