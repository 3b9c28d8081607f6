//! Distances between guest cells, projected from the host.

use kernel_glue::address::PciAddress;
use kernel_glue::numa::{Numa, NumaNode};

use crate::recipe::Initiators;
use domain::code::Code;
use domain::refusal::Refusal;

/// Distance of a node to itself (ACPI 6.5, 5.2.17; QEMU takes no other value).
const LOCAL: u8 = 10;

/// The default of libvirt and Linux for two different nodes.
const REMOTE: u8 = 20;

/// "Unreachable" (ACPI 6.5, 5.2.17). GH200's firmware has it between the initiators of one GPU.
pub(super) const UNREACHABLE: u8 = 255;

/// A guest cell and its host node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The cell's id.
    pub(super) cell: u32,
    /// Its host node; `None` if it is not bound to one.
    pub(super) node: Option<NumaNode>,
    /// The device whose initiator it is, with the recipe's rules for initiators.
    pub(super) initiator: Option<(PciAddress, Initiators)>,
}

/// Computes distances between places.
#[derive(Clone, Copy, Debug)]
pub(super) struct Projection<'a> {
    /// The host's nodes.
    pub(super) numa: &'a Numa,
}

impl Projection<'_> {
    /// The distance from one cell to another.
    pub(super) fn between(&self, from: &Place, to: &Place) -> Result<u8, Refusal> {
        if from.cell == to.cell {
            return Ok(LOCAL);
        }
        let rules = from.initiator.as_ref().or(to.initiator.as_ref());
        let distance = match chosen(from, to) {
            Some(distance) => distance,
            None => self.projected(from, to)?,
        };
        let raised = rules.map_or(REMOTE, |(_, rules)| rules.raise_ten_to);
        // Linux drops the whole SLIT if a distance between two nodes is 10 or less (drivers/acpi/numa/srat.c, slit_valid).
        Ok(if distance <= LOCAL { raised } else { distance })
    }

    fn projected(&self, from: &Place, to: &Place) -> Result<u8, Refusal> {
        let distance = match (from.node, to.node) {
            (Some(one), Some(other)) => self.bound((from, one), (to, other)),
            (Some(node), None) | (None, Some(node)) => self.nearest_socket(node),
            (None, None) => Ok(REMOTE),
        };
        distance.or_else(|refusal| fallback(from, to).ok_or(refusal))
    }

    fn bound(
        &self,
        (from, one): (&Place, NumaNode),
        (to, other): (&Place, NumaNode),
    ) -> Result<u8, Refusal> {
        match (self.host(one, other)?, same_device(from, to)) {
            (UNREACHABLE, Some(rules)) => Ok(rules.lower_unreachable_to),
            // Outside of one device the value would tell the guest that it cannot use the memory.
            (UNREACHABLE, None) => Err(unreachable(one, other)),
            (distance, _) => Ok(distance),
        }
    }

    fn host(&self, from: NumaNode, to: NumaNode) -> Result<u8, Refusal> {
        self.numa.distance(from, to).ok_or_else(|| {
            let reason = format!("the host gives no distance from node {from} to node {to}");
            let hint = format!(
                "see /sys/devices/system/node/node{from}/distance and the firmware's SLIT, or give the recipe an [initiators.fallback]"
            );
            Refusal::new(Code::DistanceMissing, reason, hint)
        })
    }

    /// A cell without a host node is assumed to run on the socket nearest to `node`.
    fn nearest_socket(&self, node: NumaNode) -> Result<u8, Refusal> {
        let distances = self.numa.sockets().map(|socket| self.host(socket.id, node));
        let distances: Vec<u8> = distances.collect::<Result<_, _>>()?;
        let reachable = |distance: &u8| *distance != UNREACHABLE;
        Ok(distances
            .into_iter()
            .filter(reachable)
            .min()
            .unwrap_or(REMOTE))
    }
}

/// The recipe's own distance between a cell with CPUs and an initiator.
fn chosen(from: &Place, to: &Place) -> Option<u8> {
    match (&from.initiator, &to.initiator) {
        (Some((_, rules)), None) | (None, Some((_, rules))) => rules.cpu_distance,
        _ => None,
    }
}

/// The rules for two initiators of one device.
fn same_device<'a>(from: &'a Place, to: &Place) -> Option<&'a Initiators> {
    let ((one, rules), (other, _)) = from.initiator.as_ref().zip(to.initiator.as_ref())?;
    (one == other).then_some(rules)
}

fn unreachable(from: NumaNode, to: NumaNode) -> Refusal {
    let reason = format!(
        "the host's distance from node {from} to node {to} is 255 (unreachable), which no guest gets"
    );
    let hint = "update the host's firmware, or give the recipe an [initiators.fallback]";
    Refusal::new(Code::DistanceMissing, reason, hint)
}

/// The recipe's fallback for a distance that the host does not have.
fn fallback(from: &Place, to: &Place) -> Option<u8> {
    match (&from.initiator, &to.initiator) {
        (Some((one, rules)), Some((other, _))) => rules.fallback.map(|table| {
            if one == other {
                table.same_device
            } else {
                table.other_device
            }
        }),
        (Some((_, rules)), None) | (None, Some((_, rules))) => {
            rules.fallback.map(|table| table.cpu)
        }
        (None, None) => None,
    }
}
