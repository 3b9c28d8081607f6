//! Packets of libvirt's remote protocol, as the transport `variantd-connect` reads them from both of its ends.

use ::connect::packet::{HEAD, Header, Packet, Violation};
use ::connect::procedure::{Arguments, Call, Definition, replace};
use ::connect::splitter::{Handling, Piece, Splitter};

/// The bytes arrive in pieces of these sizes.
const PIECES: [usize; 3] = [1, 7, usize::MAX];
/// A definition that takes the place of another one.
const XML: &str = "<domain type='kvm'><name>other</name></domain>";

/// The output does not depend on the sizes of the pieces; what passes is the input, in its order; a replaced definition is found
/// again, and replacing it by itself keeps the packet.
pub(crate) fn packet(bytes: &[u8]) {
    let [first, others @ ..] = PIECES.map(|size| split(bytes, size));
    for other in others {
        assert_eq!(other, first, "the pieces decide");
    }
    let (passed, held, ended) = first;
    let total = passed.len() + held.iter().map(Vec::len).sum::<usize>();
    assert!(total <= bytes.len(), "{total} bytes of {}", bytes.len());
    if held.is_empty() && ended.is_ok() {
        assert!(bytes.starts_with(&passed));
    }
    held.iter().for_each(|packet| rewritten(packet));
}

type Output = (Vec<u8>, Vec<Vec<u8>>, Result<(), Violation>);

fn split(bytes: &[u8], size: usize) -> Output {
    let (mut splitter, mut passed, mut held) = (Splitter::default(), Vec::new(), Vec::new());
    for piece in bytes.chunks(size.min(bytes.len().max(1))) {
        let handling = |header: &_| match Call::of(header) {
            Some(_) => Handling::Hold,
            None => Handling::Pass,
        };
        let out = |piece: Piece<'_>| match piece {
            Piece::Bytes(bytes) => passed.extend_from_slice(bytes),
            Piece::Slot(_) => {}
            Piece::Held(packet) => held.push(packet.bytes),
        };
        if let Err(violation) = splitter.feed(piece, Vec::new(), handling, out) {
            return (passed, held, Err(violation));
        }
    }
    (passed, held, Ok(()))
}

fn rewritten(bytes: &[u8]) {
    let packet = || {
        let head = bytes[..HEAD].try_into().expect("a head");
        let header = Header::parse(head).expect("a held packet");
        Packet {
            header,
            bytes: bytes.to_vec(),
            descriptors: Vec::new(),
        }
    };
    let mut same = packet();
    let call = Call::of(&same.header).expect("a held call");
    let start = same.arguments();
    let Some(found) = texts_of(call, &bytes[start..]) else {
        return;
    };
    let texts = |other: Option<&str>| {
        let text = |text: &str| other.unwrap_or(text).to_owned();
        found
            .iter()
            .map(|one| (one.span.clone(), text(one.text)))
            .collect::<Vec<_>>()
    };
    replace(&mut same, &texts(None)).expect("as long as before");
    assert_eq!(same.header.size(), same.bytes.len());
    // The padding of a string may have had other bytes than 0.
    assert_eq!(same.bytes.len(), bytes.len());
    let mut changed = packet();
    replace(&mut changed, &texts(Some(XML))).expect("a short text");
    let again = texts_of(call, &changed.bytes[start..]).expect("the same arguments");
    assert_eq!(again.len(), found.len());
    assert!(again.iter().all(|one| one.text == XML));
}

/// The texts of a call that may be replaced.
fn texts_of(call: Call, arguments: &[u8]) -> Option<Vec<Definition<'_>>> {
    match call.arguments(arguments) {
        Ok(Arguments::Definitions(found)) => Some(found),
        Ok(Arguments::Snapshot(found) | Arguments::Attach { device: found, .. }) => {
            Some(vec![found])
        }
        Ok(Arguments::Start(_) | Arguments::Nothing) | Err(_) => None,
    }
}
