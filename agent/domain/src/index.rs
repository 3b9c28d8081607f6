//! The index that libvirt assigns to a PCI controller without one.
//!
//! Follows virDomainAssignControllerIndexes (libvirt, src/conf/domain_postparse.c): in document order each controller
//! gets the lowest index that no other PCI controller has, regardless of its model. A port before the root therefore
//! gets index 0.

use std::collections::BTreeSet;

/// Returns the indexes of all PCI controllers; `written` has those of the definition.
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
    fn controller_without_an_index_gets_the_lowest_free_one() {
        assert_eq!(assigned(&[None, None, None]), [0, 1, 2]);
        assert_eq!(assigned(&[Some(1), None, None]), [1, 0, 2]);
        assert_eq!(assigned(&[None, Some(1), None, Some(0)]), [2, 1, 3, 0]);
        assert_eq!(assigned(&[Some(10), Some(10), None]), [10, 10, 0]);
    }
}
