//! Splits one direction of a connection into packets, without keeping those that only pass.
//!
//! ```text
//!        +--------------------------------------------------------------+
//!        v                                                              |
//!  Head (28 bytes, 32 with descriptors) --Pass-----> Body --> Slots ----+   bytes go out as they arrive
//!                                       --Hold-----> Body --> Slots ----+   one piece, when it is whole
//!                                       --Discard--> Body --> Slots ----+   nothing goes out
//! ```
//!
//! `Slots` are the bytes behind a packet that carry one descriptor each. libvirt sends each with sendmsg(2) of its own, and the kernel
//! ends a read after the data that carried descriptors (unix(7)), so a slot with its descriptor is the last byte of a read.

use std::mem;
use std::os::fd::OwnedFd;

use crate::packet::{HEAD, Header, MAX_DESCRIPTORS, Packet, Violation};

/// How a packet is handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handling {
    /// Its bytes are forwarded as they arrive.
    Pass,
    /// It is kept until it is whole.
    Hold,
    /// It is dropped.
    Discard,
}

/// The output of a [`Splitter`], in the order of the input.
#[derive(Debug)]
pub enum Piece<'a> {
    /// Bytes that pass.
    Bytes(&'a [u8]),
    /// One byte that passes with this descriptor.
    Slot(OwnedFd),
    /// A held packet.
    Held(Packet),
}

#[derive(Debug)]
enum State {
    Head,
    /// This many bytes of the payload are still to come.
    Body(usize),
    /// This many bytes with descriptors are still to come.
    Slots(u32),
}

/// One direction of a connection.
#[derive(Debug)]
pub struct Splitter {
    state: State,
    handling: Handling,
    /// The head of the current packet, and all of a held one.
    kept: Vec<u8>,
    header: Option<Header>,
    /// Descriptors of the current packet.
    count: u32,
    descriptors: Vec<OwnedFd>,
}

impl Default for Splitter {
    fn default() -> Self {
        Self {
            state: State::Head,
            handling: Handling::Pass,
            kept: Vec::with_capacity(HEAD + 4),
            header: None,
            count: 0,
            descriptors: Vec::new(),
        }
    }
}

impl Splitter {
    /// True between two packets of the output: another packet may be put there.
    #[must_use]
    pub fn is_between(&self) -> bool {
        self.handling != Handling::Pass || matches!(self.state, State::Head)
    }

    /// Takes the bytes of one read and the descriptors that came with its last byte.
    ///
    /// # Errors
    /// The peer does not follow the protocol.
    pub fn feed(
        &mut self,
        mut bytes: &[u8],
        descriptors: Vec<OwnedFd>,
        mut handling: impl FnMut(&Header) -> Handling,
        mut out: impl FnMut(Piece<'_>),
    ) -> Result<(), Violation> {
        // A descriptor with another byte is closed, as libvirt's own reads do.
        let mut descriptors = descriptors.into_iter();
        while !bytes.is_empty() {
            match self.state {
                State::Head => bytes = self.head(bytes, &mut handling, &mut out)?,
                State::Body(left) => {
                    let (now, rest) = bytes.split_at(left.min(bytes.len()));
                    self.body(now, &mut out);
                    self.advance(left - now.len(), &mut out);
                    bytes = rest;
                }
                State::Slots(left) => {
                    let descriptor = match bytes.len() {
                        1 => descriptors.next(),
                        _ => None,
                    };
                    self.slot(descriptor.ok_or(Violation::NoDescriptor)?, &mut out);
                    self.state = State::Slots(left - 1);
                    self.finish_slots(&mut out);
                    bytes = &bytes[1..];
                }
            }
        }
        Ok(())
    }

    /// Collects the head, and decides when it is whole.
    fn head<'a>(
        &mut self,
        bytes: &'a [u8],
        handling: &mut impl FnMut(&Header) -> Handling,
        out: &mut impl FnMut(Piece<'_>),
    ) -> Result<&'a [u8], Violation> {
        let wanted = match self.header {
            Some(_) => HEAD + 4,
            None => HEAD,
        };
        let (now, rest) = bytes.split_at((wanted - self.kept.len()).min(bytes.len()));
        self.kept.extend_from_slice(now);
        if self.kept.len() < wanted {
            return Ok(rest);
        }
        let header = match self.header {
            Some(header) => {
                self.count = self.descriptor_count()?;
                header
            }
            None => {
                let mut head = [0; HEAD];
                head.copy_from_slice(&self.kept);
                let header = Header::parse(&head)?;
                self.header = Some(header);
                if header.has_descriptors() {
                    if header.size() < HEAD + 4 {
                        return Err(Violation::Descriptors(0));
                    }
                    return Ok(rest);
                }
                self.count = 0;
                header
            }
        };
        // Decided by the head alone, before a long payload is kept.
        self.handling = handling(&header);
        if self.handling == Handling::Pass {
            out(Piece::Bytes(&self.kept));
        }
        let left = header.size() - self.kept.len();
        self.advance(left, out);
        Ok(rest)
    }

    fn descriptor_count(&self) -> Result<u32, Violation> {
        let mut word = [0; 4];
        word.copy_from_slice(&self.kept[HEAD..HEAD + 4]);
        let count = u32::from_be_bytes(word);
        match count <= MAX_DESCRIPTORS {
            true => Ok(count),
            false => Err(Violation::Descriptors(count)),
        }
    }

    fn body(&mut self, bytes: &[u8], out: &mut impl FnMut(Piece<'_>)) {
        match self.handling {
            Handling::Pass => out(Piece::Bytes(bytes)),
            Handling::Hold => self.kept.extend_from_slice(bytes),
            Handling::Discard => {}
        }
    }

    fn slot(&mut self, descriptor: OwnedFd, out: &mut impl FnMut(Piece<'_>)) {
        match self.handling {
            Handling::Pass => out(Piece::Slot(descriptor)),
            Handling::Hold => self.descriptors.push(descriptor),
            Handling::Discard => {}
        }
    }

    fn advance(&mut self, left: usize, out: &mut impl FnMut(Piece<'_>)) {
        self.state = State::Body(left);
        if left == 0 {
            self.state = State::Slots(self.count);
            self.finish_slots(out);
        }
    }

    /// Ends the packet when its last descriptor is there.
    fn finish_slots(&mut self, out: &mut impl FnMut(Piece<'_>)) {
        if !matches!(self.state, State::Slots(0)) {
            return;
        }
        self.state = State::Head;
        let header = self.header.take();
        if let (Handling::Hold, Some(header)) = (self.handling, header) {
            out(Piece::Held(Packet {
                header,
                bytes: mem::take(&mut self.kept),
                descriptors: mem::take(&mut self.descriptors),
            }));
        }
        self.kept.clear();
    }
}
