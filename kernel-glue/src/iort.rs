//! The ACPI I/O Remapping Table: which root complexes are behind an SMMUv3, and which promise coherent write-back.
//!
//! Follows Arm DEN0049 (IO Remapping Table), E.f, and include/acpi/actbl2.h. CANWBS of a root complex came with revision E.f
//! of the table. Linux nests a guest's SMMUv3 only behind such a root complex, or where the SMMU has S2FWB
//! (drivers/iommu/arm/arm-smmu-v3, `arm_smmu_master_canwbs`).

use std::collections::BTreeMap;

use thiserror::Error;

/// The path of the table; only root can read it.
pub const PATH: &str = "sys/firmware/acpi/tables/IORT";
/// Maximum size of the table; one with 64 root complexes has about 16 KiB.
pub const MAX_BYTES: usize = 1 << 20;

/// Bytes of the ACPI table header and IORT's own 12.
const HEADER: usize = 48;
/// Bytes of a node's header.
const NODE: usize = 16;
/// Bytes of an id mapping.
const MAPPING: usize = 20;
/// Node types.
const ROOT_COMPLEX: u8 = 2;
const SMMU_V3: u8 = 4;
/// Memory access flags of a root complex (`ACPI_IORT_MF_CANWBS`): inbound traffic can be made write-back cacheable.
const CANWBS: u8 = 1 << 2;

/// The root complexes of IORT.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Iort {
    /// The table's revision.
    pub revision: u8,
    /// By PCI segment; a segment that is named several times has only what all its nodes have.
    pub segments: BTreeMap<u32, RootComplex>,
}

/// A root complex.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootComplex {
    /// An SMMUv3 translates its requests.
    pub smmu: bool,
    /// Its memory access flags have CANWBS.
    pub canwbs: bool,
}

/// Why bytes are not an IORT.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum IortError {
    /// The signature differs, or the header is truncated.
    #[error("not an IORT")]
    Signature,
    /// The length in the header differs from the table's.
    #[error("the header has length {stated}, the table has {found} bytes")]
    Length {
        /// Length in the header.
        stated: u32,
        /// Actual length.
        found: usize,
    },
    /// A node is shorter than its type, or ends outside the table.
    #[error("the node at offset {0:#x} is damaged")]
    Node(usize),
}

impl Iort {
    /// Parses the table.
    ///
    /// # Errors
    /// The bytes are not an IORT, or a node is damaged.
    pub fn parse(bytes: &[u8]) -> Result<Self, IortError> {
        let revision = revision(bytes)?;
        let nodes = nodes(bytes)?;
        let is_smmu = |offset: u32| {
            let at = |node: &&Node<'_>| usize::try_from(offset) == Ok(node.offset);
            nodes
                .iter()
                .find(at)
                .is_some_and(|node| node.kind() == SMMU_V3)
        };
        let mut segments = BTreeMap::new();
        for node in nodes.iter().filter(|node| node.kind() == ROOT_COMPLEX) {
            let found = RootComplex {
                smmu: node.outputs()?.into_iter().any(is_smmu),
                // Bytes 16 to 23 are the memory access properties, the flags last; 28 is the segment number (DEN0049, root complex node).
                canwbs: node.byte(23)? & CANWBS != 0,
            };
            // The kernel uses the node whose id range has the device. The ranges are not read here, so only what all nodes have counts.
            let known = segments.entry(node.long(28)?).or_insert(found);
            known.smmu &= found.smmu;
            known.canwbs &= found.canwbs;
        }
        Ok(Self { revision, segments })
    }
}

/// One node: its bytes, its type first.
struct Node<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl Node<'_> {
    fn kind(&self) -> u8 {
        self.bytes[0]
    }

    /// The output references of its id mappings: offsets of other nodes.
    fn outputs(&self) -> Result<Vec<u32>, IortError> {
        let damaged = |_| IortError::Node(self.offset);
        let count = usize::try_from(self.long(8)?).map_err(damaged)?;
        let first = usize::try_from(self.long(12)?).map_err(damaged)?;
        // A count that cannot fit would allocate up to 16 GiB.
        if count > self.bytes.len() / MAPPING {
            return Err(IortError::Node(self.offset));
        }
        // An id mapping: input base, count, output base, output reference (offset 12), flags.
        let places = (0..count).map(|index| first.saturating_add(index * MAPPING + 12));
        places.map(|place| self.long(place)).collect()
    }

    fn byte(&self, at: usize) -> Result<u8, IortError> {
        let byte = self.bytes.get(at).copied();
        byte.ok_or(IortError::Node(self.offset))
    }

    fn long(&self, at: usize) -> Result<u32, IortError> {
        let end = at.saturating_add(4);
        let bytes = self
            .bytes
            .get(at..end)
            .and_then(|bytes| bytes.try_into().ok());
        bytes
            .map(u32::from_le_bytes)
            .ok_or(IortError::Node(self.offset))
    }
}

fn revision(bytes: &[u8]) -> Result<u8, IortError> {
    if bytes.len() < HEADER || !bytes.starts_with(b"IORT") {
        return Err(IortError::Signature);
    }
    let stated = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    let found = bytes.len();
    match usize::try_from(stated) {
        Ok(stated) if stated == found => Ok(bytes[8]),
        _ => Err(IortError::Length { stated, found }),
    }
}

/// The nodes that the header counts, each with at least its own header. The bytes behind the last are not looked at.
fn nodes(bytes: &[u8]) -> Result<Vec<Node<'_>>, IortError> {
    let header = Node { bytes, offset: 0 };
    let damaged = |_| IortError::Node(0);
    let count = usize::try_from(header.long(36)?).map_err(damaged)?;
    let mut offset = usize::try_from(header.long(40)?).map_err(damaged)?;
    if offset < HEADER || count > bytes.len() / NODE {
        return Err(IortError::Node(0));
    }
    let mut nodes = Vec::new();
    for _ in 0..count {
        let length = match bytes.get(offset.saturating_add(1)..offset.saturating_add(3)) {
            Some(&[low, high]) => usize::from(u16::from_le_bytes([low, high])),
            _ => 0,
        };
        let node = bytes.get(offset..offset.saturating_add(length));
        let node = node.filter(|node| node.len() >= NODE);
        let bytes = node.ok_or(IortError::Node(offset))?;
        nodes.push(Node { bytes, offset });
        offset += length;
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(nodes: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = vec![0; HEADER];
        bytes[..4].copy_from_slice(b"IORT");
        bytes[8] = 6;
        let count = u32::try_from(nodes.len()).expect("few");
        bytes[36..40].copy_from_slice(&count.to_le_bytes());
        bytes[40..44].copy_from_slice(&48_u32.to_le_bytes());
        bytes.extend(nodes.concat());
        let length = u32::try_from(bytes.len()).expect("small");
        bytes[4..8].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    fn node(kind: u8, length: u16) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(length)];
        bytes[0] = kind;
        bytes[1..3].copy_from_slice(&length.to_le_bytes());
        bytes
    }

    /// An SMMUv3 of 68 bytes, without mappings.
    fn smmu() -> Vec<u8> {
        node(SMMU_V3, 68)
    }

    fn root_complex(segment: u32, flags: u8, output: u32) -> Vec<u8> {
        let mut bytes = node(ROOT_COMPLEX, 60);
        bytes[8] = 1;
        bytes[12] = 40;
        bytes[23] = flags;
        bytes[28..32].copy_from_slice(&segment.to_le_bytes());
        bytes[52..56].copy_from_slice(&output.to_le_bytes());
        bytes
    }

    fn parsed(nodes: &[Vec<u8>]) -> Iort {
        Iort::parse(&table(nodes)).expect("a table")
    }

    fn segment(iort: &Iort, number: u32) -> (bool, bool) {
        let found = iort.segments[&number];
        (found.smmu, found.canwbs)
    }

    #[test]
    fn root_complexes_have_their_smmu_and_flags() {
        let iort = parsed(&[smmu(), root_complex(9, 4, 48), root_complex(24, 3, 0)]);
        assert_eq!(iort.revision, 6);
        assert_eq!(segment(&iort, 9), (true, true));
        assert_eq!(segment(&iort, 24), (false, false));
        assert_eq!(iort.segments.len(), 2);
    }

    #[test]
    fn a_segment_named_twice_has_what_both_nodes_have() {
        let iort = parsed(&[smmu(), root_complex(9, 4, 48), root_complex(9, 0, 48)]);
        assert_eq!(segment(&iort, 9), (true, false));
    }

    #[test]
    fn output_that_is_no_smmu_is_not_one() {
        // An ITS group (type 0) and an offset inside of the SMMU.
        let iort = parsed(&[
            node(0, 24),
            root_complex(9, 4, 48),
            smmu(),
            root_complex(8, 4, 140),
        ]);
        assert_eq!(segment(&iort, 9), (false, true));
        assert_eq!(segment(&iort, 8), (false, true));
    }

    #[test]
    fn damaged_tables_are_refused() {
        let good = table(&[smmu(), root_complex(9, 4, 48)]);
        assert_eq!(Iort::parse(b"SRAT"), Err(IortError::Signature));
        for found in [HEADER, 60, good.len() - 1] {
            let stated = u32::try_from(good.len()).expect("small");
            let cut = Iort::parse(&good[..found]);
            assert_eq!(cut, Err(IortError::Length { stated, found }));
        }
        let changed = |at: usize, to: &[u8]| {
            let mut bytes = good.clone();
            bytes[at..at + to.len()].copy_from_slice(to);
            Iort::parse(&bytes).expect_err("damaged")
        };
        // Too many nodes, nodes inside of the header or behind the end, a node without length or beyond the end.
        assert_eq!(changed(36, &[255, 255, 255, 255]), IortError::Node(0));
        assert_eq!(changed(36, &[3]), IortError::Node(good.len()));
        assert_eq!(changed(40, &[8]), IortError::Node(0));
        assert_eq!(
            changed(40, &[255, 255, 255, 255]),
            IortError::Node(usize::try_from(u32::MAX).expect("64 bits"))
        );
        assert_eq!(changed(49, &[0, 0]), IortError::Node(48));
        assert_eq!(changed(117, &[61]), IortError::Node(116));
        // A root complex that is too short, too many mappings, mappings outside of it.
        assert_eq!(
            Iort::parse(&table(&[node(ROOT_COMPLEX, 20)])),
            Err(IortError::Node(48))
        );
        assert_eq!(
            changed(116 + 8, &[255, 255, 255, 255]),
            IortError::Node(116)
        );
        assert_eq!(
            changed(116 + 12, &[255, 255, 255, 255]),
            IortError::Node(116)
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(nodes in proptest::collection::vec(any::<u8>(), 0..300), count in any::<u32>()) {
            let mut bytes = table(&[nodes]);
            bytes[36..40].copy_from_slice(&count.to_le_bytes());
            let _ = Iort::parse(&bytes);
        }
    }
}
