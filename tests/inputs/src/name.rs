//! Short texts: addresses and ids of devices, names of drivers, lists of numbers, versions.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use domain::DomainUuid;
use kernel_glue::address::PciAddress;
use kernel_glue::driver::DriverName;
use kernel_glue::id::PciId;
use kernel_glue::numa::{Numa, RangeList};
use planner::target::Versions;

/// An accepted value prints as a text that parses to the same value.
pub(crate) fn address(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    same_again::<PciAddress>(&text);
    same_again::<PciId>(&text);
    same_again::<DriverName>(&text);
    same_again::<DomainUuid>(&text);
    let _ = text.parse::<Versions>();
    if let Ok(driver) = text.parse::<DriverName>() {
        let name = driver.as_str();
        assert!(
            !name.contains('/') && !name.starts_with('.'),
            "a name that is a path"
        );
    }
}

/// A list has no number twice, and its printed form is not longer than the input.
pub(crate) fn nodeset(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    same_again::<RangeList>(&text);
    let Ok(list) = text.parse::<RangeList>() else {
        return;
    };
    assert_eq!(list.iter().count(), list.len());
    assert!(list.iter().all(|number| list.contains(number)));
    assert_eq!(list.iter().collect::<RangeList>(), list);
    assert!(list.to_string().len() <= text.len());
}

/// A row of distances has one distance for each node; for another number of nodes the same row is refused.
pub(crate) fn distances(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split_whitespace().count();
    assert_eq!(Numa::parse_distances(&text, words + 1), None);
    if let Some(row) = Numa::parse_distances(&text, words) {
        assert_eq!(row.len(), words);
        let line: Vec<String> = row.iter().map(u8::to_string).collect();
        assert_eq!(Numa::parse_distances(&line.join(" "), words), Some(row));
    }
}

fn same_again<T: FromStr + Display + PartialEq + Debug>(text: &str) {
    if let Ok(read) = text.parse::<T>() {
        let again = read.to_string().parse::<T>().ok();
        assert_eq!(again, Some(read), "'{text}'");
    }
}
