//! One blocking method call on the agent's socket, with deadlines: the part of Varlink that a process with one call needs.

use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, UnixAddr, connect, getsockopt, setsockopt, socket,
    sockopt::{PeerCredentials, SendTimeout},
};
use nix::sys::time::TimeVal;
use nix::unistd::geteuid;

use crate::protocol::{Frames, LONGEST_REPLY, MethodReply};

/// Bytes of one read: a short reply.
const CHUNK: usize = 4096;

/// How long a call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until the next reply, which a working agent sends every few seconds.
    pub silence: Duration,
    /// Until the last reply.
    pub total: Duration,
}

/// Why there is no reply.
#[derive(Debug)]
pub(crate) enum Fault {
    /// No process listens, or another user's does.
    Unreachable(String),
    /// The agent closed the connection before it had read the call.
    NotTaken,
    /// No reply within this time.
    Silent(Duration),
    /// Progress replies, and then no reply within this time.
    Late(Duration),
    /// The agent read the call and closed the connection, or sent something that is not a reply.
    Broken,
}

/// Sends `call` to the agent that listens at `path`, and waits for the last reply.
pub(crate) fn exchange(path: &Path, call: &[u8], limits: Limits) -> Result<MethodReply, Fault> {
    let start = Instant::now();
    let limit = limits.silence.min(limits.total);
    let mut stream = connected(path, limit)?;
    // A peer that closes before it has read the whole call resets the connection (unix(7)).
    let cut_off = |error: io::Error| match error.kind() {
        _ if is_late(&error) => Fault::Silent(limit),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Fault::Broken,
        _ => Fault::NotTaken,
    };
    send(&mut stream, call, start + limit).map_err(cut_off)?;
    let mut replies = Replies {
        stream,
        frames: Frames::new(LONGEST_REPLY),
    };
    let mut reply = replies.next(start + limit).map_err(cut_off)?;
    while reply.continues {
        let now = Instant::now();
        let until = (now + limits.silence).min(start + limits.total);
        reply = replies.next(until).map_err(|error| match is_late(&error) {
            true if until - now < limits.silence => Fault::Late(limits.total),
            true => Fault::Late(limits.silence),
            // The agent has read the call.
            false => Fault::Broken,
        })?;
    }
    Ok(reply)
}

/// A connection to root, or to the user that the hook runs as (tests). While the peer listens and does not accept, connect(2) waits
/// for the send timeout.
fn connected(path: &Path, limit: Duration) -> Result<UnixStream, Fault> {
    let connection = || {
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
        let seconds = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
        setsockopt(&socket, SendTimeout, &TimeVal::new(seconds, 0))?;
        connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
        Ok::<_, nix::Error>(UnixStream::from(socket))
    };
    let place = path.display();
    let stream = match connection() {
        Ok(stream) => stream,
        Err(nix::Error::EAGAIN) => return Err(Fault::Silent(limit)),
        Err(errno) => {
            let why = format!("cannot connect to '{place}': {}", errno.desc());
            return Err(Fault::Unreachable(why));
        }
    };
    match getsockopt(&stream, PeerCredentials).map(|peer| peer.uid()) {
        Ok(user) if user == 0 || user == geteuid().as_raw() => Ok(stream),
        Ok(user) => Err(Fault::Unreachable(format!(
            "cannot trust '{place}': user {user} listens there, not root"
        ))),
        Err(errno) => Err(Fault::Unreachable(errno.desc().to_owned())),
    }
}

fn send(stream: &mut UnixStream, bytes: &[u8], until: Instant) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(until)?))?;
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// The replies on a connection.
struct Replies {
    stream: UnixStream,
    frames: Frames,
}

impl Replies {
    /// The next whole reply.
    fn next(&mut self, until: Instant) -> io::Result<MethodReply> {
        let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
        loop {
            let message = self.frames.take();
            let message =
                message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            match message {
                Some(message) => {
                    return serde_json::from_slice(&message).map_err(invalid);
                }
                None => self.receive(until)?,
            }
        }
    }

    /// Waits for bytes and keeps them.
    fn receive(&mut self, until: Instant) -> io::Result<()> {
        self.stream.set_read_timeout(Some(left(until)?))?;
        let mut bytes = [0; CHUNK];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.frames.push(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// The time until the deadline; an error when it has passed.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    match left.is_zero() {
        true => Err(io::ErrorKind::TimedOut.into()),
        false => Ok(left),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}
