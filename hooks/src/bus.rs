//! One call over the bus, or past it to the agent itself, blocking, on a socket of its own: what a process that makes one call
//! needs of D-Bus.
//!
//! Everything that does not wait for an answer is sent at once: authentication, the bus's `Hello` and the call (D-Bus
//! specification, "Authentication Protocol" and "Message Protocol"). Encoding is zbus's; no runtime, no thread.

use std::io::{self, Read, Write};
use std::num::NonZeroU32;
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
use zbus::address::transport::{Transport, UnixSocket};
use zbus::wire::{Endian, serialized::Context, serialized::Data};
use zbus::{Address, Message, OwnedVariant, Variant};

use crate::message::{FIXED, endian, length};

/// How long the bus may take until it has greeted us.
const GREETING: Duration = Duration::from_secs(5);

/// Longer than any answer of the agent's: a domain is at most 1 MiB.
const LONGEST: usize = 8 << 20;
/// Bytes that are read at once: a greeting and a short answer.
const PIECE: usize = 4096;
/// Longest line in which a bus answers to the authentication.
const LINE: usize = 256;

/// What is said of an answer in no form of D-Bus.
const NO_BUS: &str = "what answers is no bus";

/// The number of our `Hello`, and of the call after it.
const HELLO: u32 = 1;
/// See [`HELLO`].
pub(crate) const CALL: u32 = 2;

const RETURN: u8 = 2;
const ERROR: u8 = 3;
const FIELD_ERROR_NAME: u8 = 4;
const FIELD_REPLY_SERIAL: u8 = 5;
const FIELD_SIGNATURE: u8 = 8;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Fault {
    /// An error that came instead: its name and text.
    Said(String, Option<String>),
    /// The call was sent, and its time is up.
    Late,
    /// The agent has taken the call from its socket, and ended.
    Ended,
    /// The bus cannot be reached, or is none.
    Bus(String),
}

/// A connection that has sent its call.
pub(crate) struct Exchange {
    stream: UnixStream,
    until: Instant,
    /// What has come and is not read yet.
    ahead: Vec<u8>,
}

/// A message that came in.
struct Incoming {
    kind: u8,
    reply_to: Option<u32>,
    error: Option<String>,
    text: Option<String>,
}

impl Incoming {
    /// The text in an answer, if it has one.
    fn text(self) -> Result<Option<String>, Fault> {
        match self.kind {
            ERROR => Err(Fault::Said(self.error.unwrap_or_default(), self.text)),
            _ => Ok(self.text),
        }
    }
}

impl Exchange {
    /// Sends `call`, which has the number [`CALL`], and waits for its answer: the text in it, if it has one.
    pub(crate) fn with_system_bus(
        call: &Message,
        limit: Duration,
    ) -> Result<Option<String>, Fault> {
        let start = Instant::now();
        let mut exchange = Self {
            stream: system_bus()?,
            until: start + GREETING.min(limit),
            ahead: Vec::new(),
        };
        let hello = hello().map_err(no_greeting)?;
        let sent = exchange.send(&[&authentication(), hello.data(), call.data()]);
        sent.map_err(no_greeting)?;
        exchange.authenticated()?;
        exchange.answer(HELLO).map_err(no_greeting)?.text()?;
        exchange.until = start + limit;
        exchange.answer(CALL).map_err(cut_off)?.text()
    }

    /// The same with the agent that listens at `path`; `None` where nobody takes the call. The kernel tells either side who the
    /// other is, so that nothing is sent but messages.
    pub(crate) fn with_agent(
        path: &Path,
        call: &Message,
        limit: Duration,
    ) -> Option<Result<Option<String>, Fault>> {
        match Self::past_the_bus(path, call, limit) {
            Ok(answer) => Some(answer.text()),
            Err(error) if is_late(&error) => Some(Err(Fault::Late)),
            Err(error) => match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                    Some(Err(Fault::Ended))
                }
                // Also ECONNRESET: who closes and has not read all of the call (unix(7)).
                _ => None,
            },
        }
    }

    fn past_the_bus(path: &Path, call: &Message, limit: Duration) -> io::Result<Incoming> {
        let until = Instant::now() + limit;
        let stream = connected(&UnixAddr::new(path)?, limit)?;
        if !is_ours(&stream) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut exchange = Self {
            stream,
            until,
            ahead: Vec::new(),
        };
        exchange.send(&[call.data()])?;
        exchange.answer(CALL)
    }

    fn send(&mut self, pieces: &[&[u8]]) -> io::Result<()> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        self.stream.write_all(&pieces.concat())
    }

    /// The line `OK`; what comes after it is a message.
    fn authenticated(&mut self) -> Result<(), Fault> {
        let end = loop {
            match self.ahead.windows(2).position(|end| end == b"\r\n") {
                Some(end) if end < LINE => break end,
                None if self.ahead.len() <= LINE => self.receive().map_err(no_greeting)?,
                _ => return Err(Fault::Bus(NO_BUS.into())),
            }
        };
        let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
        match line.starts_with(b"OK ") {
            true => Ok(()),
            false => Err(Fault::Bus("the bus does not let us in".into())),
        }
    }

    /// The answer to the message with this number; what else comes is not for us.
    fn answer(&mut self, to: u32) -> io::Result<Incoming> {
        loop {
            let message = self.message()?;
            if message.reply_to == Some(to) && [ERROR, RETURN].contains(&message.kind) {
                return Ok(message);
            }
        }
    }

    /// The next message. It is kept as far as it has arrived, whatever length it claims.
    fn message(&mut self) -> io::Result<Incoming> {
        let invalid = io::ErrorKind::InvalidData;
        self.fill(FIXED)?;
        let length = length(&self.ahead, LONGEST).ok_or_else(|| io::Error::new(invalid, NO_BUS))?;
        self.fill(length)?;
        let rest = self.ahead.split_off(length);
        let bytes = std::mem::replace(&mut self.ahead, rest);
        decoded(bytes).map_err(|error| io::Error::new(invalid, error))
    }

    fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.ahead.len() < length {
            self.receive()?;
        }
        Ok(())
    }

    /// The time that is left, which is some.
    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        match left.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => Ok(left),
        }
    }

    /// Takes what has come, and waits until something has.
    fn receive(&mut self) -> io::Result<()> {
        self.stream.set_read_timeout(Some(self.left()?))?;
        let mut bytes = [0; PIECE];
        match self.stream.read(&mut bytes) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => self.ahead.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// Where `DBUS_SYSTEM_BUS_ADDRESS` says, else where the system bus is.
fn system_bus() -> Result<UnixStream, Fault> {
    let address = Address::system().map_err(|error| Fault::Bus(error.to_string()))?;
    let unix = match address.transport() {
        Transport::Unix(unix) => match unix.path() {
            UnixSocket::File(path) => UnixAddr::new(path.as_path()),
            UnixSocket::Abstract(name) => UnixAddr::new_abstract(name.as_encoded_bytes()),
            _ => Err(nix::Error::EAFNOSUPPORT),
        },
        _ => Err(nix::Error::EAFNOSUPPORT),
    };
    let stream = unix.and_then(|unix| connected(&unix, GREETING));
    stream.map_err(|errno| no_greeting(errno.into()))
}

/// Who listens and does not accept keeps connect(2) waiting for as long as a send may take.
fn connected(address: &UnixAddr, limit: Duration) -> nix::Result<UnixStream> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    let seconds = i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX);
    setsockopt(&socket, SendTimeout, &TimeVal::new(seconds, 0))?;
    connect(socket.as_raw_fd(), address)?;
    Ok(UnixStream::from(socket))
}

/// True when root listens, or the user that the hook runs as (tests).
fn is_ours(stream: &UnixStream) -> bool {
    let peer = getsockopt(stream, PeerCredentials);
    peer.is_ok_and(|peer| peer.uid() == 0 || peer.uid() == geteuid().as_raw())
}

/// D-Bus specification, "Authentication Protocol": who we are, in hexadecimal digits.
fn authentication() -> Vec<u8> {
    let user = geteuid().to_string();
    let hexadecimal: String = user.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("\0AUTH EXTERNAL {hexadecimal}\r\nBEGIN\r\n").into_bytes()
}

fn hello() -> io::Result<Message> {
    let bus = "org.freedesktop.DBus";
    let message = Message::method_call("/org/freedesktop/DBus", "Hello")
        .destination(bus)
        .interface(bus)
        .serial(NonZeroU32::MIN)
        .build(&());
    message.map_err(io::Error::other)
}

fn no_greeting(error: io::Error) -> Fault {
    match cut_off(error) {
        Fault::Late => Fault::Bus("the bus does not answer".into()),
        other => other,
    }
}

fn cut_off(error: io::Error) -> Fault {
    match error.kind() {
        _ if is_late(&error) => Fault::Late,
        io::ErrorKind::UnexpectedEof => Fault::Bus("the bus has closed the connection".into()),
        _ => Fault::Bus(error.to_string()),
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock
    )
}

type Header = (u8, u8, u8, u8, u32, u32, Vec<(u8, OwnedVariant)>);

fn decoded(bytes: Vec<u8>) -> zbus::Result<Incoming> {
    let context = Context::new(endian(&bytes).unwrap_or(Endian::Little), 0);
    let data = Data::new(bytes, context);
    let (header, read): (Header, usize) = data.deserialize()?;
    let field = |code| {
        header
            .6
            .iter()
            .find(|(one, _)| *one == code)
            .map(|(_, value)| value)
    };
    let word = |code| <&str>::try_from(&**field(code)?).ok().map(str::to_owned);
    let begins_with_text = match field(FIELD_SIGNATURE).map(|value| &**value) {
        Some(Variant::Signature(signature)) => signature
            .to_string()
            .trim_start_matches('(')
            .starts_with('s'),
        _ => false,
    };
    let body = data.slice(read.next_multiple_of(8)..);
    let text: Option<(String, usize)> = match begins_with_text {
        true => Some(body.deserialize()?),
        false => None,
    };
    Ok(Incoming {
        kind: header.1,
        reply_to: field(FIELD_REPLY_SERIAL).and_then(|value| u32::try_from(&**value).ok()),
        error: word(FIELD_ERROR_NAME),
        text: text.map(|(text, _)| text),
    })
}
