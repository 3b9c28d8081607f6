//! Packets that tests make.

use connect::packet::{CALL, HEAD, Header, Packet, REMOTE, REMOTE_VERSION};
use connect::xdr::{put_number, put_string};

/// A call of libvirt's own program.
pub(crate) fn call(procedure: u32, serial: u32, arguments: &[u8]) -> Vec<u8> {
    packet(CALL, procedure, serial, arguments)
}

/// A packet of this kind.
pub(crate) fn packet(kind: u32, procedure: u32, serial: u32, payload: &[u8]) -> Vec<u8> {
    let header = Header {
        length: u32::try_from(HEAD + payload.len()).expect("a short packet"),
        program: REMOTE,
        version: REMOTE_VERSION,
        procedure,
        kind,
        serial,
        status: 0,
    };
    [&header.bytes(), payload].concat()
}

/// A define (11) of this text.
pub(crate) fn define(serial: u32, xml: &str) -> Vec<u8> {
    call(11, serial, &string(xml))
}

/// A string in XDR.
pub(crate) fn string(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_string(&mut bytes, text.as_bytes()).expect("a short text");
    bytes
}

/// Numbers in XDR.
pub(crate) fn numbers(numbers: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for number in numbers {
        put_number(&mut bytes, *number);
    }
    bytes
}

/// The packet of these bytes.
pub(crate) fn parsed(bytes: &[u8]) -> Packet {
    let head = bytes[..HEAD].try_into().expect("a head");
    Packet {
        header: Header::parse(head).expect("a header"),
        bytes: bytes.to_vec(),
        descriptors: Vec::new(),
    }
}
