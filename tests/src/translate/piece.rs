//! What a guest is made of, as far as it is planned: the words that a definition and QEMU arguments share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Where the guest sees a device: the bus by its id, then QEMU's `addr`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// Such as `pci.3`.
    pub bus: String,
    /// Such as `0x0`, or `0x1.0x2` with a function.
    pub addr: String,
}

/// One piece.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each field is what its name says")]
pub enum Piece {
    /// A NUMA node.
    Node { node: u32, cpus: String, kib: u64 },
    /// A distance between two nodes.
    Distance { from: u32, to: u32, value: u32 },
    /// A generic initiator: a device that speaks for a node.
    Initiator { device: Place, node: u32 },
    /// An expander bus.
    Expander {
        bus: String,
        number: u64,
        node: Option<u64>,
    },
    /// A root port by its id; the bus it sits on where that is known.
    Port { id: String, bus: Option<String> },
    /// A port of a switch, likewise.
    SwitchPort { id: String, bus: Option<String> },
    /// A property of a device, as a definition sets it past libvirt.
    Property {
        device: String,
        name: String,
        value: String,
    },
    /// A host device, by its address where that is said.
    Hostdev { at: Place, host: Option<String> },
    /// A host device that goes through iommufd.
    Through { at: Place },
    /// The iommufd object.
    Iommufd,
    /// An SMMU for a bus (for the machine's own: `machine`), with its attributes.
    Smmu {
        bus: String,
        attributes: BTreeMap<String, String>,
    },
    /// Another IOMMU, by QEMU's name for it.
    Iommu { kind: String },
    /// The window for 64-bit BARs.
    Window { kib: u64 },
}

impl Piece {
    /// One of them in a word.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Node { .. } => "node",
            Self::Distance { .. } => "distance",
            Self::Initiator { .. } => "initiator",
            Self::Expander { .. } => "expander",
            Self::Port { .. } => "root port",
            Self::SwitchPort { .. } => "switch port",
            Self::Property { .. } => "property",
            Self::Hostdev { .. } => "hostdev",
            Self::Through { .. } => "hostdev through iommufd",
            Self::Iommufd => "iommufd object",
            Self::Smmu { .. } => "SMMU",
            Self::Iommu { .. } => "IOMMU",
            Self::Window { .. } => "window",
        }
    }

    /// Whether it is a thing of its own: not a node's distance to itself, not the second look at a hostdev or port.
    fn counts(&self) -> bool {
        match self {
            Self::Distance { from, to, .. } => from != to,
            Self::Hostdev { host, .. } => host.is_some(),
            Self::Port { bus, .. } | Self::SwitchPort { bus, .. } => bus.is_none(),
            _ => true,
        }
    }

    /// Whether one that no plan holds is a fault: libvirt adds ports of its own, and devices have many properties.
    pub fn must_be_planned(&self) -> bool {
        match self {
            Self::Distance { from, to, .. } => from != to,
            Self::Port { .. }
            | Self::SwitchPort { .. }
            | Self::Property { .. }
            | Self::Hostdev { .. }
            | Self::Through { .. } => false,
            _ => true,
        }
    }
}

/// Pieces in words: `9 nodes, 72 distances, 1 window`.
pub fn count(pieces: &BTreeSet<Piece>) -> String {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for noun in pieces
        .iter()
        .filter(|piece| piece.counts())
        .map(Piece::noun)
    {
        match counts.iter_mut().find(|(known, _)| *known == noun) {
            Some((_, count)) => *count += 1,
            None => counts.push((noun, 1)),
        }
    }
    let plural = |(noun, count): (&str, usize)| {
        let ending = if count == 1 { "" } else { "s" };
        match noun.split_once(" through ") {
            Some((noun, what)) => format!("{count} {noun}{ending} through {what}"),
            None if noun == "property" && count > 1 => format!("{count} properties"),
            None => format!("{count} {noun}{ending}"),
        }
    };
    counts
        .into_iter()
        .map(plural)
        .collect::<Vec<_>>()
        .join(", ")
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.bus, self.addr)
    }
}

impl fmt::Display for Piece {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.noun())?;
        match self {
            Self::Node { node, cpus, kib } => write!(f, " {node} (cpus '{cpus}', {kib} KiB)"),
            Self::Distance { from, to, value } => write!(f, " from {from} to {to} of {value}"),
            Self::Initiator { device, node } => write!(f, " of node {node}, device on {device}"),
            Self::Expander { bus, number, node } => {
                let node = node.map_or_else(|| "no node".to_owned(), |node| format!("node {node}"));
                write!(f, " '{bus}', bus number {number}, {node}")
            }
            Self::Property {
                device,
                name,
                value,
            } => write!(f, " {name}={value} of '{device}'"),
            Self::Port { id, bus } | Self::SwitchPort { id, bus } => {
                write!(f, " '{id}'")?;
                bus.iter().try_for_each(|bus| write!(f, " on '{bus}'"))
            }
            Self::Hostdev { at, host } => {
                host.iter().try_for_each(|host| write!(f, " '{host}'"))?;
                write!(f, " on {at}")
            }
            Self::Through { at } => write!(f, " on {at}"),
            Self::Iommufd => Ok(()),
            Self::Smmu { bus, attributes } => {
                write!(f, " of '{bus}'")?;
                attributes
                    .iter()
                    .try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
            Self::Iommu { kind } => write!(f, " '{kind}'"),
            Self::Window { kib } => write!(f, " of {kib} KiB"),
        }
    }
}
