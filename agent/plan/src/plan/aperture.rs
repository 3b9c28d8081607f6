//! The 64-bit prefetchable address space that firmware allocates, as EDK2 lays it out.
//!
//! ```text
//! BARs of a port    largest alignment first, each at a multiple of its own size   PciBusDxe, InsertResourceNode and
//! bridge window     their end rounded up to 1 MiB, aligned as the largest BAR     CalculateResourceAperture
//! root bridge       its bridge windows, laid out in the same way
//! MMIO window       its root bridges in the order of their bus numbers, each at   PciHostBridgeDxe,
//!                   the lowest free multiple of its alignment                     AllocateResource
//! ```
//!
//! If a window is too small, firmware drops a BAR without a message, so the result must never be too small. `tests/lab windows`
//! compares it with QEMU and EDK2. All sizes are in KiB.

/// Least size and alignment of a bridge's window: 1 MiB (PCI-to-PCI Bridge Architecture 1.2, 3.2.5.8).
const BRIDGE: u64 = 1 << 10;

/// BARs behind one port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Port {
    /// Sizes of 64-bit prefetchable BARs.
    pub(super) bars: Vec<u64>,
    /// QEMU's `pref64-reserve`: space for devices that are plugged in later.
    pub(super) reserve: u64,
    /// The ports of a switch on this port.
    pub(super) below: Vec<Port>,
}

/// A range of address space under construction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    length: u64,
    alignment: u64,
}

/// Where the last root bridge ends, from the window's beginning; a window begins at a multiple of its size.
pub(super) fn end(roots: &[Vec<Port>]) -> u64 {
    let mut taken: Vec<(u64, u64)> = Vec::new();
    for root in roots {
        let piece = packed(root.iter().filter_map(Port::window).collect());
        if piece.length == 0 {
            continue;
        }
        let start = free(&taken, piece);
        taken.push((start, start.saturating_add(piece.length)));
        taken.sort_unstable();
    }
    taken.iter().map(|(_, end)| *end).max().unwrap_or(0)
}

impl Port {
    /// The window of the bridge; `None` if no device behind it needs one.
    fn window(&self) -> Option<Piece> {
        let bars = self.bars.iter().filter(|size| **size > 0);
        let bars = bars.map(|size| aligned_to_itself(*size));
        let below = self.below.iter().filter_map(Self::window);
        let bars = packed(bars.chain(below).collect());
        let padding = match self.reserve {
            0 => 0,
            reserve => rounded(reserve),
        };
        let length = bars.length.max(padding);
        (length > 0).then(|| Piece {
            length: up(length, BRIDGE),
            alignment: bars.alignment.max(padding).max(BRIDGE),
        })
    }
}

fn aligned_to_itself(size: u64) -> Piece {
    let length = rounded(size);
    Piece {
        length,
        alignment: length,
    }
}

/// Pieces one behind the other, those of the largest alignment first; of these, first those that leave the least behind.
fn packed(mut pieces: Vec<Piece>) -> Piece {
    let rest = |piece: &Piece| piece.length & (piece.alignment - 1);
    pieces.sort_by_key(|piece| (std::cmp::Reverse(piece.alignment), rest(piece)));
    let length = pieces.iter().fold(0, |end, piece| {
        up(end, piece.alignment).saturating_add(piece.length)
    });
    let alignment = pieces.first().map_or(1, |first| first.alignment);
    Piece { length, alignment }
}

/// The lowest multiple of the alignment at which a piece overlaps nothing that is taken; `taken` is in order.
fn free(taken: &[(u64, u64)], piece: Piece) -> u64 {
    taken.iter().fold(0, |start, (from, to)| {
        let overlaps = start < *to && start.saturating_add(piece.length) > *from;
        if overlaps {
            up(*to, piece.alignment)
        } else {
            start
        }
    })
}

fn up(value: u64, alignment: u64) -> u64 {
    value
        .checked_next_multiple_of(alignment)
        .unwrap_or(u64::MAX)
}

/// The next power of two; a size that has none is as large as a size can be.
pub(super) fn rounded(size: u64) -> u64 {
    size.checked_next_power_of_two().unwrap_or(1 << 63)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 10;
    const GIB: u64 = 1 << 20;

    fn port(bars: &[u64]) -> Port {
        Port {
            bars: bars.to_vec(),
            ..Port::default()
        }
    }

    #[derive(serde::Deserialize)]
    struct Table {
        kind: Vec<Kind>,
    }

    #[derive(serde::Deserialize)]
    struct Kind {
        name: String,
        bars_mib: Vec<u64>,
        window_gib: Vec<u64>,
    }

    /// The window in GiB for GPUs on ports of the guest's root bus, or on an expander bus each.
    fn window(count: usize, bars: &[u64], expanders: bool) -> u64 {
        let gpus = vec![port(bars); count];
        let others = port(&[MIB]);
        let roots = match expanders {
            true => std::iter::once(vec![others])
                .chain(gpus.into_iter().map(|gpu| vec![gpu]))
                .collect(),
            false => vec![[gpus, vec![others]].concat()],
        };
        rounded(end(&roots)) / GIB
    }

    #[test]
    fn one_to_eight_gpus_take_what_firmware_takes() {
        let table = include_str!("../../../../tests/data/windows.toml");
        let table: Table = toml::from_str(table).expect("the table");
        for kind in table.kind {
            let bars: Vec<u64> = kind.bars_mib.iter().map(|mib| mib * MIB).collect();
            assert_eq!(kind.window_gib.len(), 8);
            for (count, gib) in (1..).zip(kind.window_gib) {
                let found = [false, true].map(|expanders| window(count, &bars, expanders));
                assert_eq!(found, [gib; 2], "{count} {}", kind.name);
            }
        }
    }

    #[test]
    fn root_bridges_follow_each_other_at_multiples_of_their_alignment() {
        let (small, gpu) = (port(&[MIB]), port(&[256 * GIB]));
        let first = vec![vec![small.clone()], vec![gpu.clone()]];
        assert_eq!(end(&first), 512 * GIB);
        let last = vec![vec![gpu.clone()], vec![small.clone()]];
        assert_eq!(end(&last), 256 * GIB + MIB);
        // A later one fills the hole that an earlier one left.
        let hole = vec![vec![small.clone()], vec![gpu], vec![port(&[64 * GIB])]];
        assert_eq!(end(&hole), 512 * GIB);
    }

    #[test]
    fn a_reservation_counts_as_its_next_power_of_two_where_the_bars_are_smaller() {
        let reserved = |bars: &[u64], gib: u64| {
            let port = Port {
                bars: bars.to_vec(),
                reserve: gib * GIB,
                ..Port::default()
            };
            end(&[vec![port]]) / GIB
        };
        assert_eq!(reserved(&[], 100), 128);
        assert_eq!(reserved(&[GIB], 100), 128);
        assert_eq!(reserved(&[256 * GIB], 100), 256);
        assert_eq!(reserved(&[], 0), 0);
    }

    #[test]
    fn the_window_of_a_switch_is_that_of_its_ports_together() {
        let pair = || vec![port(&[256 * GIB]), port(&[GIB])];
        let switch = || Port {
            below: pair(),
            ..Port::default()
        };
        // Each switch begins at a multiple of its largest BAR, so three of them do not share the space of the small BARs.
        assert_eq!(end(&[vec![switch(), switch(), switch()]]), 1281 * GIB);
        assert_eq!(end(&[[pair(), pair(), pair()].concat()]), 771 * GIB);
    }

    #[test]
    fn huge_sizes_do_not_overflow() {
        let huge = port(&[u64::MAX, 1 << 63, u64::MAX]);
        assert_eq!(end(&[vec![huge.clone(), huge]]), u64::MAX);
        assert_eq!(end(&[]), 0);
    }
}
