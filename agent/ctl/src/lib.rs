//! The command line: verbs, `doctor`, topology drawings, and their queries to libvirt.
//!
//! Uses the host side of the crate `agent`. Only the agent changes the host or a definition; the crate `api` calls it.

pub mod cli;
mod doctor;
mod drawing;
#[cfg(test)]
mod fixture;
mod fleet;
pub mod inquiry;
