//! PCI config space: the PCI Express capability and its AtomicOp bits.
//!
//! Follows PCIe base specification 7.5.3 (register layout) and include/uapi/linux/pci_regs.h.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::atomics::Widths;

/// Config space, as far as it was readable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Config {
    /// The device has the PCI Express capability.
    Express(Express),
    /// All of config space was read, and it has no PCI Express capability.
    Conventional,
    /// Config space was not readable up to the capability.
    Unreadable(ConfigError),
}

/// Why config space cannot be interpreted.
#[derive(Clone, Debug, PartialEq, Eq, Error, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConfigError {
    /// The kernel returns 64 bytes, and no error, to a reader without CAP_SYS_ADMIN.
    #[error("only {0} bytes are visible without CAP_SYS_ADMIN")]
    Short(usize),
    /// All ones: the device was removed or is powered down.
    #[error("config space reads as all ones: the device was removed or is powered down")]
    AllOnes,
    /// The capability list does not end, or points outside.
    #[error("the capability list is damaged at offset {0:#x}")]
    Damaged(u8),
    /// The file could not be read.
    #[error("{0}")]
    Io(String),
}

/// The PCI Express capability (id 0x10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Express {
    /// Capability version, bits 3:0 of the flags; 2 has DEVCAP2.
    pub version: u8,
    /// Port type.
    pub port: Port,
    /// Device capabilities, offset 0x04.
    pub devcap: u32,
    /// Device control, offset 0x08.
    pub devctl: u16,
    /// Link capabilities, offset 0x0c; 0 for an integrated function, which has no link.
    pub lnkcap: u32,
    /// Device capabilities 2, offset 0x24; 0 when the version is below 2.
    pub devcap2: u32,
    /// Device control 2, offset 0x28; 0 when the version is below 2.
    pub devctl2: u16,
    /// Access control (ACS control register); `None` if the function has none, or extended config space is not visible.
    pub access_control: Option<u16>,
    /// Address translation by the function itself; `None` for a port, where extended config space is not visible, and in
    /// snapshots of earlier releases.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ats: Option<Ats>,
}

/// A bit of the ACS control register that decides the route of requests between devices (PCIe base specification 7.7.11.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessControl {
    /// P2P Request Redirect.
    RequestRedirect = 2,
    /// P2P Completion Redirect.
    CompletionRedirect = 3,
    /// Upstream Forwarding.
    UpstreamForwarding = 4,
    /// P2P Egress Control.
    EgressControl = 5,
    /// Direct Translated P2P.
    DirectTranslated = 6,
}

/// Address Translation Services of a function: it asks the IOMMU for addresses, and sends requests with translated ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ats {
    /// The function does not have the capability.
    Absent,
    /// Disabled at present. The kernel enables it when it attaches the function to an IOMMU that supports it.
    Off,
    /// Enabled at present.
    On,
}

/// Port type, bits 7:4 of the capability's flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

/// Offset of the capability pointer in an ordinary header, and in a CardBus bridge's.
const POINTER: usize = 0x34;
const POINTER_CARDBUS: usize = 0x14;
/// The header, which every reader sees.
const HEADER: usize = 0x40;
/// Size of conventional config space; capability pointers do not reach beyond it.
const REACH: usize = 0x100;
/// Number of 4-byte capabilities that fit between header and end (PCI_FIND_CAP_TTL, drivers/pci/pci.h).
const MAX_HOPS: usize = 48;
/// Capability id of PCI Express.
const EXPRESS: u8 = 0x10;
/// Extended capability id of Access Control Services.
const ACCESS_CONTROL: u16 = 0x0d;
/// Extended capability id of Address Translation Services.
const ATS: u16 = 0x0f;
/// Number of extended capabilities that fit after conventional config space (PCI_CFG_SPACE_EXP_SIZE, eight bytes each).
const MAX_EXTENDED: usize = (4096 - REACH) / 8;

impl Config {
    /// Parses config space as read from `config`: all of it, or the first 64 bytes.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let conventional = &bytes[..bytes.len().min(REACH)];
        Self::of(Space {
            conventional,
            extended: &|at| bytes.get(at..at + 4)?.try_into().ok(),
        })
    }

    /// Reads only the needed parts of config space: the kernel asks the device for each four bytes (`pci_read_config`,
    /// drivers/pci/pci-sysfs.c), so all 4,096 bytes are 1,024 requests.
    pub(crate) fn read(file: &File) -> io::Result<Self> {
        let mut bytes = [0; REACH];
        let mut length = 0;
        while length < REACH {
            match file.read_at(&mut bytes[length..], length as u64) {
                Ok(0) => break,
                Ok(count) => length += count,
                Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
                Err(why) => return Err(why),
            }
        }
        let failed = Cell::new(None);
        let config = Self::of(Space {
            conventional: &bytes[..length],
            extended: &|at| {
                let mut long = [0; 4];
                match file.read_exact_at(&mut long, at as u64) {
                    Ok(()) => Some(long),
                    // Users other than root may read the first 64 bytes.
                    Err(why) if why.kind() == io::ErrorKind::UnexpectedEof => None,
                    Err(why) => {
                        failed.set(Some(why));
                        None
                    }
                }
            },
        });
        match failed.into_inner() {
            Some(why) => Err(why),
            None => Ok(config),
        }
    }

    fn of(space: Space<'_>) -> Self {
        match space.express() {
            Ok(Some(express)) => Self::Express(express),
            Ok(None) => Self::Conventional,
            Err(error) => Self::Unreadable(error),
        }
    }

    /// The PCI Express capability, if found.
    #[must_use]
    pub fn express(&self) -> Option<&Express> {
        match self {
            Self::Express(express) => Some(express),
            Self::Conventional | Self::Unreadable(_) => None,
        }
    }
}

impl Express {
    /// Highest link speed: 1 for 2.5 GT/s to 6 for 64 GT/s; 0 without a link (LNKCAP bits 3:0).
    #[must_use]
    pub fn link_speed(&self) -> u32 {
        self.lnkcap & 0xf
    }

    /// Widest link in lanes; 0 without a link (LNKCAP bits 9:4).
    #[must_use]
    pub fn link_width(&self) -> u32 {
        self.lnkcap >> 4 & 0x3f
    }

    /// AtomicOp widths it completes: DEVCAP2 bits 7 to 9.
    #[must_use]
    pub fn completer(&self) -> Widths {
        Widths::from_devcap2(self.devcap2)
    }

    /// Routes AtomicOps: DEVCAP2 bit 6. On a root port: between root ports.
    #[must_use]
    pub fn routes_atomics(&self) -> bool {
        self.devcap2 & 1 << 6 != 0
    }

    /// May send AtomicOps at present: DEVCTL2 bit 6.
    #[must_use]
    pub fn requester_enabled(&self) -> bool {
        self.devctl2 & 1 << 6 != 0
    }

    /// Blocks AtomicOps that would leave through this port: DEVCTL2 bit 7.
    #[must_use]
    pub fn egress_blocked(&self) -> bool {
        self.devctl2 & 1 << 7 != 0
    }

    /// May mark its writes as relaxed: DEVCTL bit 4.
    #[must_use]
    pub fn relaxed_ordering(&self) -> bool {
        self.devctl & 1 << 4 != 0
    }

    /// Redirects requests between devices below it to its upstream side: ACS control bit 2.
    #[must_use]
    pub fn redirects_peers(&self) -> bool {
        self.has_control(AccessControl::RequestRedirect)
    }

    /// A bit of the ACS control register is set.
    #[must_use]
    pub fn has_control(&self, bit: AccessControl) -> bool {
        self.access_control.unwrap_or_default() & 1 << bit as u16 != 0
    }

    /// No relaxed-ordering-enabled passing between peers: DEVCAP2 bit 10.
    #[must_use]
    pub fn no_relaxed_peer_passing(&self) -> bool {
        self.devcap2 & 1 << 10 != 0
    }

    /// Supports function level reset: DEVCAP bit 28.
    #[must_use]
    pub fn function_level_reset(&self) -> bool {
        self.devcap & 1 << 28 != 0
    }
}

impl Ats {
    /// Bit 15 of the control register enables it.
    fn from_control(control: u16) -> Self {
        match control >> 15 {
            0 => Self::Off,
            _ => Self::On,
        }
    }
}

impl Port {
    /// True for a function that is not a port or bridge.
    #[must_use]
    pub fn is_endpoint(self) -> bool {
        matches!(
            self,
            Self::Endpoint | Self::LegacyEndpoint | Self::RootComplexEndpoint
        )
    }
}

impl From<u8> for Port {
    /// From the four bits of the capability's flags.
    fn from(bits: u8) -> Self {
        match bits {
            0 => Self::Endpoint,
            1 => Self::LegacyEndpoint,
            4 => Self::RootPort,
            5 => Self::UpstreamPort,
            6 => Self::DownstreamPort,
            7 => Self::PcieToPci,
            8 => Self::PciToPcie,
            9 => Self::RootComplexEndpoint,
            10 => Self::RootComplexEventCollector,
            other => Self::Other(other),
        }
    }
}

/// The control registers of extended capabilities.
#[derive(Default)]
struct Controls {
    access_control: Option<u16>,
    ats: Option<Ats>,
}

/// Config space of any length, read without panics.
struct Space<'a> {
    /// As much as is readable of the first 256 bytes.
    conventional: &'a [u8],
    /// Reads the four bytes at an offset after them.
    extended: &'a dyn Fn(usize) -> Option<[u8; 4]>,
}

impl Space<'_> {
    fn express(&self) -> Result<Option<Express>, ConfigError> {
        self.capability(EXPRESS)?
            .map(|at| self.express_at(at))
            .transpose()
    }

    /// The offset of a capability.
    fn capability(&self, wanted: u8) -> Result<Option<u8>, ConfigError> {
        let length = self.conventional.len();
        if length < HEADER {
            return Err(ConfigError::Short(length));
        }
        // Only the ids of a virtual function read as all ones (PCI Express SR-IOV, 9.3.4.1.1).
        if self.conventional[..HEADER] == [0xff; HEADER] {
            return Err(ConfigError::AllOnes);
        }
        // Status register, Capabilities List (PCIe base specification 7.5.1.1.4).
        if self.conventional[6] & 1 << 4 == 0 {
            return Ok(None);
        }
        // Header type; bit 7 only says that the device has several functions (7.5.1.1.9).
        let cardbus = self.conventional[0x0e] & 0x7f == 2;
        let first = if cardbus { POINTER_CARDBUS } else { POINTER };
        self.find_from(self.conventional[first], wanted)
    }

    fn find_from(&self, first: u8, wanted: u8) -> Result<Option<u8>, ConfigError> {
        // The two low bits of each capability pointer are reserved and must be masked (7.5.1.1.11).
        let mut at = first & !3;
        for _ in 0..MAX_HOPS {
            match usize::from(at) {
                0 => return Ok(None),
                low if low < HEADER => return Err(ConfigError::Damaged(at)),
                _ => {}
            }
            let id = self.word(at, 0)?.to_le_bytes()[0];
            match id {
                // The kernel also ends its search here: the device stopped answering in the middle of the list.
                0xff => return Err(ConfigError::Damaged(at)),
                id if id == wanted => return Ok(Some(at)),
                _ => at = self.word(at, 0)?.to_le_bytes()[1] & !3,
            }
        }
        match at {
            0 => Ok(None),
            at => Err(ConfigError::Damaged(at)),
        }
    }

    fn express_at(&self, at: u8) -> Result<Express, ConfigError> {
        let flags = self.word(at, 2)?.to_le_bytes()[0];
        let version = flags & 0xf;
        let second = version >= 2;
        let port = Port::from(flags >> 4);
        let controls = self.controls(port);
        Ok(Express {
            version,
            port,
            devcap: self.long(at, 4)?,
            devctl: self.word(at, 8)?,
            lnkcap: match port {
                // An integrated function may end its capability before the link registers.
                Port::RootComplexEndpoint | Port::RootComplexEventCollector => 0,
                _ => self.long(at, 0x0c)?,
            },
            devcap2: if second { self.long(at, 0x24)? } else { 0 },
            devctl2: if second { self.word(at, 0x28)? } else { 0 },
            access_control: controls.access_control,
            ats: controls.ats,
        })
    }

    /// A damaged list counts as one that ends.
    fn controls(&self, port: Port) -> Controls {
        let mut found = Controls::default();
        let wants_ats = port.is_endpoint();
        let mut at = REACH;
        for _ in 0..MAX_EXTENDED {
            let Some([low, high, next, above]) = (self.extended)(at) else {
                return found;
            };
            match u16::from_le_bytes([low, high]) {
                ACCESS_CONTROL => found.access_control = self.control(at),
                ATS => found.ats = self.control(at).map(Ats::from_control),
                _ => {}
            }
            if found.access_control.is_some() && (!wants_ats || found.ats.is_some()) {
                return found;
            }
            // Bits 31:20 of the header are the next offset, and its two low bits are reserved (7.6.3).
            at = usize::from(u16::from_le_bytes([next, above]) >> 4 & !3);
            // 0 ends the list. A function without extended capabilities has a header of zeroes at 0x100.
            if at < REACH {
                break;
            }
        }
        found.ats = found.ats.or(wants_ats.then_some(Ats::Absent));
        found
    }

    /// The control register of an extended capability that has it in the upper half of its second register: ACS (7.7.11.3) and
    /// ATS (10.5.1.3).
    fn control(&self, at: usize) -> Option<u16> {
        let [_, _, low, high] = (self.extended)(at + 4)?;
        Some(u16::from_le_bytes([low, high]))
    }

    fn word(&self, at: u8, offset: usize) -> Result<u16, ConfigError> {
        Ok(u16::from_le_bytes(self.array(at, offset)?))
    }

    fn long(&self, at: u8, offset: usize) -> Result<u32, ConfigError> {
        Ok(u32::from_le_bytes(self.array(at, offset)?))
    }

    /// Bytes of the capability at `at`. Beyond the readable part: too short; beyond the area of capabilities: damaged.
    fn array<const N: usize>(&self, at: u8, offset: usize) -> Result<[u8; N], ConfigError> {
        let start = usize::from(at) + offset;
        if start + N > REACH {
            return Err(ConfigError::Damaged(at));
        }
        self.conventional
            .get(start..start + N)
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(ConfigError::Short(self.conventional.len()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::atomics::Width;
    use proptest::prelude::*;

    /// An endpoint with its PCI Express capability at 0x40.
    fn endpoint(devcap2: u32, devctl2: u16) -> Vec<u8> {
        let mut bytes = vec![0; 256];
        bytes[..4].copy_from_slice(&[0xde, 0x10, 0x42, 0x23]);
        bytes[6] = 0x10;
        bytes[0x34] = 0x42;
        bytes[0x40] = 0x05;
        bytes[0x41] = 0x60;
        bytes[0x60] = EXPRESS;
        bytes[0x62] = 0x02;
        bytes[0x84..0x88].copy_from_slice(&devcap2.to_le_bytes());
        bytes[0x88..0x8a].copy_from_slice(&devctl2.to_le_bytes());
        bytes
    }

    /// Reads the same bytes from a file.
    fn read(bytes: &[u8]) -> Config {
        let mut file = tempfile::tempfile().expect("file");
        std::io::Write::write_all(&mut file, bytes).expect("written");
        Config::read(&file).expect("read")
    }

    fn damaged(change: impl Fn(&mut Vec<u8>)) -> Config {
        let mut bytes = endpoint(0, 0);
        change(&mut bytes);
        Config::parse(&bytes)
    }

    #[test]
    fn bits_are_found_after_another_capability() {
        let config = Config::parse(&endpoint(0x0000_0180, 0x0040));
        let express = config.express().expect("express");
        assert_eq!((express.version, express.port), (2, Port::Endpoint));
        assert_eq!(express.completer().to_string(), "32, 64");
        assert!(express.completer().contains(Width::Bits64));
        assert!(express.requester_enabled() && !express.egress_blocked());
    }

    #[test]
    fn access_control_is_found_after_another_extended_capability() {
        let mut bytes = endpoint(0, 0);
        bytes[0x68] = 0x10;
        assert_eq!(
            Config::parse(&bytes)
                .express()
                .expect("express")
                .access_control,
            None
        );
        bytes.resize(4096, 0);
        bytes[0x100..0x104].copy_from_slice(&0x1401_0001_u32.to_le_bytes());
        bytes[0x140..0x144].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
        bytes[0x146] = 0x1d;
        let config = Config::parse(&bytes);
        assert_eq!(read(&bytes), config);
        let express = config.express().expect("express");
        assert_eq!(express.access_control, Some(0x1d));
        assert!(express.redirects_peers() && express.relaxed_ordering());
        bytes[0x100..0x104].copy_from_slice(&0x1001_0001_u32.to_le_bytes());
        let looped = Config::parse(&bytes);
        assert!(!looped.express().expect("express").redirects_peers());
    }

    /// The state of ATS with these extended capabilities: header at 0x100, control register at 0x106, bytes in all.
    fn ats(port: u8, header: u32, control: u16, length: usize) -> Option<Ats> {
        let mut bytes = endpoint(0, 0);
        bytes[0x62] |= port << 4;
        bytes.resize(4096, 0);
        bytes[0x100..0x104].copy_from_slice(&header.to_le_bytes());
        bytes[0x106..0x108].copy_from_slice(&control.to_le_bytes());
        bytes.truncate(length);
        let config = Config::parse(&bytes);
        assert_eq!(read(&bytes), config);
        config.express().expect("express").ats
    }

    #[test]
    fn ats_is_absent_only_where_extended_config_space_was_read() {
        assert_eq!(ats(0, 0x0001_000f, 0x8000, 4096), Some(Ats::On));
        assert_eq!(ats(0, 0x0001_000f, 0x001f, 4096), Some(Ats::Off));
        assert_eq!(ats(0, 0x0001_0001, 0x8000, 4096), Some(Ats::Absent));
        assert_eq!(ats(0, 0x0001_000f, 0x8000, 256), None);
        assert_eq!(ats(6, 0x0001_0001, 0, 4096), None, "a port");
    }

    #[test]
    fn a_link_is_read_where_there_is_one() {
        let mut bytes = endpoint(0, 0);
        bytes[0x6c..0x70].copy_from_slice(&0x0047_3904_u32.to_le_bytes());
        let link = |bytes: &[u8]| {
            let config = Config::parse(bytes);
            let express = config.express().expect("express");
            (express.link_speed(), express.link_width())
        };
        assert_eq!(link(&bytes), (4, 16));
        bytes[0x62] = 0x92;
        assert_eq!(link(&bytes), (0, 0), "an integrated endpoint");
    }

    #[test]
    fn a_short_read_is_not_taken_for_a_missing_capability() {
        let short = Config::parse(&endpoint(0, 0)[..64]);
        assert_eq!(short, Config::Unreadable(ConfigError::Short(64)));
        let none = Config::parse(&[]);
        assert_eq!(none, Config::Unreadable(ConfigError::Short(0)));
    }

    #[test]
    fn a_header_without_capabilities_needs_no_privilege() {
        let mut bytes = endpoint(0, 0);
        bytes[6] = 0;
        assert_eq!(Config::parse(&bytes[..64]), Config::Conventional);
    }

    #[test]
    fn all_ones_are_no_capability_bits() {
        let gone = Config::parse(&[0xff; 4096]);
        assert_eq!(gone, Config::Unreadable(ConfigError::AllOnes));
    }

    #[test]
    fn a_pointer_into_the_header_is_damage() {
        let config = damaged(|bytes| bytes[0x41] = 0x3c);
        assert_eq!(config, Config::Unreadable(ConfigError::Damaged(0x3c)));
    }

    #[test]
    fn a_loop_is_damage() {
        let config = damaged(|bytes| bytes[0x41] = 0x40);
        assert_eq!(config, Config::Unreadable(ConfigError::Damaged(0x40)));
    }

    #[test]
    fn capability_beyond_config_space_is_damaged() {
        let config = damaged(|bytes| {
            bytes[0x41] = 0xf0;
            bytes[0xf0] = EXPRESS;
            bytes[0xf2] = 0x02;
        });
        assert_eq!(config, Config::Unreadable(ConfigError::Damaged(0xf0)));
    }

    #[test]
    fn the_first_version_has_no_second_registers() {
        let mut bytes = endpoint(0x380, 0x40);
        bytes[0x62] = 0x01;
        let config = Config::parse(&bytes);
        assert!(config.express().expect("express").completer().is_empty());
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600), list: bool) {
            if let (true, Some(status)) = (list, bytes.get_mut(6)) {
                *status |= 0x10;
            }
            let config = Config::parse(&bytes);
            prop_assert!(bytes.len() >= 64 || config.express().is_none());
            prop_assert_eq!(read(&bytes), config);
        }
    }
}
