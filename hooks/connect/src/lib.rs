//! A libvirt transport that completes definitions before libvirt's daemon sees them.
//!
//! `variantd-connect` runs as the client (`qemu+ext:///system?command=...`), connects to libvirt's daemon as the same user, and
//! forwards libvirt's remote protocol byte for byte. It rewrites or refuses only calls with the definition of a relevant guest, by the
//! answer of the agent. It never makes a call of its own. On a socket of its own it serves clients of the group `libvirt` as one user.

pub mod access;
pub mod admission;
pub mod daemon;
pub mod failure;
pub mod forward;
pub mod packet;
pub mod procedure;
pub mod refusal;
pub mod socket;
pub mod splitter;
pub mod xdr;
