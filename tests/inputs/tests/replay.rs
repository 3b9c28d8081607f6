//! Runs every fuzz target with the fuzzer's corpus and the tests' data, unchanged and with small changes. It finds regressions;
//! tests/fuzz/run finds new faults.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use connect::packet::{HEAD, Header};
use connect::procedure::{Arguments, Call};
use inputs::{TARGETS, Target};

/// Changed copies of each input; INPUTS_ROUNDS=1000 for more.
const ROUNDS: u64 = 8;
/// Limit for one input in a debug build on a busy machine; the fuzzer's limit is a second.
const LIMIT: Duration = Duration::from_secs(20);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// All files below a folder of the repository whose path has this end.
fn files(folder: &str, end: &str) -> Vec<PathBuf> {
    below(&root().join(folder), end)
}

/// All files of a modelled host whose path has this end.
fn of_host(name: &str, end: &str) -> Vec<PathBuf> {
    below(&testing::hosts::directory(name), end)
}

fn below(folder: &Path, end: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(below(&path, end));
        } else if path.to_string_lossy().ends_with(end) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The corpus of a fuzz target, and the files of the tests' data that it can read.
fn inputs(target: &str) -> Vec<PathBuf> {
    let mut inputs = files(&format!("tests/fuzz/corpus/{target}"), "");
    inputs.extend(match target {
        "definition" | "hook_input" => files("tests/data/case", "/domain.xml"),
        "prepared" => files("tests/data/case", "0/testing.xml"),
        "recipe" => files("agent/recipes", ".toml"),
        "configuration" => files("packaging", "variantd.conf"),
        "config_space" => of_host("atomics", "/config"),
        "distances" => of_host("gb200-4gpu", "/distance"),
        "srat" => of_host("gh200-1gpu", "/SRAT"),
        "schemas" => files("tests/data/stack", ".rng"),
        "capabilities" => files("tests/data/stack", "/capabilities.xml"),
        "translation" => files("tests/data/stack", "/translation.txt"),
        "emulator_help" => files("tests/data/stack", ".txt"),
        _ => Vec::new(),
    });
    inputs
}

/// Small pseudo-random numbers (splitmix64) with a fixed seed: the changes are the same in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides.max(1) as u64).expect("below the number of sides")
    }
}

/// Texts that often break parsers: numbers at their limits, quotes, signs, invalid UTF-8.
const TOKENS: [&[u8]; 16] = [
    b"0",
    b"-1",
    b"4294967295",
    b"18446744073709551615",
    b"0x",
    b"'",
    b"\"",
    b"<",
    b"/>",
    b"&#0;",
    b"\0",
    b"\xff",
    b"\r\n",
    b",",
    b"-",
    b"urn:variantd:1",
];

fn changed(input: &[u8], other: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..=dice.roll(3) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(24)).min(bytes.len());
        match dice.roll(5) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..end, TOKENS[dice.roll(TOKENS.len())].iter().copied())),
            2 => drop(bytes.splice(at..at, TOKENS[dice.roll(TOKENS.len())].iter().copied())),
            3 => drop(bytes.splice(
                at..at,
                input[at.min(input.len())..end.min(input.len()).max(at.min(input.len()))].to_vec(),
            )),
            _ => {
                let from = dice.roll(other.len() + 1);
                let piece = &other[from..(from + dice.roll(200)).min(other.len())];
                drop(bytes.splice(at..end, piece.iter().copied()));
            }
        }
    }
    bytes
}

fn in_time(target: Target, bytes: &[u8], what: &dyn Fn() -> String) {
    let began = Instant::now();
    if let Err(panic) = std::panic::catch_unwind(|| target(bytes)) {
        let kept = std::env::temp_dir().join("variantd-fuzz-input");
        let _ = fs::write(&kept, bytes);
        eprintln!("{}: the input is in '{}'", what(), kept.display());
        std::panic::resume_unwind(panic);
    }
    assert!(
        began.elapsed() < LIMIT,
        "{} takes {:?}",
        what(),
        began.elapsed()
    );
}

#[test]
fn every_fuzz_target_passes_its_corpus_and_small_changes_of_it() {
    let rounds = std::env::var("INPUTS_ROUNDS")
        .ok()
        .and_then(|rounds| rounds.parse().ok());
    for (index, (name, target)) in TARGETS.into_iter().enumerate() {
        let inputs: Vec<(PathBuf, Vec<u8>)> = inputs(name)
            .into_iter()
            .map(|path| (path.clone(), fs::read(path).expect("an input")))
            .collect();
        assert!(!inputs.is_empty(), "'{name}' has no corpus");
        let mut dice = Dice(index as u64);
        for (path, bytes) in &inputs {
            in_time(target, bytes, &|| {
                format!("'{name}' with '{}'", path.display())
            });
            for round in 0..rounds.unwrap_or(ROUNDS) {
                let other = &inputs[dice.roll(inputs.len())].1;
                let bytes = changed(bytes, other, &mut dice);
                in_time(target, &bytes, &|| {
                    format!("'{name}' with '{}', change {round}", path.display())
                });
            }
        }
    }
}

/// The calls in these packets whose arguments have a definition, a device or a domain that is to start.
fn calls(mut packets: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some(Ok(header)) = packets.first_chunk::<HEAD>().map(Header::parse) {
        let Some((packet, rest)) = packets.split_at_checked(header.size()) else {
            break;
        };
        if let Some(call) = Call::of(&header)
            && let Ok(arguments) = call.arguments(&packet[HEAD..])
            && !matches!(arguments, Arguments::Nothing)
            && arguments != Arguments::Definitions(Vec::new())
        {
            found.push(format!("{call:?}"));
        }
        packets = rest;
    }
    found
}

#[test]
fn corpus_has_each_call_that_the_transport_rewrites() {
    let header = |procedure| Header {
        length: 28,
        program: connect::packet::REMOTE,
        version: connect::packet::REMOTE_VERSION,
        procedure,
        kind: connect::packet::CALL,
        serial: 1,
        status: 0,
    };
    let all = (0..1024).filter_map(|procedure| Call::of(&header(procedure)));
    let all: BTreeSet<String> = all.map(|call| format!("{call:?}")).collect();
    assert!(all.len() > 12, "{all:?}");
    for target in ["connect_packet", "connect_call"] {
        let inputs = files(&format!("tests/fuzz/corpus/{target}"), "");
        let read = |path: &PathBuf| calls(&fs::read(path).expect("an input"));
        let reached: BTreeSet<String> = inputs.iter().flat_map(read).collect();
        assert_eq!(reached, all, "{target}");
    }
}

#[test]
fn every_fuzz_target_has_its_program() {
    let manifest = fs::read_to_string(root().join("tests/fuzz/Cargo.toml")).expect("manifest");
    let names = manifest
        .lines()
        .filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let names: Vec<&str> = names.filter(|name| *name != "fuzz").collect();
    assert_eq!(names, TARGETS.map(|(name, _)| name));
}
