//! VFIO variant drivers that `modules.alias` offers for a device.
//!
//! Follows libvirt's choice (src/util/virpci.c, since 10.0): among `vfio_pci:` lines that match the
//! device's modalias the one with the fewest wildcards wins, the first of equals.

/// One `alias vfio_pci:... module` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// The pattern behind `vfio_pci:`.
    pub pattern: String,
    /// The module's name, with underscores.
    pub module: String,
}
