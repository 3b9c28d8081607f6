//! Topology for people who look: one tree of parts for host and guest, and what is drawn from it. Pure.
//!
//! ```text
//! host.rs, guest.rs -> Part -> tree.rs (text), svg.rs (picture), dot.rs (Graphviz)
//! host              -> matrix.rs (device by device), nccl.rs (the file that NCCL reads)
//! ```

mod bus_number;
pub(crate) mod dot;
pub(crate) mod guest;
pub(crate) mod host;
pub(crate) mod matrix;
pub(crate) mod nccl;
mod part;
pub(crate) mod svg;
mod svg_text;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

pub(crate) use part::{Kind, Part};

/// Memory in the largest unit that it is whole in, or nearly.
fn memory(kib: u64) -> String {
    match kib >> 20 {
        0..10 => format!("{} MiB", kib >> 10),
        gib => format!("{gib} GiB"),
    }
}
