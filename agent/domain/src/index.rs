//! The index that libvirt gives to a PCI controller without one.
//!
//! Follows virDomainAssignControllerIndexes (libvirt, src/conf/domain_postparse.c): in document order each takes the lowest
//! index that no other PCI controller has, whatever its model. A port in front of the root therefore takes index 0.

use std::collections::BTreeSet;

/// The indexes of all PCI controllers, of which some are written.
pub(super) fn assigned(written: &[Option<u32>]) -> Vec<u32> {
    let used: BTreeSet<u32> = written.iter().copied().flatten().collect();
    let mut free = (0..=u32::MAX).filter(|index| !used.contains(index));
    let mut next = || free.next().unwrap_or(u32::MAX);
    let indexes = written.iter();
    indexes
        .map(|index| index.unwrap_or_else(&mut next))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::assigned;

    #[test]
    fn a_controller_without_an_index_takes_the_lowest_free_one() {
        assert_eq!(assigned(&[None, None, None]), [0, 1, 2]);
        assert_eq!(assigned(&[Some(1), None, None]), [1, 0, 2]);
        assert_eq!(assigned(&[None, Some(1), None, Some(0)]), [2, 1, 3, 0]);
        assert_eq!(assigned(&[Some(10), Some(10), None]), [10, 10, 0]);
    }
}
