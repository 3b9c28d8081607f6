//! The ACPI System Resource Affinity Table: which device each generic initiator belongs to.
//!
//! Follows ACPI 6.5, 5.2.16; node numbering follows drivers/acpi/numa/srat.c (`acpi_numa_init`).

use std::collections::BTreeMap;

use crate::address::PciAddress;
use crate::numa::NumaNode;

/// What SRAT says of generic initiators, translated to the kernel's node ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Srat {
    /// Nodes of the enabled PCI generic initiators, by device, in table order.
    pub initiators: BTreeMap<PciAddress, Vec<NumaNode>>,
}
