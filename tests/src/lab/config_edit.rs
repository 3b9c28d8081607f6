//! Finds the configuration space of emulated PCI functions in a running QEMU and edits their AtomicOp bits.
//!
//! No QEMU property makes a root or switch port advertise AtomicOps, nor block them, and QEMU never writes Device
//! Capabilities 2 after creating a device; so the bits are set from outside, through `/proc/PID/mem`.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail, ensure};

/// AtomicOp routing and the three completer bits.
pub const ATOMICS: u32 = 0x3c0;
/// AtomicOp egress blocking, in Device Control 2.
const EGRESS_BLOCKED: u16 = 0x80;

/// Bytes that are read of each candidate: the header and the capability list.
const WINDOW: usize = 512;
/// PCI Express configuration space; each array is this long.
const SPACE: usize = 4096;
/// Mappings of this size or more are guest memory: the heap of such a QEMU is smaller.
const LARGEST: u64 = 512 << 20;
const EXPRESS: u8 = 0x10;
const PORT_TYPES: std::ops::RangeInclusive<u16> = 4..=6;

/// Vendor and device ids of the functions that the lab emulates.
const KNOWN: &[[u8; 4]] = &[
    [0x36, 0x1b, 0x0c, 0x00],
    [0x36, 0x1b, 0x10, 0x00],
    [0x4c, 0x10, 0x32, 0x82],
    [0x4c, 0x10, 0x33, 0x82],
    [0x86, 0x80, 0xd3, 0x10],
];

/// AtomicOp bits to set in a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Atomics {
    /// Its bits in Device Capabilities 2.
    pub bits: u32,
    /// Whether it blocks AtomicOp egress.
    pub egress_blocked: bool,
}

impl FromStr for Atomics {
    type Err = String;

    /// `3c0`, or `40+blocked`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (digits, egress_blocked) = match text.strip_suffix("+blocked") {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let digits = digits.strip_prefix("0x").unwrap_or(digits);
        let bits = u32::from_str_radix(digits, 16)
            .map_err(|_| format!("'{digits}' is not a hexadecimal number"))?;
        if bits & !ATOMICS != 0 {
            return Err(format!(
                "{bits:#x} has bits that are no AtomicOp bits ({ATOMICS:#x})"
            ));
        }
        Ok(Self {
            bits,
            egress_blocked,
        })
    }
}

/// Selects a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// The port with this physical slot number; this also works before buses have numbers.
    Slot(u16),
    /// The function with this header in the guest: ids, and base addresses or bus numbers.
    Header(Box<[u8; 64]>),
}

impl FromStr for Selector {
    type Err = String;

    /// `slot=11`, or 64 bytes in hexadecimal.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(number) = text.strip_prefix("slot=") {
            let slot = number
                .parse()
                .map_err(|_| format!("'{number}' is not a slot number"))?;
            return Ok(Self::Slot(slot));
        }
        let bytes = hex(text).ok_or_else(|| {
            format!("'{text}' is neither slot=N nor the first 64 bytes of a configuration space")
        })?;
        Ok(Self::Header(Box::new(bytes)))
    }
}

/// One emulated function.
#[derive(Clone, Debug)]
pub struct Function {
    address: u64,
    window: Vec<u8>,
    express: usize,
}

impl Function {
    fn parse(address: u64, window: &[u8]) -> Option<Self> {
        let header = window[0x0e] & 0x7f;
        // mass storage, network or bridge, with the header that goes with it
        let is_plausible = matches!((window[0x0b], header), (1 | 2, 0) | (6, 1));
        if !is_plausible {
            return None;
        }
        let express = capability(window, EXPRESS)?;
        Some(Self {
            address,
            window: window.to_vec(),
            express,
        })
    }

    /// Device Capabilities 2.
    pub fn devcap2(&self) -> u32 {
        let at = self.express + 0x24;
        u32::from_le_bytes([
            self.window[at],
            self.window[at + 1],
            self.window[at + 2],
            self.window[at + 3],
        ])
    }

    fn flags(&self) -> u16 {
        self.word(self.express + 2)
    }

    fn is_port(&self) -> bool {
        PORT_TYPES.contains(&(self.flags() >> 4 & 15))
    }

    fn slot(&self) -> Option<u16> {
        let implemented = self.flags() & 0x100 != 0;
        (self.is_port() && implemented).then(|| self.word(self.express + 0x16) >> 3)
    }

    fn matches(&self, selector: &Selector) -> bool {
        match selector {
            Selector::Slot(slot) => self.slot() == Some(*slot),
            Selector::Header(header) => [0..4, 8..12, 0x10..0x1b]
                .iter()
                .all(|range| self.window[range.clone()] == header[range.clone()]),
        }
    }

    fn word(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.window[at], self.window[at + 1]])
    }
}

/// Addresses of the found functions, by process: a search reads all memory of a QEMU, and the addresses do not change.
static FOUND: Mutex<BTreeMap<i32, Vec<u64>>> = Mutex::new(BTreeMap::new());

/// The memory of a QEMU process.
pub struct Memory {
    file: File,
    pid: i32,
}

impl Memory {
    /// Opens it; needs the right to trace the process.
    pub fn open(pid: i32) -> Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"))
            .with_context(|| format!("cannot open the memory of process {pid}"))?;
        Ok(Self { file, pid })
    }

    /// The functions that an earlier search found, with their present content.
    fn known(&self) -> Vec<Function> {
        let found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = found.get(&self.pid).into_iter().flatten();
        let now = addresses.filter_map(|address| {
            let mut window = vec![0; WINDOW];
            self.file.read_exact_at(&mut window, *address).ok()?;
            let is_known = KNOWN.iter().any(|ids| window.starts_with(ids));
            is_known.then(|| Function::parse(*address, &window))?
        });
        now.collect()
    }

    /// Searches for each emulated function.
    fn search(&self) -> Result<Vec<Function>> {
        let maps = fs::read_to_string(format!("/proc/{}/maps", self.pid))
            .with_context(|| format!("cannot read the memory map of process {}", self.pid))?;
        let mut found = Vec::new();
        for (start, end) in maps.lines().filter_map(heap_like) {
            let mut bytes = vec![0; (end - start) as usize];
            // a mapping may have gone since
            if self.file.read_exact_at(&mut bytes, start).is_ok() {
                found.extend(scan(start, &bytes));
            }
        }
        let addresses = found.iter().map(|function| function.address).collect();
        let mut all = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(self.pid, addresses);
        Ok(found)
    }

    /// Replaces the AtomicOp bits of the selected function and returns the new Device Capabilities 2.
    pub fn set_atomics(&self, selector: &Selector, atomics: Atomics) -> Result<u32> {
        let function = self.only(selector)?;
        ensure!(
            function.flags() & 15 >= 2,
            "the function has a version-1 capability, which has no AtomicOp bits"
        );
        let value = function.devcap2() & !ATOMICS | atomics.bits;
        self.write(&function, 0x24, &value.to_le_bytes())?;
        let control = function.word(function.express + 0x28);
        let control = match atomics.egress_blocked {
            true => control | EGRESS_BLOCKED,
            false => control & !EGRESS_BLOCKED,
        };
        self.write(&function, 0x28, &control.to_le_bytes())?;
        Ok(value)
    }

    /// `offset` counts from the PCI Express capability.
    fn write(&self, function: &Function, offset: u64, bytes: &[u8]) -> Result<()> {
        let at = function.address + function.express as u64 + offset;
        self.file
            .write_all_at(bytes, at)
            .context("cannot write to QEMU's memory")
    }

    fn only(&self, selector: &Selector) -> Result<Function> {
        let fitting = |functions: Vec<Function>| -> Vec<Function> {
            let fits = |function: &Function| function.matches(selector);
            functions.into_iter().filter(fits).collect()
        };
        let mut found = fitting(self.known());
        if found.len() != 1 {
            found = fitting(self.search()?);
        }
        match (found.pop(), found.len()) {
            (Some(function), 0) => Ok(function),
            (None, _) => bail!("the lab's QEMU has no emulated PCI function that fits {selector}"),
            (Some(_), others) => bail!("{} functions fit {selector}", others + 1),
        }
    }
}

impl std::fmt::Display for Selector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Slot(slot) => write!(f, "slot={slot}"),
            Self::Header(header) => write!(
                f,
                "the function {:02x}{:02x}:{:02x}{:02x}",
                header[1], header[0], header[3], header[2]
            ),
        }
    }
}

fn heap_like(line: &str) -> Option<(u64, u64)> {
    let mut fields = line.split_whitespace();
    let (start, end) = fields.next()?.split_once('-')?;
    let is_writable = fields.next()?.starts_with("rw-p");
    let name = fields.nth(3).unwrap_or_default();
    let start = u64::from_str_radix(start, 16).ok()?;
    let end = u64::from_str_radix(end, 16).ok()?;
    let is_heap = name.is_empty() || name == "[heap]";
    (is_writable && is_heap && end - start < LARGEST).then_some((start, end))
}

/// malloc allocates configuration arrays, so they are aligned to 16 bytes.
fn scan(start: u64, bytes: &[u8]) -> Vec<Function> {
    let last = bytes.len().saturating_sub(SPACE - 1);
    (0..last)
        .step_by(16)
        .filter(|at| KNOWN.iter().any(|ids| bytes[*at..].starts_with(ids)))
        .filter_map(|at| Function::parse(start + at as u64, &bytes[at..at + WINDOW]))
        .collect()
}

fn capability(window: &[u8], wanted: u8) -> Option<usize> {
    let mut at = usize::from(window[0x34]);
    for _ in 0..48 {
        if !(0x40..0xf0).contains(&at) {
            return None;
        }
        if window[at] == wanted {
            return Some(at);
        }
        at = usize::from(window[at + 1]);
    }
    None
}

fn hex(text: &str) -> Option<[u8; 64]> {
    let digits: Vec<u8> = text
        .bytes()
        .filter(|byte| !byte.is_ascii_whitespace())
        .collect();
    let mut bytes = [0; 64];
    if digits.len() != 128 {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A root port: ids, class, capability at 0x54, slot 11.
    fn port() -> Vec<u8> {
        let mut space = vec![0; SPACE];
        space[..4].copy_from_slice(&KNOWN[0]);
        (space[0x0b], space[0x0e], space[0x34]) = (6, 1, 0x54);
        space[0x18..0x1b].copy_from_slice(&[0, 5, 5]);
        (space[0x54], space[0x56], space[0x57]) = (EXPRESS, 0x42, 0x01);
        space[0x6a..0x6c].copy_from_slice(&(11_u16 << 3).to_le_bytes());
        space[0x78..0x7c].copy_from_slice(&0x0030_0020_u32.to_le_bytes());
        space
    }

    #[test]
    fn a_port_is_found_by_its_slot_number() {
        let mut bytes = vec![0; 32];
        bytes.extend(port());
        let found = scan(0x1000, &bytes);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].address, found[0].slot()), (0x1020, Some(11)));
        assert_eq!(found[0].devcap2(), 0x0030_0020);
    }

    #[test]
    fn a_port_is_found_by_its_header_but_not_with_other_bus_numbers() {
        let bytes = port();
        let found = scan(0, &bytes);
        let mut header = [0; 64];
        header.copy_from_slice(&bytes[..64]);
        assert!(found[0].matches(&Selector::Header(Box::new(header))));
        header[0x19] = 6;
        assert!(!found[0].matches(&Selector::Header(Box::new(header))));
    }

    #[test]
    fn memory_that_only_begins_like_a_function_is_skipped() {
        let mut bytes = port();
        bytes[0x0b] = 9;
        assert!(scan(0, &bytes).is_empty());
        let mut looped = port();
        (looped[0x54], looped[0x55]) = (1, 0x54);
        assert!(scan(0, &looped).is_empty());
        assert!(scan(0, &port()[..SPACE - 1]).is_empty());
    }

    #[test]
    fn selectors_are_slots_or_headers() {
        assert_eq!("slot=7".parse(), Ok(Selector::Slot(7)));
        assert!("slot=x".parse::<Selector>().is_err());
        assert!("00".parse::<Selector>().is_err());
        assert!("ab ".repeat(64).parse::<Selector>().is_ok());
    }

    #[test]
    fn bits_are_hexadecimal_and_may_be_blocked() {
        let atomics = |bits, egress_blocked| Atomics {
            bits,
            egress_blocked,
        };
        assert_eq!("0x380".parse(), Ok(atomics(0x380, false)));
        assert_eq!("40+blocked".parse(), Ok(atomics(0x40, true)));
        assert!("400".parse::<Atomics>().is_err() && "+blocked".parse::<Atomics>().is_err());
    }

    #[test]
    fn only_private_writable_memory_is_searched() {
        assert_eq!(
            heap_like("1000-3000 rw-p 00000000 00:00 0 [heap]"),
            Some((0x1000, 0x3000))
        );
        assert_eq!(
            heap_like("1000-3000 rw-p 00000000 00:00 0 "),
            Some((0x1000, 0x3000))
        );
        assert_eq!(heap_like("1000-3000 r--p 00000000 00:00 0 "), None);
        assert_eq!(
            heap_like("1000-3000 rw-p 00000000 00:00 0 /usr/bin/x"),
            None
        );
    }
}
