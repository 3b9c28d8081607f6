//! The ACPI System Resource Affinity Table: which device each generic initiator belongs to.
//!
//! Follows ACPI 6.5, 5.2.16; node numbering follows drivers/acpi/numa/srat.c (`acpi_numa_init`): a domain gets the
//! first free node id when it first occurs, processors and initiators in table order, memory in a second pass. A kernel
//! with fewer node ids than [`MAX_NODES`] stops earlier; the nodes that it skipped are then not online.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::address::PciAddress;
use crate::numa::{MAX_NODES, NumaNode};

/// The generic initiators of SRAT, with the kernel's node ids.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Srat {
    /// Nodes of the enabled PCI generic initiators, by device, in table order.
    pub initiators: BTreeMap<PciAddress, Vec<NumaNode>>,
}

/// Why bytes are not an SRAT.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SratError {
    /// The signature differs, or the header is truncated.
    #[error("not an SRAT")]
    Signature,
    /// The length in the header differs from the table's.
    #[error("the header has length {printed}, the table has {found} bytes")]
    Length {
        /// Length in the header.
        printed: u32,
        /// Actual length.
        found: usize,
    },
    /// An entry is shorter than its type, or ends outside the table.
    #[error("the entry at offset {0:#x} is damaged")]
    Entry(usize),
}

/// Bytes of the ACPI table header and SRAT's own 12.
const HEADER: usize = 48;
/// Bit 0 of the flags of each kind of entry.
const ENABLED: u32 = 1;

impl Srat {
    /// Parses the table from `/sys/firmware/acpi/tables/SRAT`.
    ///
    /// # Errors
    /// The bytes are not an SRAT, or entries do not fill it.
    pub fn parse(bytes: &[u8]) -> Result<Self, SratError> {
        let revision = revision(bytes)?;
        let mut numbering = Numbering::default();
        let mut srat = Self::default();
        for entry in entries(bytes)? {
            let Some(node) = entry.first_pass(&mut numbering, revision)? else {
                break;
            };
            if let (Some(device), Some(node)) = (entry.initiator(), node) {
                let nodes = srat.initiators.entry(device).or_default();
                if !nodes.contains(&node) {
                    nodes.push(node);
                }
            }
        }
        // The second pass, memory, only numbers domains that no initiator named.
        Ok(srat)
    }
}

/// Maps proximity domains to nodes, as `acpi_map_pxm_to_node` does.
#[derive(Default)]
struct Numbering(BTreeMap<u32, NumaNode>);

impl Numbering {
    /// `None` if the domain's number, or its node's, is above the kernel's maximum.
    fn node(&mut self, domain: u32) -> Option<NumaNode> {
        if domain >= MAX_NODES {
            return None;
        }
        let free = u32::try_from(self.0.len()).ok()?;
        let node = NumaNode::try_from(free).ok()?;
        Some(*self.0.entry(domain).or_insert(node))
    }
}

/// One entry: its bytes, its type first.
struct Entry<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Entry<'_> {
    /// The result of the kernel's first pass for the entry: the node of its domain, if it numbers one. The outer `None`
    /// is a handler's error, which ends the pass.
    fn first_pass(
        &self,
        numbering: &mut Numbering,
        revision: u8,
    ) -> Result<Option<Option<NumaNode>>, SratError> {
        let (domain, flags) = match self.bytes[0] {
            // Processor by local APIC, by x2APIC (2), by GICC (3), generic initiator (5); ACPI 6.5, 5.2.16.1 to 5.2.16.6.
            0 => (self.processor_domain(revision)?, self.long(4)?),
            2 => (self.long(4)?, self.long(12)?),
            3 => (self.long(2)?, self.long(10)?),
            5 => (self.long(4)?, self.long(24)?),
            _ => return Ok(Some(None)),
        };
        match (self.bytes[0], flags & ENABLED) {
            // Linux treats only a disabled initiator as an error (acpi_parse_gi_affinity returns -EINVAL).
            (5, 0) => Ok(None),
            (_, 0) => Ok(Some(None)),
            _ => Ok(numbering.node(domain).map(Some)),
        }
    }

    /// Byte 2, and from revision 2 on also bytes 9 to 11.
    fn processor_domain(&self, revision: u8) -> Result<u32, SratError> {
        let low = u32::from(self.array::<1>(2)?[0]);
        let [a, b, c] = self.array(9)?;
        let high = u32::from_le_bytes([0, a, b, c]);
        Ok(if revision >= 2 { low | high } else { low })
    }

    /// The device of a generic initiator with a PCI handle (type 1).
    fn initiator(&self) -> Option<PciAddress> {
        // Byte 3 is the handle's type: 0 names an ACPI device by HID and UID.
        if self.bytes[0] != 5 || self.bytes.get(3) != Some(&1) {
            return None;
        }
        // QEMU 9.0 and 9.1 write bus and devfn in the other order; that is a guest's table, and this is the host's.
        let [low, high, bus, devfn] = self.array(8).ok()?;
        let segment = u16::from_le_bytes([low, high]);
        PciAddress::new(segment.into(), bus, devfn >> 3, devfn & 7).ok()
    }

    fn long(&self, at: usize) -> Result<u32, SratError> {
        Ok(u32::from_le_bytes(self.array(at)?))
    }

    fn array<const N: usize>(&self, at: usize) -> Result<[u8; N], SratError> {
        self.bytes
            .get(at..at + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(SratError::Entry(self.offset))
    }
}

fn revision(bytes: &[u8]) -> Result<u8, SratError> {
    if bytes.len() < HEADER || !bytes.starts_with(b"SRAT") {
        return Err(SratError::Signature);
    }
    let printed = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let found = bytes.len();
    match usize::try_from(printed) {
        Ok(printed) if printed == found => Ok(bytes[8]),
        _ => Err(SratError::Length { printed, found }),
    }
}

/// Splits the table into entries of at least two bytes, which must fill it.
fn entries(bytes: &[u8]) -> Result<Vec<Entry<'_>>, SratError> {
    let mut entries = Vec::new();
    let mut offset = HEADER;
    while offset < bytes.len() {
        let length = bytes
            .get(offset + 1)
            .map_or(0, |length| usize::from(*length));
        let entry = bytes.get(offset..offset + length);
        let entry = entry.filter(|entry| entry.len() >= 2);
        let bytes = entry.ok_or(SratError::Entry(offset))?;
        entries.push(Entry { bytes, offset });
        offset += length;
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(b"SRAT");
        bytes[8] = 3;
        bytes.extend(entries.concat());
        let length = u32::try_from(bytes.len()).expect("small");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    fn gicc(domain: u32) -> Vec<u8> {
        let mut bytes = vec![0; 18];
        bytes[..2].copy_from_slice(&[3, 18]);
        bytes[2..6].copy_from_slice(&domain.to_le_bytes());
        bytes[10] = 1;
        bytes
    }

    fn memory(domain: u32) -> Vec<u8> {
        let mut bytes = vec![0; 40];
        bytes[..2].copy_from_slice(&[1, 40]);
        bytes[2..6].copy_from_slice(&domain.to_le_bytes());
        bytes[28] = 1;
        bytes
    }

    fn initiator(domain: u32, bus: u8, enabled: bool) -> Vec<u8> {
        let mut bytes = vec![0; 32];
        bytes[..4].copy_from_slice(&[5, 32, 0, 1]);
        bytes[4..8].copy_from_slice(&domain.to_le_bytes());
        bytes[10] = bus;
        bytes[24] = enabled.into();
        bytes
    }

    fn nodes(entries: &[Vec<u8>], bus: u8) -> Vec<u32> {
        let srat = Srat::parse(&table(entries)).expect("table");
        let device = PciAddress::new(0, bus, 0, 0).expect("address");
        let nodes = srat.initiators.get(&device).cloned().unwrap_or_default();
        nodes.into_iter().map(u32::from).collect()
    }

    #[test]
    fn nodes_are_numbered_in_the_order_of_the_table() {
        let entries = [gicc(0), initiator(9, 5, true), initiator(3, 6, true)];
        assert_eq!(nodes(&entries, 5), [1]);
        assert_eq!(nodes(&entries, 6), [2]);
    }

    #[test]
    fn memory_is_numbered_after_initiators_in_any_order() {
        let entries = [memory(7), gicc(0), initiator(8, 5, true)];
        assert_eq!(nodes(&entries, 5), [1]);
    }

    #[test]
    fn a_disabled_initiator_ends_the_pass() {
        let entries = [
            gicc(0),
            initiator(1, 5, true),
            initiator(2, 5, false),
            initiator(3, 5, true),
        ];
        assert_eq!(nodes(&entries, 5), [1]);
    }

    #[test]
    fn an_initiator_with_an_acpi_handle_takes_a_node() {
        let mut other = initiator(1, 0, true);
        other[3] = 0;
        assert_eq!(nodes(&[gicc(0), other, initiator(2, 5, true)], 5), [2]);
    }

    #[test]
    fn one_domain_named_twice_is_one_node() {
        let entries = [gicc(4), initiator(1, 5, true), initiator(1, 5, true)];
        assert_eq!(nodes(&entries, 5), [1]);
    }

    #[test]
    fn an_old_table_has_domains_of_one_byte() {
        let processor = |high| {
            let mut bytes = vec![0; 16];
            bytes[..2].copy_from_slice(&[0, 16]);
            bytes[4] = 1;
            bytes[9] = high;
            bytes
        };
        let mut old = table(&[processor(0), processor(1), initiator(0, 5, true)]);
        old[8] = 1;
        let device = "0000:05:00.0".parse().expect("address");
        let srat = Srat::parse(&old).expect("table");
        assert_eq!(srat.initiators[&device], [0.try_into().expect("node")]);
    }

    #[test]
    fn damaged_table_is_reported() {
        let good = table(&[gicc(0)]);
        assert_eq!(Srat::parse(b"SLIT"), Err(SratError::Signature));
        let (printed, found) = (66, 65);
        let cut = Srat::parse(&good[..found]);
        assert_eq!(cut, Err(SratError::Length { printed, found }));
        let mut endless = good.clone();
        endless[49] = 0;
        assert_eq!(Srat::parse(&endless), Err(SratError::Entry(48)));
        let mut beyond = good;
        beyond[49] = 19;
        assert_eq!(Srat::parse(&beyond), Err(SratError::Entry(48)));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(entries in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Srat::parse(&table(&[entries]));
        }
    }
}
