//! Reads and writes that do not block, with descriptors where the transport is a unix socket.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg, shutdown, sockopt,
};

use crate::packet::MAX_DESCRIPTORS;

/// Memory that an empty queue keeps, in bytes.
const KEPT: usize = 128 << 10;

/// One end of the connection.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// Where its bytes are read.
    pub input: BorrowedFd<'a>,
    /// Where bytes for it are written.
    pub output: BorrowedFd<'a>,
    /// Both are unix sockets, which carry descriptors.
    is_unix: bool,
}

/// What a read gave.
#[derive(Debug)]
pub enum Read {
    /// This many bytes, and the descriptors that came with the last one.
    Bytes(usize, Vec<OwnedFd>),
    /// Nothing for now.
    Nothing,
    /// The peer sends no more.
    End,
}

impl<'a> End<'a> {
    /// Of two descriptors, which may be the same. One that is not a socket no longer blocks afterwards.
    ///
    /// # Errors
    /// A flag of a descriptor cannot be set.
    pub fn new(input: BorrowedFd<'a>, output: BorrowedFd<'a>) -> io::Result<Self> {
        let is_unix = [input, output].iter().all(|end| {
            sockopt::socket_domain(end).is_ok_and(|family| family == AddressFamily::UNIX)
        });
        for end in [input, output] {
            fcntl_setfl(end, fcntl_getfl(end)? | OFlags::NONBLOCK)?;
        }
        Ok(Self {
            input,
            output,
            is_unix,
        })
    }

    /// Reads what is there.
    ///
    /// # Errors
    /// Those of the system; a peer that reset the connection has ended.
    pub fn read(&self, into: &mut [u8]) -> io::Result<Read> {
        let read = match self.is_unix {
            true => self.receive(into),
            false => rustix::io::read(self.input, &mut *into).map(|count| (count, Vec::new())),
        };
        match read {
            Ok((0, _)) => Ok(Read::End),
            Ok((count, descriptors)) => Ok(Read::Bytes(count, descriptors)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(Read::Nothing),
            // A client that is killed with unread replies resets the connection; that is its end and no fault.
            Err(rustix::io::Errno::CONNRESET) => Ok(Read::End),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&self, into: &mut [u8]) -> rustix::io::Result<(usize, Vec<OwnedFd>)> {
        let mut space =
            [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS as usize))];
        let mut ancillary = RecvAncillaryBuffer::new(&mut space);
        // DONTWAIT in addition to O_NONBLOCK: the flag of a shared file description may be cleared by another process.
        let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
        let message = recvmsg(
            self.input,
            &mut [IoSliceMut::new(into)],
            &mut ancillary,
            flags,
        )?;
        let mut descriptors = Vec::new();
        for message in ancillary.drain() {
            if let RecvAncillaryMessage::ScmRights(received) = message {
                descriptors.extend(received);
            }
        }
        Ok((message.bytes, descriptors))
    }

    /// Ends this direction of the connection; for a pipe that is done by the end of the process.
    pub fn finish(&self) {
        let _ = shutdown(self.output, rustix::net::Shutdown::Write);
    }

    fn write(&self, bytes: &[u8], descriptor: Option<BorrowedFd<'_>>) -> io::Result<usize> {
        if !self.is_unix {
            return match descriptor {
                None => Ok(rustix::io::write(self.output, bytes)?),
                Some(_) => Err(io::Error::other(
                    "a descriptor cannot be passed over this transport, which is not a unix socket",
                )),
            };
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        let descriptors: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        if !descriptors.is_empty() {
            ancillary.push(SendAncillaryMessage::ScmRights(&descriptors));
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        Ok(sendmsg(
            self.output,
            &[IoSlice::new(bytes)],
            &mut ancillary,
            flags,
        )?)
    }
}

/// Bytes and descriptors on their way to one end.
#[derive(Debug, Default)]
pub struct Queue {
    bytes: Vec<u8>,
    /// The bytes before this index are written.
    written: usize,
    /// Bytes that carry a descriptor, by index.
    slots: VecDeque<(usize, OwnedFd)>,
}

impl Queue {
    /// Bytes that are not written yet.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// All is written.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends a byte that carries a descriptor; libvirt sends 0.
    pub fn push_descriptor(&mut self, descriptor: OwnedFd) {
        self.slots.push_back((self.bytes.len(), descriptor));
        self.bytes.push(0);
    }

    /// Writes as much as the end takes now.
    ///
    /// # Errors
    /// Those of the system: the end does not read any more.
    pub fn write(&mut self, to: &End<'_>) -> io::Result<()> {
        while !self.is_empty() {
            let next = self.slots.front();
            let slot = next.filter(|(at, _)| *at == self.written);
            let end = match (slot, next) {
                (Some(_), _) => self.written + 1,
                (None, Some((at, _))) => *at,
                (None, None) => self.bytes.len(),
            };
            let descriptor = slot.map(|(_, descriptor)| descriptor.as_fd());
            match to.write(&self.bytes[self.written..end], descriptor) {
                Ok(count) => {
                    // The kernel passes the descriptor with the first byte that it takes.
                    if count > 0 && descriptor.is_some() {
                        self.slots.pop_front();
                    }
                    self.written += count;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.forget();
        Ok(())
    }

    /// Releases the memory of written bytes, when that moves few others.
    fn forget(&mut self) {
        if self.is_empty() {
            self.bytes.clear();
            self.bytes.shrink_to(KEPT);
            self.written = 0;
        // Only when at least half is written: each byte is then moved at most once on average.
        } else if self.written >= self.len() {
            self.bytes.drain(..self.written);
            for (at, _) in &mut self.slots {
                *at -= self.written;
            }
            self.written = 0;
        }
    }

    /// Drops everything, when the end does not read any more.
    pub fn clear(&mut self) {
        *self = Self::default();
    }
}
