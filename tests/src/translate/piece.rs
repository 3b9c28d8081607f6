//! The planned pieces of a guest, in a form that definitions and QEMU arguments share.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// A device's place in the guest: the bus by its id, and QEMU's `addr`.
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
    /// A generic initiator: the device of a node.
    Initiator { device: Place, node: u32 },
    /// An expander bus.
    Expander {
        bus: String,
        number: u64,
        node: Option<u64>,
    },
    /// A root port by its id, and its bus if known.
    Port { id: String, bus: Option<String> },
    /// A port of a switch, likewise.
    SwitchPort { id: String, bus: Option<String> },
    /// A property of a device that a definition sets without libvirt's check.
    Property {
        device: String,
        name: String,
        value: String,
    },
    /// A host device, by its host address if given.
    Hostdev { at: Place, host: Option<String> },
    /// A host device that uses iommufd.
    Through { at: Place },
    /// The iommufd object.
    Iommufd,
    /// An SMMU of a bus (`machine` for that of the machine), with its attributes.
    Smmu {
        bus: String,
        attributes: BTreeMap<String, String>,
    },
    /// Another IOMMU, by QEMU's name.
    Iommu { kind: String },
    /// The window for 64-bit BARs.
    Window { kib: u64 },
}

impl Piece {
    /// The noun for one of them.
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

    /// Whether the summary counts it: not a node's distance to itself, and a hostdev or port only once.
    fn counts(&self) -> bool {
        match self {
            Self::Distance { from, to, .. } => from != to,
            Self::Hostdev { host, .. } => host.is_some(),
            Self::Port { bus, .. } | Self::SwitchPort { bus, .. } => bus.is_none(),
            _ => true,
        }
    }

    /// Whether an unplanned one is a fault. libvirt adds ports, and devices have many properties: these are no faults.
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

/// A summary: `9 nodes, 72 distances, 1 window`.
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
