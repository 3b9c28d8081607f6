//! Parses the capabilities after `struct vfio_device_info` without panics.
//!
//! Follows include/uapi/linux/vfio.h: a chain of headers `{u16 id, u16 version, u32 next}`, offsets from the start.

use vfio_bindings::bindings::vfio::VFIO_DEVICE_FLAGS_CAPS;

use crate::atomics::{Width, Widths};

/// VFIO_DEVICE_INFO_CAP_PCI_ATOMIC_COMP, since Linux 6.5; absent if no width passes.
const ATOMICS: u16 = 5;
/// Offsets of `flags` and `cap_offset` in the structure, and of the flags after a capability's header.
const FLAGS: usize = 4;
const FIRST: usize = 16;
const WIDTHS: usize = 8;
/// More than the number of capability types.
const MAX_HOPS: usize = 64;

/// The widths in the reply.
pub(super) fn atomics(info: &[u8]) -> Widths {
    let flags = find(info).and_then(|at| long(info, at + WIDTHS));
    let flags = flags.unwrap_or_default();
    let named = |(bit, _): &(u32, Width)| flags & 1 << bit != 0;
    (0..)
        .zip(Width::ALL)
        .filter(named)
        .map(|(_, width)| width)
        .collect()
}

fn find(info: &[u8]) -> Option<usize> {
    if long(info, FLAGS)? & VFIO_DEVICE_FLAGS_CAPS == 0 {
        return None;
    }
    let mut at = usize::try_from(long(info, FIRST)?).ok()?;
    for _ in 0..MAX_HOPS {
        // The last capability's `next` is 0, which is also `cap_offset` without capabilities.
        if at == 0 {
            return None;
        }
        let id = long(info, at)?.to_ne_bytes();
        if u16::from_ne_bytes([id[0], id[1]]) == ATOMICS {
            return Some(at);
        }
        at = usize::try_from(long(info, at + 4)?).ok()?;
    }
    None
}

fn long(info: &[u8], at: usize) -> Option<u32> {
    let bytes = info.get(at..at.checked_add(4)?)?;
    bytes.try_into().ok().map(u32::from_ne_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A reply with another capability before the one for AtomicOps.
    fn info(flags: u32, widths: u32) -> Vec<u8> {
        let other = [3 | 1 << 16, 36];
        let atomics = [u32::from(ATOMICS) | 1 << 16, 0, widths, 0];
        let head = [52, flags, 9, 5, 24, 0];
        let longs = head.into_iter().chain(other).chain([0]).chain(atomics);
        longs.flat_map(u32::to_ne_bytes).collect()
    }

    #[test]
    fn widths_are_found_after_another_capability() {
        let widths = |flags, widths| atomics(&info(flags, widths)).to_string();
        assert_eq!(widths(VFIO_DEVICE_FLAGS_CAPS, 3), "32, 64");
        assert_eq!(widths(VFIO_DEVICE_FLAGS_CAPS, 4), "128");
        assert_eq!(widths(0, 7), "none");
    }

    #[test]
    fn endless_or_out_of_bounds_capability_chain_gives_no_widths() {
        for next in [24_u32, 4000, u32::MAX] {
            let mut looped = info(VFIO_DEVICE_FLAGS_CAPS, 7);
            looped[28..32].copy_from_slice(&next.to_ne_bytes());
            assert!(atomics(&looped).is_empty(), "{next}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_reply_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let _ = atomics(&bytes);
        }
    }
}
