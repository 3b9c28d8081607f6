//! A packet of libvirt's remote protocol: length, header, payload.
//!
//! ```text
//! u32 length (of the whole packet, this field included)
//! u32 program   u32 version   i32 procedure   u32 type   u32 serial   u32 status     = the header
//! [u32 number of descriptors]   only types 4 and 5; each then follows the packet as one byte with SCM_RIGHTS
//! payload in XDR
//! ```
//!
//! Follows libvirt's src/rpc/virnetprotocol.x, virnetmessage.c and virsocket.c (9.0 to 12.8: no change). All numbers are big-endian.

use std::fmt;
use std::os::fd::OwnedFd;

/// Bytes of the length field.
pub const LENGTH: usize = 4;
/// Bytes of the length field and the header.
pub const HEAD: usize = 28;
/// Maximum of the length field: `VIR_NET_MESSAGE_MAX` and the field itself.
pub const MAX: usize = 33_554_432 + LENGTH;
/// Bytes of a string: `VIR_NET_MESSAGE_STRING_MAX`.
pub const MAX_STRING: usize = 4_194_304;
/// Descriptors of a packet: `VIR_NET_MESSAGE_NUM_FDS_MAX`.
pub const MAX_DESCRIPTORS: u32 = 32;

/// The program of libvirt's own calls: `REMOTE_PROGRAM`.
pub const REMOTE: u32 = 0x2000_8086;
/// The version of [`REMOTE`].
pub const REMOTE_VERSION: u32 = 1;

/// `VIR_NET_CALL`.
pub const CALL: u32 = 0;
/// `VIR_NET_REPLY`.
pub const REPLY: u32 = 1;
/// `VIR_NET_CALL_WITH_FDS`.
pub const CALL_WITH_DESCRIPTORS: u32 = 4;
/// `VIR_NET_REPLY_WITH_FDS`.
pub const REPLY_WITH_DESCRIPTORS: u32 = 5;
/// The status `VIR_NET_ERROR`.
pub const ERROR: u32 = 1;

/// Length and header of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the whole packet, without the bytes that carry descriptors.
    pub length: u32,
    /// The program.
    pub program: u32,
    /// Its version.
    pub version: u32,
    /// The procedure in the program.
    pub procedure: u32,
    /// [`CALL`], [`REPLY`] and others.
    pub kind: u32,
    /// The call's number, which its reply repeats.
    pub serial: u32,
    /// 0, or [`ERROR`].
    pub status: u32,
}

/// A peer does not follow the protocol; after this the connection cannot continue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// The length field is below [`HEAD`] or above [`MAX`].
    Length(u32),
    /// More descriptors than [`MAX_DESCRIPTORS`], or no room for their number.
    Descriptors(u32),
    /// A byte that must carry a descriptor has none.
    NoDescriptor,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Length(length) => {
                write!(f, "a packet of {length} bytes; expected {HEAD} to {MAX}")
            }
            Self::Descriptors(count) => write!(
                f,
                "a packet with {count} descriptors; at most {MAX_DESCRIPTORS} are allowed"
            ),
            Self::NoDescriptor => f.write_str("a byte without its descriptor"),
        }
    }
}

impl std::error::Error for Violation {}

impl Header {
    /// Reads length and header.
    ///
    /// # Errors
    /// The length is out of bounds.
    pub fn parse(bytes: &[u8; HEAD]) -> Result<Self, Violation> {
        let word = |index: usize| word(bytes, index * 4);
        let header = Self {
            length: word(0),
            program: word(1),
            version: word(2),
            procedure: word(3),
            kind: word(4),
            serial: word(5),
            status: word(6),
        };
        match header.size() {
            HEAD..=MAX => Ok(header),
            _ => Err(Violation::Length(header.length)),
        }
    }

    /// The header's bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEAD] {
        let words = [
            self.length,
            self.program,
            self.version,
            self.procedure,
            self.kind,
            self.serial,
            self.status,
        ];
        let mut bytes = [0; HEAD];
        for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    /// Bytes of the whole packet.
    #[must_use]
    pub fn size(&self) -> usize {
        self.length as usize
    }

    /// Descriptors follow the packet.
    #[must_use]
    pub fn has_descriptors(&self) -> bool {
        [CALL_WITH_DESCRIPTORS, REPLY_WITH_DESCRIPTORS].contains(&self.kind)
    }

    /// A call of libvirt's own program in the version that this module knows.
    #[must_use]
    pub fn is_remote_call(&self) -> bool {
        self.program == REMOTE
            && self.version == REMOTE_VERSION
            && [CALL, CALL_WITH_DESCRIPTORS].contains(&self.kind)
    }
}

/// The big-endian number at this place.
fn word(bytes: &[u8; HEAD], at: usize) -> u32 {
    let mut word = [0; 4];
    word.copy_from_slice(&bytes[at..at + 4]);
    u32::from_be_bytes(word)
}

/// A whole packet with its descriptors.
#[derive(Debug)]
pub struct Packet {
    /// Its header; `length` is that of `bytes`.
    pub header: Header,
    /// Length, header and payload.
    pub bytes: Vec<u8>,
    /// The descriptors that follow it.
    pub descriptors: Vec<OwnedFd>,
}

impl Packet {
    /// Where the arguments begin in `bytes`.
    #[must_use]
    pub fn arguments(&self) -> usize {
        match self.header.has_descriptors() {
            true => HEAD + 4,
            false => HEAD,
        }
    }

    /// Replaces the bytes, and writes their length into them.
    ///
    /// # Errors
    /// They are longer than [`MAX`].
    pub fn replace(&mut self, bytes: Vec<u8>) -> Result<(), Violation> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        if bytes.len() > MAX || bytes.len() < HEAD {
            return Err(Violation::Length(length));
        }
        self.bytes = bytes;
        self.bytes[..LENGTH].copy_from_slice(&length.to_be_bytes());
        self.header.length = length;
        Ok(())
    }
}
