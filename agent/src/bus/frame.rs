//! Parses the head of a D-Bus message before its body is read (D-Bus specification, "Message Format").
//!
//! The bus checks sender, serial and type; all other fields come from the sender and are not trusted.

use std::num::NonZeroU32;

use zbus::wire::{Endian, serialized::Context, serialized::Data};
use zbus::{OwnedVariant, Variant};

/// Bytes up to the header fields: the fixed part, and the length of the fields.
pub(super) const FIXED: usize = 16;
/// Maximum size of header fields. Names have at most 255 bytes; a path has no limit of its own.
const FIELDS: usize = 8 << 10;
/// The flag NO_REPLY_EXPECTED, in the third byte.
const NO_REPLY: u8 = 1;
const FLAGS: usize = 2;

const FIELD_INTERFACE: u8 = 2;
const FIELD_MEMBER: u8 = 3;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_SENDER: u8 = 7;

/// The message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Call,
    Reply,
    Signal,
}

/// Lengths in the fixed part of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lengths {
    /// The header fields, with their padding.
    pub(super) fields: usize,
    pub(super) body: usize,
}

/// The head of a message.
#[derive(Clone, Debug)]
pub(super) struct Head {
    pub(super) kind: Kind,
    pub(super) serial: NonZeroU32,
    pub(super) reply_to: Option<NonZeroU32>,
    pub(super) sender: String,
    pub(super) interface: String,
    pub(super) member: String,
    pub(super) body: usize,
    /// The caller does not wait for a reply.
    pub(super) is_silent: bool,
}

type Fields = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

impl Lengths {
    /// `None` for bytes that do not start a D-Bus message.
    pub(super) fn of(fixed: &[u8; FIXED]) -> Option<Self> {
        let endian = endian(fixed)?;
        let number = |at: usize| usize::try_from(endian.read_u32(&fixed[at..at + 4])).ok();
        Some(Self {
            // The body starts at a multiple of 8; the length of the fields does not count the padding.
            fields: number(12)?.checked_next_multiple_of(8)?,
            body: number(4)?,
        })
    }

    /// Whether the fields are small enough to read; the agent's own messages are far smaller.
    pub(super) fn is_readable(self) -> bool {
        self.fields <= FIELDS
    }
}

impl Head {
    /// Parses the head from bytes that end where the body begins; `None` if it is damaged.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let data = Data::new(bytes.to_vec(), Context::new(endian(bytes)?, 0));
        let (fields, _): (Fields, usize) = data.deserialize().ok()?;
        let field = |code| {
            let found = fields.6.iter().find(|(one, _)| *one == code);
            found.map(|(_, value)| &**value)
        };
        let word = |code| match field(code) {
            Some(Variant::Str(text)) => text.as_str().to_owned(),
            _ => String::new(),
        };
        let reply_to = match field(FIELD_REPLY_SERIAL) {
            Some(Variant::U32(serial)) => NonZeroU32::new(*serial),
            _ => None,
        };
        Some(Self {
            kind: kind(fields.1)?,
            // 0 is not a valid serial (D-Bus specification, "Header Fields").
            serial: NonZeroU32::new(fields.5)?,
            reply_to,
            sender: word(FIELD_SENDER),
            interface: word(FIELD_INTERFACE),
            member: word(FIELD_MEMBER),
            body: usize::try_from(fields.4).ok()?,
            is_silent: fields.2 & NO_REPLY != 0,
        })
    }
}

/// Clears the flag NO_REPLY_EXPECTED in the message of these bytes.
pub(super) fn expect_reply(bytes: &mut [u8]) {
    bytes[FLAGS] &= !NO_REPLY;
}

fn kind(byte: u8) -> Option<Kind> {
    Some(match byte {
        1 => Kind::Call,
        // 2 is METHOD_RETURN, 3 is ERROR.
        2 | 3 => Kind::Reply,
        4 => Kind::Signal,
        _ => return None,
    })
}

fn endian(bytes: &[u8]) -> Option<Endian> {
    match bytes.first()? {
        b'l' => Some(Endian::Little),
        b'B' => Some(Endian::Big),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use zbus::message::{Flags, Message};

    use super::*;

    fn bytes(message: &Message) -> (Vec<u8>, Lengths) {
        let all = message.data().bytes();
        let fixed: &[u8; FIXED] = all[..FIXED].try_into().expect("the fixed part");
        let lengths = Lengths::of(fixed).expect("lengths");
        (all[..FIXED + lengths.fields].to_vec(), lengths)
    }

    #[test]
    fn the_head_of_a_call_is_read_without_its_body() {
        let call =
            Message::method_call("/org/variantd1", "Plan").interface("org.variantd1.Manager");
        let call = call.sender(":1.7").with_flags(Flags::NO_REPLY_EXPECTED);
        let message = call.build(&"guest").expect("a call");
        let (mut head, lengths) = bytes(&message);
        assert!(lengths.is_readable());
        assert_eq!(lengths.body, message.body().len());
        let read = Head::parse(&head).expect("a head");
        assert_eq!((read.kind, read.sender.as_str()), (Kind::Call, ":1.7"));
        assert_eq!(
            (read.interface.as_str(), read.member.as_str()),
            ("org.variantd1.Manager", "Plan")
        );
        assert_eq!(read.serial, message.primary_header().serial_num());
        assert!(read.is_silent && read.body == lengths.body);
        expect_reply(&mut head);
        assert!(!Head::parse(&head).expect("a head").is_silent);
    }

    #[test]
    fn bytes_of_another_protocol_have_no_head() {
        assert!(Lengths::of(b"GET / HTTP/1.1\r\n").is_none());
        assert!(Head::parse(b"l").is_none());
        assert!(Head::parse(&[b'l'; 64]).is_none());
    }
}
