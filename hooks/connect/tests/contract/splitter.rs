//! The splitter: the same output for any division of the input, and an error for what no peer may send.

use std::fs::File;
use std::os::fd::OwnedFd;

use connect::packet::{HEAD, MAX, Violation};
use connect::splitter::{Handling, Piece, Splitter};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::packet::{call, define, numbers, packet};

/// The output as text: passing bytes joined, slots, held packets.
#[derive(Debug, Default, PartialEq, Eq)]
struct Output {
    passed: Vec<u8>,
    slots: usize,
    held: Vec<(Vec<u8>, usize)>,
}

impl Output {
    fn add(&mut self, piece: Piece<'_>) {
        match piece {
            Piece::Bytes(bytes) => self.passed.extend_from_slice(bytes),
            Piece::Slot(_) => self.slots += 1,
            Piece::Held(packet) => {
                assert_eq!(packet.header.size(), packet.bytes.len());
                self.held.push((packet.bytes, packet.descriptors.len()));
            }
        }
    }
}

fn descriptor() -> OwnedFd {
    File::open("/dev/null").expect("a file").into()
}

fn handling(header: &connect::packet::Header) -> Handling {
    match header.procedure {
        11 | 309 => Handling::Hold,
        12 => Handling::Discard,
        _ => Handling::Pass,
    }
}

/// Feeds the bytes in pieces of this size.
fn fed(bytes: &[u8], size: usize) -> Result<Output, Violation> {
    let (mut splitter, mut output) = (Splitter::default(), Output::default());
    for piece in bytes.chunks(size) {
        splitter.feed(piece, Vec::new(), handling, |piece| output.add(piece))?;
    }
    Ok(output)
}

proptest! {
    #[test]
    fn output_does_not_depend_on_the_division_of_the_input(
        calls in vec((prop::sample::select(vec![1_u32, 11, 12, 201]), vec(any::<u8>(), 0..300)), 0..8),
        size in 1_usize..400,
    ) {
        let packets: Vec<Vec<u8>> = calls.iter().map(|(procedure, payload)| call(*procedure, 1, payload)).collect();
        let output = fed(&packets.concat(), size).expect("packets");
        let of = |procedure: u32| {
            let pairs = calls.iter().zip(&packets);
            pairs.filter(move |((one, _), _)| *one == procedure || procedure == 0 && ![11, 12].contains(one))
        };
        let passed: Vec<u8> = of(0).flat_map(|(_, packet)| packet.clone()).collect();
        let held: Vec<(Vec<u8>, usize)> = of(11).map(|(_, packet)| (packet.clone(), 0)).collect();
        prop_assert_eq!(output, Output { passed, slots: 0, held });
    }

    #[test]
    fn any_bytes_pass_or_are_refused(bytes in vec(any::<u8>(), 0..600), size in 1_usize..100) {
        let _ = fed(&bytes, size);
    }
}

#[test]
fn length_outside_the_bounds_is_refused_before_the_payload() {
    let max = u32::try_from(MAX).expect("a length");
    for length in [0, 3, 27, max + 1, u32::MAX] {
        let mut bytes = define(1, "");
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        assert_eq!(fed(&bytes[..HEAD], HEAD), Err(Violation::Length(length)));
    }
    for length in [28, max] {
        let mut bytes = call(1, 1, &[]);
        bytes[..4].copy_from_slice(&length.to_be_bytes());
        fed(&bytes, HEAD).expect("within the bounds");
    }
}

#[test]
fn passing_packet_is_not_kept() {
    let mut bytes = call(1, 1, &[0; 100]);
    bytes[..4].copy_from_slice(&u32::try_from(MAX).expect("a length").to_be_bytes());
    let output = fed(&bytes, bytes.len()).expect("the beginning of a packet");
    assert_eq!(output.passed, bytes);
}

#[test]
fn descriptors_follow_their_packet() {
    for (procedure, passes) in [(343, true), (309, false)] {
        let bytes = packet(4, procedure, 1, &[numbers(&[2]), numbers(&[7])].concat());
        let (mut splitter, mut output) = (Splitter::default(), Output::default());
        for (piece, descriptors) in [
            (&bytes[..], vec![]),
            (&[0], vec![descriptor()]),
            (&[0], vec![descriptor()]),
        ] {
            assert!(output.held.is_empty(), "before its descriptors");
            let add = |piece: Piece<'_>| output.add(piece);
            splitter
                .feed(piece, descriptors, handling, add)
                .expect("a packet");
        }
        let after = call(1, 2, &[]);
        splitter
            .feed(&after, Vec::new(), handling, |piece| output.add(piece))
            .expect("a packet");
        let expected = match passes {
            true => Output {
                passed: [&bytes[..], &after].concat(),
                slots: 2,
                held: vec![],
            },
            false => Output {
                passed: after,
                slots: 0,
                held: vec![(bytes, 2)],
            },
        };
        assert_eq!(output, expected);
    }
}

#[test]
fn too_many_or_missing_descriptors_are_refused() {
    let of = |count: u32| packet(4, 343, 1, &numbers(&[count]));
    assert_eq!(fed(&of(33), 7), Err(Violation::Descriptors(33)));
    assert_eq!(
        fed(&packet(4, 343, 1, &[]), 7),
        Err(Violation::Descriptors(0))
    );
    let without = [of(1), vec![0]].concat();
    assert_eq!(fed(&without, 7), Err(Violation::NoDescriptor));
    fed(&of(0), 7).expect("a packet without descriptors");
}

#[test]
fn descriptor_of_another_byte_is_closed() {
    let (mut splitter, mut output) = (Splitter::default(), Output::default());
    let bytes = call(1, 1, &[0; 8]);
    let add = |piece: Piece<'_>| output.add(piece);
    splitter
        .feed(&bytes, vec![descriptor()], handling, add)
        .expect("a packet");
    assert_eq!((output.passed, output.slots), (bytes, 0));
}
