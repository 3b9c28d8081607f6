//! The calls that carry a definition or a device, or start a domain, and where their arguments have it.
//!
//! Follows libvirt's src/remote/remote_protocol.x; the numbers never change there. The XML of a migration's begin and perform is for
//! the other host, so it is forwarded unchanged; that host's own transport or hook completes it.

use std::ops::Range;

use ask::Affects;

use crate::packet::{Header, MAX_STRING, Packet};
use crate::xdr::{Malformed, Reader, Text};

/// `VIR_DOMAIN_SNAPSHOT_CREATE_REDEFINE` and `VIR_DOMAIN_CHECKPOINT_CREATE_REDEFINE`.
const REDEFINE: u32 = 1;
/// `VIR_DOMAIN_AFFECT_LIVE`.
const LIVE: u32 = 1;
/// `VIR_DOMAIN_AFFECT_CONFIG`.
const CONFIG: u32 = 2;
/// Bytes of the arguments beside their strings.
const REST: usize = 64 << 10;

/// A call that is not simply forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// Its first argument is a definition: create (10, 309) and define (11, 350).
    Definition,
    /// A file, then a definition: save-image definition (236).
    Image,
    /// A file, then perhaps a definition: restore (233).
    Restore,
    /// A domain, a file, then perhaps a definition: save (232).
    Save,
    /// A domain, then perhaps a definition: managed-save definition (389).
    ManagedSave,
    /// A domain, then parameters with a definition: save (440).
    SaveParameters,
    /// Parameters with a definition: restore (441).
    RestoreParameters,
    /// A domain, a snapshot or checkpoint that has definitions, flags: 185, 411.
    Snapshot,
    /// A definition at the end of the arguments of a migration's destination: 108, 148.
    Prepare2 {
        /// The URI is an argument.
        uri: bool,
    },
    /// The same after a cookie: 214, 215.
    Prepare3 {
        /// The URI is an argument.
        uri: bool,
    },
    /// Parameters of a migration's destination: 303, 304.
    PrepareParameters,
    /// A domain that is to start: 9, 196, 310.
    Start,
    /// A domain and a device for it: attach (8, 160).
    Attach {
        /// Flags are the last argument.
        flags: bool,
    },
}

/// A definition in the arguments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition<'a> {
    /// The string that has it.
    pub text: &'a str,
    /// That string with its length and padding, in the arguments.
    pub span: Range<usize>,
}

/// A call's arguments, as far as this program reads them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arguments<'a> {
    /// Whole definitions.
    Definitions(Vec<Definition<'a>>),
    /// Snapshots or checkpoints, which may contain definitions.
    Snapshot(Definition<'a>),
    /// The UUID of the domain that is to start.
    Start([u8; 16]),
    /// A device for a domain.
    Attach {
        /// The domain's UUID.
        domain: [u8; 16],
        /// The device.
        device: Definition<'a>,
        /// What the call changes.
        affects: Affects,
    },
    /// Nothing that is to be completed.
    Nothing,
}

impl Call {
    /// The call with this header, if it is not simply forwarded.
    #[must_use]
    pub fn of(header: &Header) -> Option<Self> {
        if !header.is_remote_call() {
            return None;
        }
        Some(match header.procedure {
            10 | 11 | 309 | 350 => Self::Definition,
            236 => Self::Image,
            233 => Self::Restore,
            232 => Self::Save,
            389 => Self::ManagedSave,
            440 => Self::SaveParameters,
            441 => Self::RestoreParameters,
            185 | 411 => Self::Snapshot,
            108 => Self::Prepare2 { uri: true },
            148 => Self::Prepare2 { uri: false },
            214 => Self::Prepare3 { uri: true },
            215 => Self::Prepare3 { uri: false },
            303 | 304 => Self::PrepareParameters,
            9 | 196 | 310 => Self::Start,
            8 => Self::Attach { flags: false },
            160 => Self::Attach { flags: true },
            _ => return None,
        })
    }

    /// Bytes of the longest packet that is kept; a longer one is refused.
    #[must_use]
    pub fn longest(self) -> usize {
        match self {
            Self::Start => REST,
            Self::Definition
            | Self::Image
            | Self::Restore
            | Self::ManagedSave
            | Self::Snapshot
            | Self::Attach { .. } => MAX_STRING + REST,
            // A path or a cookie (`REMOTE_MIGRATE_COOKIE_MAX`) has as many bytes as a definition.
            _ => 2 * MAX_STRING + REST,
        }
    }

    /// Reads the arguments.
    ///
    /// # Errors
    /// They are not this call's; the daemon refuses them, too.
    pub fn arguments(self, bytes: &[u8]) -> Result<Arguments<'_>, Malformed> {
        let mut reader = Reader::new(bytes);
        let found = match self {
            Self::Definition => Some(reader.string()?),
            Self::Image => {
                reader.string()?;
                Some(reader.string()?)
            }
            Self::Restore => {
                reader.string()?;
                reader.optional()?
            }
            Self::Save => {
                domain(&mut reader)?;
                reader.string()?;
                reader.optional()?
            }
            Self::ManagedSave => {
                domain(&mut reader)?;
                reader.optional()?
            }
            Self::SaveParameters => {
                domain(&mut reader)?;
                return named(&mut reader, &["dxml"]);
            }
            Self::RestoreParameters => return named(&mut reader, &["dxml"]),
            Self::PrepareParameters => {
                return named(&mut reader, &["destination_xml", "persistent_xml"]);
            }
            Self::Snapshot => return snapshot(&mut reader),
            Self::Prepare2 { uri } => Some(destination(&mut reader, uri)?),
            Self::Prepare3 { uri } => {
                reader.string()?;
                Some(destination(&mut reader, uri)?)
            }
            Self::Start => return Ok(Arguments::Start(domain(&mut reader)?)),
            Self::Attach { flags } => return attach(&mut reader, flags),
        };
        let found = found.map(definition).transpose()?;
        Ok(Arguments::Definitions(found.into_iter().collect()))
    }
}

/// `remote_nonnull_domain`: name, UUID, id.
fn domain(reader: &mut Reader<'_>) -> Result<[u8; 16], Malformed> {
    reader.string()?;
    let mut uuid = [0; 16];
    uuid.copy_from_slice(reader.fixed(16)?);
    reader.number()?;
    Ok(uuid)
}

/// The arguments that all calls of a migration's destination have at their end.
fn destination<'a>(reader: &mut Reader<'a>, uri: bool) -> Result<Text<'a>, Malformed> {
    if uri {
        reader.optional()?;
    }
    reader.skip_long()?;
    reader.optional()?;
    reader.skip_long()?;
    reader.string()
}

fn named<'a>(reader: &mut Reader<'a>, fields: &[&str]) -> Result<Arguments<'a>, Malformed> {
    let strings = reader.parameters()?.into_iter();
    let ours = strings.filter(|(field, _)| fields.iter().any(|one| one.as_bytes() == *field));
    let definitions: Result<_, _> = ours.map(|(_, text)| definition(text)).collect();
    definitions.map(Arguments::Definitions)
}

fn snapshot<'a>(reader: &mut Reader<'a>) -> Result<Arguments<'a>, Malformed> {
    domain(reader)?;
    let text = reader.string()?;
    match reader.number()? & REDEFINE {
        0 => Ok(Arguments::Nothing),
        _ => definition(text).map(Arguments::Snapshot),
    }
}

/// The call without flags is for a running guest (libvirt's src/qemu/qemu_driver.c, qemuDomainAttachDevice).
fn attach<'a>(reader: &mut Reader<'a>, flags: bool) -> Result<Arguments<'a>, Malformed> {
    let domain = domain(reader)?;
    let device = definition(reader.string()?)?;
    let flags = if flags { reader.number()? } else { LIVE };
    let affects = Affects {
        live: flags & LIVE != 0,
        config: flags & CONFIG != 0,
    };
    Ok(Arguments::Attach {
        domain,
        device,
        affects,
    })
}

/// libvirt reads XML as UTF-8 unless it says otherwise, and writes no other.
fn definition(text: Text<'_>) -> Result<Definition<'_>, Malformed> {
    Ok(Definition {
        text: str::from_utf8(text.bytes).map_err(|_| Malformed)?,
        span: text.span,
    })
}

/// Replaces strings in a packet's arguments; `texts` are in the order of their spans.
///
/// # Errors
/// A string or the packet becomes too long.
pub fn replace(packet: &mut Packet, texts: &[(Range<usize>, String)]) -> Result<(), Malformed> {
    let start = packet.arguments();
    let mut bytes = Vec::with_capacity(packet.bytes.len() + (64 << 10));
    let mut copied = 0;
    for (span, text) in texts {
        let span = start + span.start..start + span.end;
        bytes.extend_from_slice(&packet.bytes[copied..span.start]);
        crate::xdr::put_string(&mut bytes, text.as_bytes())?;
        copied = span.end;
    }
    bytes.extend_from_slice(&packet.bytes[copied..]);
    packet.replace(bytes).map_err(|_| Malformed)
}
