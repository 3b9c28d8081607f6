//! Files that an administrator or the agent writes: configuration, recipe folder, host snapshots, libvirt's configuration. Calls no
//! other process.

pub mod config;
pub mod file;
pub mod libvirt;
pub mod newer_keys;
pub mod recipes;
pub mod reservation;
pub mod service;
pub mod snapshot;
pub mod socket;
