//! NCCL's view of a topology file, for tests of what `variantctl topology --nccl` writes.
//!
//! Follows the rules of NCCL's public source (https://github.com/NVIDIA/nccl, src/graph of 2.8 to 2.30), written for these tests:
//!
//! ```text
//! text -> xml.rs (xml.cc: what its reader accepts) -> Element
//!      -> graph.rs (topo.cc: nodes and links; paths.cc: distances) -> Graph
//! ```

mod graph;
mod xml;

pub use graph::{Distance, Graph};
pub use xml::{Element, load};
