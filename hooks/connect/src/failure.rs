//! An error reply in the daemon's place: `remote_error` of libvirt's remote_protocol.x.

use crate::packet::{ERROR, HEAD, Header, Packet, REPLY};
use crate::xdr::{put_number, put_string};

/// `VIR_ERR_CONFIG_UNSUPPORTED`: the definition cannot work here.
pub const CONFIG_UNSUPPORTED: u32 = 67;
/// `VIR_ERR_OPERATION_FAILED`: the agent or the transport could not.
pub const OPERATION_FAILED: u32 = 9;

/// `VIR_FROM_QEMU`, as errors about a guest come from the driver.
const FROM_QEMU: u32 = 10;
/// `VIR_ERR_ERROR`, the level.
const LEVEL: u32 = 2;
/// Bytes of a message that are sent; a sentence has far fewer.
const MAX_MESSAGE: usize = 64 << 10;

/// The reply to the call with this header: an error with this message.
#[must_use]
pub fn reply(call: &Header, code: u32, message: &str) -> Packet {
    let mut end = message.len().min(MAX_MESSAGE);
    // libvirt's clients may expect UTF-8; half a character would be none.
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    let message = &message.as_bytes()[..end];
    let mut bytes = vec![0; HEAD];
    let text = |bytes: &mut Vec<u8>, text: &[u8]| {
        put_number(bytes, 1);
        put_string(bytes, text).expect("bounded above");
    };
    put_number(&mut bytes, code);
    put_number(&mut bytes, FROM_QEMU);
    text(&mut bytes, message);
    put_number(&mut bytes, LEVEL);
    // dom
    put_number(&mut bytes, 0);
    // str1, str2, str3: the format and its argument, as virRaiseErrorFull fills them in
    text(&mut bytes, b"%s");
    text(&mut bytes, message);
    put_number(&mut bytes, 0);
    // int1, int2, net
    for number in [u32::MAX, u32::MAX, 0] {
        put_number(&mut bytes, number);
    }
    let header = Header {
        length: u32::try_from(bytes.len()).expect("bounded above"),
        kind: REPLY,
        status: ERROR,
        ..*call
    };
    bytes[..HEAD].copy_from_slice(&header.bytes());
    Packet {
        header,
        bytes,
        descriptors: Vec::new(),
    }
}
