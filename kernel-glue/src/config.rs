//! PCI config space: the PCI Express capability and its AtomicOp bits.
//!
//! Follows PCIe base specification 7.5.3 (register layout) and include/uapi/linux/pci_regs.h.

use thiserror::Error;

/// Config space as far as it could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Config {
    /// The PCI Express capability was found.
    Express(Express),
    /// All of it was read, and there is no PCI Express capability.
    Conventional,
    /// It could not be read far enough to tell.
    Unreadable(ConfigError),
}

/// Why config space says nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The kernel gives a reader without CAP_SYS_ADMIN 64 bytes and no error.
    #[error("only {0} bytes are visible without CAP_SYS_ADMIN")]
    Short(usize),
    /// All ones: the device is gone or powered down.
    #[error("config space reads as all ones: the device is gone or powered down")]
    AllOnes,
    /// The capability list does not end, or points outside.
    #[error("the capability list is damaged at offset {0:#x}")]
    Damaged(u8),
    /// The file could not be read.
    #[error("{0}")]
    Io(String),
}

/// The PCI Express capability (id 0x10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Express {
    /// Capability version, bits 3:0 of the flags; 2 has DEVCAP2.
    pub version: u8,
    /// Port type.
    pub port: Port,
    /// Device capabilities, offset 0x04.
    pub devcap: u32,
    /// Device capabilities 2, offset 0x24; 0 when the version is below 2.
    pub devcap2: u32,
    /// Device control 2, offset 0x28; 0 when the version is below 2.
    pub devctl2: u16,
}

/// Port type, bits 7:4 of the capability's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Port {
    Endpoint,
    LegacyEndpoint,
    RootPort,
    UpstreamPort,
    DownstreamPort,
    PcieToPci,
    PciToPcie,
    RootComplexEndpoint,
    RootComplexEventCollector,
    Other(u8),
}
