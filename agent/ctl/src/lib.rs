//! The command line: verbs, `doctor`, topology drawings, and what is asked of libvirt for them.
//!
//! Uses the host side of the crate `agent`; what changes the host or a definition, it asks the agent for, by crate `api`.

pub mod cli;
mod doctor;
mod drawing;
#[cfg(test)]
mod fixture;
mod fleet;
pub mod inquiry;
