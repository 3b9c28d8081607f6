//! The mark in a domain's metadata: what was added for which device, by which recipe.

use kernel_glue::address::PciAddress;
use kernel_glue::numa::RangeList;

use crate::edit::Element;

/// XML namespace of the mark; the hook looks for it.
pub const NAMESPACE: &str = "urn:variantd:1";

/// `<variantd:prepared>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// One entry per device, in address order.
    pub devices: Vec<Marked>,
    /// The element.
    pub element: Element,
}

/// `<variantd:device>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marked {
    /// The host device.
    pub address: PciAddress,
    /// Name of the recipe that asked for it.
    pub recipe: String,
    /// Generic-initiator cells of the device.
    pub cells: RangeList,
}
