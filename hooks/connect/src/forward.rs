//! Forwards packets between a client and the daemon: one poll loop, bounded queues, each direction closed on its own.
//!
//! ```text
//!            read             held calls                      write
//!  client --Splitter---> Gate ----------> (decided) -+--> Queue ---> daemon
//!                 \------------- all other bytes ----+
//!  client <--- Queue <--+-- all bytes --- Splitter <-------- read -- daemon
//!                       +-- refusals, between two packets
//! ```
//!
//! A direction is read only while its queue has room and the gate takes calls, so a slow reader slows its sender down. While a call
//! is decided, the packets behind it go on: libvirt's daemon does not keep the order of calls either, and keepalive must not stop.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::event::{PollFd, PollFlags, poll};

use crate::packet::{Header, Packet, Violation};
use crate::socket::{End, Queue, Read};
use crate::splitter::{Handling, Piece, Splitter};

/// Bytes of a queue from which on its direction is not read.
const FULL: usize = 256 << 10;
/// Bytes of one read.
const CHUNK: usize = 64 << 10;

/// Decides about held calls.
pub trait Gate {
    /// Asked for the head of each packet of the client. A packet with [`Handling::Discard`] is answered by a [`Verdict`] as well.
    fn handling(&mut self, header: &Header) -> Handling;
    /// Takes a whole packet that was held.
    fn take(&mut self, packet: Packet);
    /// False while it has enough calls to decide.
    fn has_room(&self) -> bool;
    /// True while it has calls to decide.
    fn is_busy(&self) -> bool;
    /// Readable when there is a verdict.
    fn notifier(&self) -> BorrowedFd<'_>;
    /// The next verdict.
    fn verdict(&mut self) -> Option<Verdict>;
}

/// What becomes of a held call.
#[derive(Debug)]
pub enum Verdict {
    /// It goes to the daemon.
    Forward(Packet),
    /// The client gets this reply, and the daemon does not see the call.
    Reply(Packet),
}

/// Why the connection ends before both ends have closed it.
#[derive(Debug)]
pub enum Fault {
    /// The client does not follow the protocol.
    Client(Violation),
    /// The daemon does not follow the protocol.
    Daemon(Violation),
    /// A system call failed.
    System(io::Error),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(violation) => write!(f, "the client sent {violation}"),
            Self::Daemon(violation) => write!(f, "libvirt's daemon sent {violation}"),
            Self::System(error) => write!(f, "{error}"),
        }
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::System(error)
    }
}

impl From<rustix::io::Errno> for Fault {
    fn from(error: rustix::io::Errno) -> Self {
        Self::System(error.into())
    }
}

/// From one end to the other.
#[derive(Default)]
struct Direction {
    splitter: Splitter,
    queue: Queue,
    /// Packets of this program, which wait for the end of the packet that passes.
    inserted: VecDeque<Packet>,
    /// The source sends no more.
    ended: bool,
    /// The target has been told so, or reads no more.
    closed: bool,
}

impl Direction {
    fn wants_input(&self) -> bool {
        !self.ended && !self.closed && self.queue.len() < FULL
    }

    /// Reads once. Held packets go to `held`.
    fn read(
        &mut self,
        from: &End<'_>,
        chunk: &mut [u8],
        handling: impl FnMut(&Header) -> Handling,
        held: &mut Vec<Packet>,
    ) -> io::Result<Result<(), Violation>> {
        let (count, descriptors) = match from.read(chunk)? {
            Read::Bytes(count, descriptors) => (count, descriptors),
            Read::Nothing => return Ok(Ok(())),
            Read::End => {
                self.ended = true;
                return Ok(Ok(()));
            }
        };
        let queue = &mut self.queue;
        let out = |piece: Piece<'_>| match piece {
            Piece::Bytes(bytes) => queue.push(bytes),
            Piece::Slot(descriptor) => queue.push_descriptor(descriptor),
            Piece::Held(packet) => held.push(packet),
        };
        Ok(self
            .splitter
            .feed(&chunk[..count], descriptors, handling, out))
    }

    /// Puts packets of this program between two others.
    fn insert(&mut self) {
        while self.splitter.is_between() {
            let Some(packet) = self.inserted.pop_front() else {
                break;
            };
            self.queue.push(&packet.bytes);
            for descriptor in packet.descriptors {
                self.queue.push_descriptor(descriptor);
            }
        }
    }

    /// Writes, and closes when all is written and `complete`.
    fn flush(&mut self, to: &End<'_>, complete: bool) {
        if self.closed {
            self.queue.clear();
            self.inserted.clear();
            return;
        }
        // EPIPE and the like end only this direction: the other one may still have the daemon's last reply.
        let broken = self.queue.write(to).is_err();
        // Behind a packet that ended in the middle, nothing can be inserted.
        let inserted = self.inserted.is_empty() || !self.splitter.is_between();
        let done = self.ended && complete && self.queue.is_empty() && inserted;
        if broken || done {
            to.finish();
            self.closed = true;
        }
    }
}

/// Forwards until both directions are closed.
///
/// # Errors
/// One end does not follow the protocol, or a system call failed.
pub fn forward(client: &End<'_>, daemon: &End<'_>, gate: &mut impl Gate) -> Result<(), Fault> {
    let mut connection = Connection {
        client,
        daemon,
        up: Direction::default(),
        down: Direction::default(),
        chunk: vec![0; CHUNK],
    };
    loop {
        connection.insert(gate);
        connection.up.flush(daemon, !gate.is_busy());
        connection.down.flush(client, true);
        let Some(ready) = connection.wait(gate)? else {
            return Ok(());
        };
        if ready.client {
            connection.read_client(gate)?;
        }
        if ready.daemon {
            connection.read_daemon()?;
        }
    }
}

struct Connection<'a> {
    client: &'a End<'a>,
    daemon: &'a End<'a>,
    /// To the daemon.
    up: Direction,
    /// To the client.
    down: Direction,
    chunk: Vec<u8>,
}

/// The ends that can be read.
struct Ready {
    client: bool,
    daemon: bool,
}

impl Connection<'_> {
    fn insert(&mut self, gate: &mut impl Gate) {
        while let Some(verdict) = gate.verdict() {
            match verdict {
                Verdict::Forward(packet) => self.up.inserted.push_back(packet),
                Verdict::Reply(packet) => self.down.inserted.push_back(packet),
            }
        }
        self.up.insert();
        self.down.insert();
    }

    /// Waits until something can be done; `None` when nothing can be done any more.
    fn wait(&self, gate: &impl Gate) -> Result<Option<Ready>, Fault> {
        let (up, down) = (&self.up, &self.down);
        if up.closed && down.closed {
            return Ok(None);
        }
        let none = PollFlags::empty();
        let reads = |wants: bool| if wants { PollFlags::IN } else { none };
        let writes = |direction: &Direction| match direction.queue.is_empty() {
            true => none,
            false => PollFlags::OUT,
        };
        let client = up.wants_input() && gate.has_room();
        let daemon = down.wants_input();
        // poll(2) always reports a hang-up, so an end of which nothing is wanted is left out. When one direction is closed, a
        // hang-up of the end that it came from means that nothing can follow.
        let mut waited = vec![PollFd::from_borrowed_fd(gate.notifier(), PollFlags::IN)];
        let mut place = |descriptor, events, wanted: bool| {
            wanted.then(|| {
                waited.push(PollFd::from_borrowed_fd(descriptor, events));
                waited.len() - 1
            })
        };
        let client_in = place(self.client.input, reads(client), client);
        let daemon_in = place(self.daemon.input, reads(daemon), daemon);
        let to_client = !down.closed && (!down.queue.is_empty() || up.closed);
        let client_out = place(self.client.output, writes(down), to_client);
        let to_daemon = !up.closed && (!up.queue.is_empty() || down.closed);
        let daemon_out = place(self.daemon.output, writes(up), to_daemon);
        match poll(&mut waited, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events = |at: Option<usize>| at.map_or(none, |at| waited[at].revents());
        let gone = PollFlags::HUP | PollFlags::ERR;
        let left = (up.closed && events(client_out).intersects(gone))
            || (down.closed && events(daemon_out).intersects(gone));
        Ok((!left).then(|| Ready {
            client: !events(client_in).is_empty(),
            daemon: !events(daemon_in).is_empty(),
        }))
    }

    fn read_client(&mut self, gate: &mut impl Gate) -> Result<(), Fault> {
        let mut held = Vec::new();
        let handling = |header: &Header| gate.handling(header);
        self.up
            .read(self.client, &mut self.chunk, handling, &mut held)?
            .map_err(Fault::Client)?;
        held.into_iter().for_each(|packet| gate.take(packet));
        Ok(())
    }

    fn read_daemon(&mut self) -> Result<(), Fault> {
        self.down
            .read(
                self.daemon,
                &mut self.chunk,
                |_| Handling::Pass,
                &mut Vec::new(),
            )?
            .map_err(Fault::Daemon)
    }
}
