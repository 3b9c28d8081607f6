//! Files that an administrator or the agent writes: configuration, folder of recipes, snapshots of hosts. Calls no other process.

pub mod config;
pub mod file;
pub mod recipes;
pub mod reservation;
pub mod service;
pub mod snapshot;
