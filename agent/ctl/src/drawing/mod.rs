//! Topology drawings: one tree of parts for host and guest, and the forms that are made from it. Pure.
//!
//! ```text
//! host.rs, guest.rs -> Part -> tree.rs (text), svg.rs (drawing), dot.rs (Graphviz)
//! host              -> matrix.rs (device by device), peer.rs (pair by pair), nccl.rs (the file that NCCL reads)
//! ```

mod bus_number;
pub(crate) mod dot;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod matrix;
pub(crate) mod nccl;
#[cfg(test)]
mod nccl_test;
mod part;
pub(crate) mod peer;
pub(crate) mod svg;
mod svg_text;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

pub(crate) use part::{Kind, Part};

/// Memory in GiB, and in MiB below 10 GiB.
fn memory(kib: u64) -> String {
    match kib >> 20 {
        0..10 => format!("{} MiB", kib >> 10),
        gib => format!("{gib} GiB"),
    }
}
