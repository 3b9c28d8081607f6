//! Host NUMA nodes from `/sys/devices/system/node`.
//!
//! Follows drivers/base/node.c: node lists are range lists, an empty line means none; `distance` has one value per
//! *online* node, in id order.

use std::fmt;
use std::ops::Range;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Maximum number of nodes of a kernel (MAX_NUMNODES with NODES_SHIFT 10, arch/*/Kconfig).
pub const MAX_NODES: u32 = 1024;

/// A host NUMA node id, 0 to 1023.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub struct NumaNode(u32);

/// A range list such as `0-1,4`: nodes or CPUs. Stored as sorted ranges that do not touch, because a guest's definition
/// may name 65536 numbers in seven bytes, many times.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RangeList(Vec<(u32, u32)>);

/// Why a number or text is not a node or range list.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NumaError {
    /// The number is above the kernel's maximum.
    #[error("NUMA node {0} is above {max}", max = MAX_NODES - 1)]
    Node(u32),
    /// The text is not a comma-separated list of ranges.
    #[error("'{0}' is not a range list such as 0-1,4")]
    List(String),
}

impl TryFrom<u32> for NumaNode {
    type Error = NumaError;

    fn try_from(id: u32) -> Result<Self, NumaError> {
        if id < MAX_NODES {
            Ok(Self(id))
        } else {
            Err(NumaError::Node(id))
        }
    }
}

impl From<NumaNode> for u32 {
    fn from(node: NumaNode) -> Self {
        node.0
    }
}

impl fmt::Display for NumaNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl RangeList {
    /// The numbers in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.iter().flat_map(|&(first, last)| first..=last)
    }

    /// True for an empty list.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many numbers.
    #[must_use]
    pub fn len(&self) -> usize {
        let sizes = self.0.iter().map(|(first, last)| last - first);
        sizes.map(|size| size as usize + 1).sum()
    }

    /// True if the number is in the list.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        let behind = self.0.partition_point(|(first, _)| *first <= number);
        behind > 0 && number <= self.0[behind - 1].1
    }

    /// The ranges by first and last number, in ascending order; they neither touch nor overlap.
    #[must_use]
    pub fn ranges(&self) -> &[(u32, u32)] {
        &self.0
    }

    /// The numbers that are in both lists. Takes time for the ranges, not for the numbers.
    #[must_use]
    pub fn and(&self, other: &Self) -> Self {
        let (mut ours, mut theirs) = (self.0.iter().peekable(), other.0.iter().peekable());
        let mut both = Vec::new();
        while let (Some(&&(first, last)), Some(&&(from, to))) = (ours.peek(), theirs.peek()) {
            let (begin, end) = (first.max(from), last.min(to));
            both.extend((begin <= end).then_some((begin, end)));
            match last < to {
                true => ours.next(),
                false => theirs.next(),
            };
        }
        Self(both)
    }

    /// The numbers that are not in `other`. Takes time for the ranges, not for the numbers.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let mut between = Vec::new();
        let mut next = Some(0);
        for &(first, last) in &other.0 {
            let gap = next.and_then(|begin| Some((begin, first.checked_sub(1)?)));
            between.extend(gap.filter(|(begin, end)| begin <= end));
            next = last.checked_add(1);
        }
        between.extend(next.map(|begin| (begin, u32::MAX)));
        self.and(&Self(between))
    }

    /// The numbers of all lists. Takes time for the ranges, not for the numbers.
    #[must_use]
    pub fn union<'a>(lists: impl IntoIterator<Item = &'a Self>) -> Self {
        let ranges = lists.into_iter().flat_map(|list| &list.0);
        ranges.copied().collect()
    }

    /// Builds a list from ranges that may touch and overlap.
    fn merged(mut ranges: Vec<(u32, u32)>) -> Self {
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => merged.push((first, last)),
            }
        }
        Self(merged)
    }
}

impl From<Range<u32>> for RangeList {
    fn from(range: Range<u32>) -> Self {
        match range.is_empty() {
            true => Self::default(),
            false => Self(vec![(range.start, range.end - 1)]),
        }
    }
}

/// Ranges by first and last number, which may touch and overlap.
impl FromIterator<(u32, u32)> for RangeList {
    fn from_iter<I: IntoIterator<Item = (u32, u32)>>(ranges: I) -> Self {
        Self::merged(ranges.into_iter().collect())
    }
}

impl FromIterator<u32> for RangeList {
    fn from_iter<I: IntoIterator<Item = u32>>(numbers: I) -> Self {
        Self::merged(numbers.into_iter().map(|number| (number, number)).collect())
    }
}

impl TryFrom<String> for RangeList {
    type Error = NumaError;

    fn try_from(text: String) -> Result<Self, NumaError> {
        text.parse()
    }
}

impl From<RangeList> for String {
    fn from(list: RangeList) -> Self {
        list.to_string()
    }
}

impl FromStr for RangeList {
    type Err = NumaError;

    /// Parses `0-1,4`; trims white space, and an empty text is the empty list. The maximum number is 65535 (more CPUs
    /// than any kernel configuration has).
    fn from_str(text: &str) -> Result<Self, NumaError> {
        let error = || NumaError::List(text.chars().take(64).collect());
        let number = |field: &str| {
            let digits = !field.is_empty() && field.bytes().all(|b| b.is_ascii_digit());
            // `parse` alone would accept a sign.
            digits
                .then(|| field.parse::<u16>().ok())
                .flatten()
                .map(u32::from)
        };
        let mut ranges = Vec::new();
        // `split` of an empty text gives one empty field.
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = number(first).zip(number(last)).ok_or_else(error)?;
            if first > last {
                return Err(error());
            }
            ranges.push((first, last));
        }
        Ok(Self::merged(ranges))
    }
}

impl fmt::Display for RangeList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
        }
        Ok(())
    }
}

/// One online node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Node {
    /// Its id.
    pub id: NumaNode,
    /// CPUs in it; empty for memory-only and generic-initiator nodes.
    pub cpus: RangeList,
    /// MemTotal of `meminfo` in KiB; 0 for a generic-initiator node without memory.
    pub memory_kib: u64,
    /// Distance to each online node, in the order of [`Numa::nodes`]; empty if unreadable.
    pub distances: Vec<u8>,
}

/// All online nodes of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Numa {
    /// Online nodes by ascending id.
    pub nodes: Vec<Node>,
    /// `has_generic_initiator`; `None` if the kernel has no such file.
    pub generic_initiators: Option<RangeList>,
}

impl Numa {
    /// The nodes with processors: one for each socket.
    pub fn sockets(&self) -> impl Iterator<Item = &Node> {
        self.nodes.iter().filter(|node| !node.cpus.is_empty())
    }

    /// The node with this id, if online.
    #[must_use]
    pub fn node(&self, id: NumaNode) -> Option<&Node> {
        self.place(id).map(|place| &self.nodes[place])
    }

    /// Distance as the kernel reports it (10 is local, 255 unreachable); `None` if a node is not online or its
    /// `distance` could not be read.
    #[must_use]
    pub fn distance(&self, from: NumaNode, to: NumaNode) -> Option<u8> {
        let column = self.place(to)?;
        self.node(from)?.distances.get(column).copied()
    }

    /// Parses a line of `/sys/devices/system/node/nodeN/distance`: one value for each of so many online nodes (0 to
    /// 255), or `None` (drivers/base/node.c, node_read_distance).
    #[must_use]
    pub fn parse_distances(line: &str, online: usize) -> Option<Vec<u8>> {
        let distances: Result<Vec<u8>, _> = line.split_whitespace().map(str::parse).collect();
        distances.ok().filter(|row| row.len() == online)
    }

    fn place(&self, id: NumaNode) -> Option<usize> {
        // On most hosts all nodes are online, and a node's index is its id.
        let place = id.0 as usize;
        if self.nodes.get(place).is_some_and(|node| node.id == id) {
            return Some(place);
        }
        self.nodes.binary_search_by_key(&id, |node| node.id).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_line_is_no_node() {
        assert!("\n".parse::<RangeList>().expect("empty").is_empty());
    }

    #[test]
    fn invalid_range_list_is_reported() {
        for bad in ["1-", "-1", "2-1", "1,,2", "a", "0-99999999", "1 2"] {
            assert!(bad.parse::<RangeList>().is_err(), "{bad:?} was accepted");
        }
    }

    #[test]
    fn many_wide_ranges_take_no_more_than_one() {
        let wide = "0-65535,".repeat(1 << 17);
        let list: RangeList = wide.trim_end_matches(',').parse().expect("a list");
        assert_eq!((list.len(), &*list.to_string()), (65_536, "0-65535"));
        assert_eq!(RangeList::from(0..u32::MAX).to_string(), "0-4294967294");
        assert!(RangeList::from(0..0).is_empty());
    }

    #[test]
    fn a_list_has_what_is_in_a_range_and_nothing_between() {
        let list: RangeList = "7,4-5,0-1".parse().expect("a list");
        let all = (0..10).filter(|number| list.contains(*number));
        assert!(all.eq(list.iter()));
        assert_eq!(list.to_string(), "0-1,4-5,7");
    }

    fn lists() -> impl Strategy<Value = (RangeList, RangeList)> {
        let one = || proptest::collection::btree_set(0u32..60, 0..40);
        (one(), one()).prop_map(|(a, b)| (a.into_iter().collect(), b.into_iter().collect()))
    }

    #[test]
    fn the_largest_number_is_left_out_as_well() {
        let all: RangeList = [(0, u32::MAX)].into_iter().collect();
        let last: RangeList = [u32::MAX].into_iter().collect();
        assert_eq!(all.without(&last), RangeList::from(0..u32::MAX));
        assert!(all.without(&all).is_empty());
        assert_eq!(all.without(&RangeList::default()), all);
    }

    proptest! {
        #[test]
        fn lists_are_combined_as_their_numbers((one, other) in lists()) {
            let numbers = |wanted: &dyn Fn(u32) -> bool| -> RangeList {
                (0..60).filter(|number| wanted(*number)).collect()
            };
            let (a, b) = (|number| one.contains(number), |number| other.contains(number));
            prop_assert_eq!(one.and(&other), numbers(&|number| a(number) && b(number)));
            prop_assert_eq!(one.without(&other), numbers(&|number| a(number) && !b(number)));
            prop_assert_eq!(RangeList::union([&one, &other]), numbers(&|number| a(number) || b(number)));
        }

        #[test]
        fn a_list_prints_as_it_parses(numbers in proptest::collection::btree_set(0u32..2000, 0..50)) {
            let list: RangeList = numbers.into_iter().collect();
            prop_assert_eq!(list.to_string().parse(), Ok(list));
        }
    }
}
