//! Distances between guest cells, projected from the host.

use kernel_glue::numa::{Numa, NumaNode};

use crate::code::Code;
use crate::refusal::Refusal;

/// Distance of a node to itself (ACPI 6.5, 5.2.17; QEMU takes no other value).
pub(super) const LOCAL: u8 = 10;

/// What libvirt and Linux take for two nodes of which nothing is known.
const REMOTE: u8 = 20;

/// What stands behind a guest cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The cell's id.
    pub(super) cell: u32,
    /// Its host node; `None` for a cell that is bound to none.
    pub(super) node: Option<NumaNode>,
}

/// Gives distances between places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'a> {
    /// The host's nodes.
    pub(super) numa: &'a Numa,
    /// What 10 or less between different cells becomes.
    pub(super) raise_ten_to: u8,
}

impl Projection<'_> {
    /// The distance from one cell to another.
    pub(super) fn between(&self, from: Place, to: Place) -> Result<u8, Refusal> {
        if from.cell == to.cell {
            return Ok(LOCAL);
        }
        let distance = match (from.node, to.node) {
            (Some(from), Some(to)) => self.host(from, to)?,
            (Some(node), None) | (None, Some(node)) => self.nearest_socket(node)?,
            (None, None) => REMOTE,
        };
        Ok(if distance <= LOCAL {
            self.raise_ten_to
        } else {
            distance
        })
    }

    fn host(&self, from: NumaNode, to: NumaNode) -> Result<u8, Refusal> {
        self.numa.distance(from, to).ok_or_else(|| {
            let reason = format!("the host gives no distance from node {from} to node {to}");
            let mend =
                format!("see /sys/devices/system/node/node{from}/distance and the firmware's SLIT");
            Refusal::new(Code::DistanceMissing, reason, mend)
        })
    }

    /// A cell that is bound to no host node is taken to run on the socket nearest to `node`.
    fn nearest_socket(&self, node: NumaNode) -> Result<u8, Refusal> {
        let sockets = self
            .numa
            .nodes
            .iter()
            .filter(|socket| !socket.cpus.is_empty());
        let distances = sockets.map(|socket| self.host(socket.id, node));
        let distances: Vec<u8> = distances.collect::<Result<_, _>>()?;
        Ok(distances.into_iter().min().unwrap_or(REMOTE))
    }
}
