//! Packets of libvirt's remote protocol, as the transport `variantd-connect` reads them from both of its ends.

use std::path::Path;

use ::connect::admission::{Admission, Agent};
use ::connect::failure::{CONFIG_UNSUPPORTED, OPERATION_FAILED};
use ::connect::forward::{Gate, Verdict};
use ::connect::packet::{ERROR, HEAD, Header, MAX, Packet, REPLY, Violation};
use ::connect::procedure::{Arguments, Call, Definition, replace};
use ::connect::splitter::{Handling, Piece, Splitter};
use ask::Affects;
use hooks::agent::Reply;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

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

/// An agent that refuses some texts, lengthens some and does not change the others.
struct Modelled;

impl Agent for Modelled {
    fn complete(&self, xml: &str) -> Reply {
        match xml.len() % 4 {
            0 => Reply::Refused("the host has no such device (VD-DEV-001)".into()),
            1 => Reply::Unreachable("no name".into()),
            2 => Reply::Done(xml.replace("</domain>", "<description>new</description></domain>")),
            _ => Reply::Done(xml.into()),
        }
    }

    fn attach(&self, uuid: &str, xml: &str, _affects: Affects) -> Reply {
        assert_eq!(uuid.len(), 36, "{uuid}");
        self.complete(xml)
    }

    fn settle(&self, uuid: &str) {
        assert_eq!(uuid.len(), 36, "{uuid}");
    }
}

/// Each call that the gate holds or discards gets one verdict: a whole packet for the daemon, or an error for the client, with the
/// serial of a call.
pub(crate) fn call(bytes: &[u8]) {
    // Its file `devices` has the device of the corpus; the host has no PCI function.
    let run = Path::new(env!("CARGO_MANIFEST_DIR")).join("data/run");
    let gate = Admission::new(run, "/nonexistent".into(), Modelled);
    let mut gate = gate.expect("a gate");
    let (mut serials, mut held) = (Vec::new(), Vec::new());
    let handling = |header: &Header| {
        let handling = gate.handling(header);
        if handling == Handling::Discard {
            serials.push(header.serial);
        }
        handling
    };
    let out = |piece: Piece<'_>| {
        if let Piece::Held(packet) = piece {
            held.push(packet);
        }
    };
    // A violation ends the connection, and the calls before it are decided.
    let _ = Splitter::default().feed(bytes, Vec::new(), handling, out);
    for packet in held {
        serials.push(packet.header.serial);
        gate.take(packet);
    }
    let mut answered: Vec<u32> = verdicts(&mut gate).iter().map(checked).collect();
    serials.sort_unstable();
    answered.sort_unstable();
    assert_eq!(answered, serials);
}

/// All verdicts that the gate owes.
fn verdicts(gate: &mut Admission) -> Vec<Verdict> {
    let limit = Timespec {
        tv_sec: 10,
        tv_nsec: 0,
    };
    let mut verdicts = Vec::new();
    loop {
        verdicts.extend(std::iter::from_fn(|| gate.verdict()));
        if !gate.is_busy() {
            return verdicts;
        }
        let mut notifier = [PollFd::from_borrowed_fd(gate.notifier(), PollFlags::IN)];
        match poll(&mut notifier, Some(&limit)) {
            // The fuzzer's alarm.
            Err(Errno::INTR) => {}
            ready => assert!(ready.expect("poll") > 0, "no verdict"),
        }
    }
}

/// The serial of the call.
fn checked(verdict: &Verdict) -> u32 {
    let (Verdict::Forward(packet) | Verdict::Reply(packet)) = verdict;
    let header = packet.header;
    assert!(packet.bytes.len() <= MAX);
    assert_eq!(
        packet.bytes[..HEAD],
        header.bytes(),
        "the header is that of the bytes"
    );
    assert_eq!(packet.bytes.len(), header.size());
    if matches!(verdict, Verdict::Reply(_)) {
        assert_eq!((header.kind, header.status), (REPLY, ERROR));
        let code = packet.bytes[HEAD..]
            .first_chunk()
            .map(|word| u32::from_be_bytes(*word));
        assert!(code == Some(CONFIG_UNSUPPORTED) || code == Some(OPERATION_FAILED));
    }
    header.serial
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
