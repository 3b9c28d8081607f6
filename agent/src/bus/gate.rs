//! The filter between the bus and zbus: decides about each message by its head, before its body is read.
//!
//! ```text
//! bus --head--> size? --> user? --> budget? --head and body--> zbus --> method --reply--> read? --> bus
//!                 '---------'----------'-- body skipped; an error instead        '-- counted, or an error instead
//! ```
//!
//! A call uses its share of the budget until zbus sends its reply; a method cannot release it earlier. So zbus must
//! reply to every call: the filter clears the flag NO_REPLY_EXPECTED, and drops the reply to such a call. It drops
//! signals and replies that the agent did not request. It accepts no descriptors: dbus-daemon lets a connection have
//! only 64 in flight, so a call with a descriptor would cost more than its reply.

use std::collections::HashSet;
use std::io;
use std::num::NonZeroU32;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream as StdStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::name::MANAGER_INTERFACE;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::time::timeout;
use tracing::debug;
use zbus::address::transport::{Transport, UnixSocket};
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Split, WriteHalf};
use zbus::export::async_trait::async_trait;
use zbus::message::{Message, Type};
use zbus::{Address, Connection, DBusError};

use super::BusError;
use super::budget::{Full, Incoming as Call, Outcome};
use super::caller::{self, Callers};
use super::frame::{FIXED, Head, Kind, Lengths, expect_reply};
use super::method::{self, Method};
use domain::code::Code;
use domain::refusal::Refusal;

/// Deadline of the agent's own calls on a connection. polkit's is the longest, because it asks a user.
const DEADLINE: Duration = Duration::from_secs(310);
/// Deadline of each step of the handshake.
const GREETING: Duration = Duration::from_secs(25);
/// Maximum size of a reply to the agent's calls.
const REPLY: usize = 1 << 20;
/// Maximum number of queued refusals; further ones are dropped.
const REFUSALS: usize = 64;
/// Bytes that are skipped at once.
const SKIP: usize = 64 << 10;

const BUS: &str = "org.freedesktop.DBus";
const PEER: &str = "org.freedesktop.DBus.Peer";

/// Connects to the bus at `address` through the filter, with the additions of `add`.
///
/// # Errors
/// The bus cannot be reached.
pub(super) async fn connect(
    address: &Address,
    callers: Callers,
    add: impl FnOnce(Builder<'static>) -> Builder<'static>,
) -> zbus::Result<Connection> {
    let stream = stream(address)?;
    let (refuse, refusals) = channel(REFUSALS);
    let gate = Gate {
        stream,
        callers,
        refuse,
    };
    // zbus has no timeout by default: a service that does not answer would keep the agent's caller waiting forever.
    let builder = Builder::socket(gate).method_timeout(DEADLINE);
    let connection = timeout(GREETING, add(builder).build());
    let late = |_| zbus::Error::Failure("the bus did not complete the handshake in time".into());
    let connection = connection.await.map_err(late)??;
    tokio::spawn(tell(connection.clone(), refusals));
    Ok(connection)
}

fn stream(address: &Address) -> zbus::Result<UnixStream> {
    let unsupported = || io::Error::new(io::ErrorKind::Unsupported, "the bus is not a unix socket");
    let Transport::Unix(unix) = address.transport() else {
        return Err(unsupported().into());
    };
    let address = match unix.path() {
        UnixSocket::File(path) => SocketAddr::from_pathname(path)?,
        // Used by test buses; the system bus has a path.
        UnixSocket::Abstract(name) => SocketAddr::from_abstract_name(name.as_encoded_bytes())?,
        _ => return Err(unsupported().into()),
    };
    let stream = StdStream::connect_addr(&address)?;
    stream.set_nonblocking(true)?;
    Ok(UnixStream::from_std(stream)?)
}

/// Sends the refusals of the reading half, which cannot write itself.
async fn tell(connection: Connection, mut refusals: Receiver<Message>) {
    while let Some(refusal) = refusals.recv().await {
        if let Err(error) = connection.send(&refusal).await {
            debug!("cannot send a refusal: {error}");
            return;
        }
    }
}

struct Gate {
    stream: UnixStream,
    callers: Callers,
    refuse: Sender<Message>,
}

/// Serials of the agent's calls without a reply.
type Ours = Arc<Mutex<HashSet<NonZeroU32>>>;

impl zbus::connection::socket::Socket for Gate {
    type ReadHalf = Handshake;
    type WriteHalf = Out;

    fn split(self) -> Split<Handshake, Out> {
        let (incoming, outgoing) = self.stream.into_split();
        let ours = Ours::default();
        let filter = Filter {
            incoming: Incoming(incoming),
            ahead: Vec::new(),
            head: Vec::new(),
            body: 0,
            callers: self.callers.clone(),
            refuse: self.refuse,
            ours: ours.clone(),
        };
        let out = Out {
            outgoing: Outgoing(outgoing),
            callers: self.callers,
            ours,
        };
        Split::new(Handshake(filter), out)
    }
}

/// The reading half of a stream without descriptors.
#[derive(Debug)]
struct Incoming(OwnedReadHalf);

#[async_trait]
impl ReadHalf for Incoming {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        Ok((self.0.read(buffer).await?, Vec::new()))
    }
}

/// The writing half of a stream without descriptors.
#[derive(Debug)]
struct Outgoing(OwnedWriteHalf);

#[async_trait]
impl WriteHalf for Outgoing {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}

/// Passes lines of the handshake unchanged, and messages through the filter.
#[derive(Debug)]
struct Handshake(Filter);

#[async_trait]
impl ReadHalf for Handshake {
    async fn receive_message(
        &mut self,
        seq: u64,
        ahead: &mut Vec<u8>,
        descriptors: &mut Vec<OwnedFd>,
    ) -> zbus::Result<Message> {
        // zbus has read behind the handshake; those bytes are the first messages.
        self.0.ahead.append(ahead);
        // Dropping closes them: the agent has no use for descriptors.
        descriptors.clear();
        let (mut none, mut no_descriptors) = (Vec::new(), Vec::new());
        let message = self.0.receive_message(seq, &mut none, &mut no_descriptors);
        message.await
    }

    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        self.0.incoming.recvmsg(buffer).await
    }
}

/// A stream of the accepted messages.
#[derive(Debug)]
struct Filter {
    incoming: Incoming,
    /// Bytes that were read with the handshake.
    ahead: Vec<u8>,
    /// The rest of the head of the accepted message.
    head: Vec<u8>,
    /// The rest of its body.
    body: usize,
    callers: Callers,
    refuse: Sender<Message>,
    ours: Ours,
}

#[async_trait]
impl ReadHalf for Filter {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if self.head.is_empty() && self.body == 0 {
            self.next().await?;
        }
        if !self.head.is_empty() {
            let length = self.head.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.head[..length]);
            self.head.drain(..length);
            return Ok((length, Vec::new()));
        }
        let length = self.body.min(buffer.len());
        let read = self.read(&mut buffer[..length]).await?;
        self.body -= read;
        Ok((read, Vec::new()))
    }
}

impl Filter {
    /// Skips messages until one is accepted.
    async fn next(&mut self) -> io::Result<()> {
        loop {
            let mut fixed = [0; FIXED];
            self.fill(&mut fixed).await?;
            let lengths = Lengths::of(&fixed);
            let lengths = lengths.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
            // Too long to keep: skipped without memory for it, and without an answer, as its sender is not known.
            if !lengths.is_readable() {
                self.skip(lengths.fields.saturating_add(lengths.body))
                    .await?;
                continue;
            }
            let mut bytes = fixed.to_vec();
            bytes.resize(FIXED + lengths.fields, 0);
            self.fill(&mut bytes[FIXED..]).await?;
            if self.lets_in(Head::parse(&bytes)).await {
                // zbus sends no reply to a call that wants none, and the call's share would never be released.
                expect_reply(&mut bytes);
                (self.head, self.body) = (bytes, lengths.body);
                return Ok(());
            }
            self.skip(lengths.body).await?;
        }
    }

    async fn lets_in(&mut self, head: Option<Head>) -> bool {
        let Some(head) = head else { return false };
        match head.kind {
            Kind::Call => self.admits(&head).await,
            Kind::Reply => self.awaits(&head),
            // Any client may send a unicast signal to the agent; only those of the bus itself mean something.
            Kind::Signal => head.sender == BUS,
        }
    }

    /// True for replies to the agent's calls, without those to a Ping of the filter.
    fn awaits(&self, head: &Head) -> bool {
        let Some(serial) = head.reply_to else {
            return false;
        };
        let read = |budget: &mut super::budget::Budget| budget.has_read(&head.sender, serial);
        // The filter sent this Ping; zbus has no call for the reply.
        if self.callers.with_budget(read) {
            return false;
        }
        let is_ours = self
            .ours
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&serial);
        // The bus's own errors (ServiceUnknown, NoReply) are small, and zbus ignores those that answer none of its calls.
        head.sender == BUS || (is_ours && head.body <= REPLY)
    }

    async fn admits(&self, head: &Head) -> bool {
        let user = match self.callers.of_name(&head.sender).await {
            Ok(user) => user,
            Err(error) => {
                debug!("a call of '{}' is dropped: {error}", head.sender);
                return false;
            }
        };
        let call = Call {
            sender: &head.sender,
            serial: head.serial,
            user,
            is_root: caller::is_root(user),
            bytes: head.body,
            is_silent: head.is_silent,
        };
        let refusal = if head.body > limit(&head.interface, &head.member) {
            too_large(head)
        } else {
            match self.callers.admit(call) {
                Ok(()) => return true,
                // One more error would be one more unread message.
                Err(Full::NotReading) => return false,
                Err(full) => refusal(full),
            }
        };
        self.callers.meet(&call);
        self.refuse(head, refusal);
        false
    }

    /// Sends an error for a refused call, if the queue has space.
    fn refuse(&self, head: &Head, refusal: Refusal) {
        if head.is_silent {
            return;
        }
        match error(&head.sender, head.serial, refusal) {
            // Never waits for space: a client that does not read would stop the reading half for all clients.
            Ok(message) => drop(self.refuse.try_send(message)),
            Err(error) => debug!("cannot write a refusal: {error}"),
        }
    }

    async fn skip(&mut self, length: usize) -> io::Result<()> {
        let (mut left, mut buffer) = (length, vec![0; length.min(SKIP)]);
        while left > 0 {
            let piece = left.min(buffer.len());
            left -= self.read(&mut buffer[..piece]).await?;
        }
        Ok(())
    }

    async fn fill(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let mut filled = 0;
        while filled < buffer.len() {
            filled += self.read(&mut buffer[filled..]).await?;
        }
        Ok(())
    }

    /// Reads at least one byte.
    async fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buffer.len());
            buffer[..length].copy_from_slice(&self.ahead[..length]);
            self.ahead.drain(..length);
            return Ok(length);
        }
        match self.incoming.recvmsg(buffer).await? {
            (0, _) => Err(io::ErrorKind::UnexpectedEof.into()),
            (read, _) => Ok(read),
        }
    }
}

/// Sends replies within their callers' budgets.
#[derive(Debug)]
struct Out {
    outgoing: Outgoing,
    callers: Callers,
    ours: Ours,
}

#[async_trait]
impl WriteHalf for Out {
    async fn send_message(&mut self, message: &Message) -> zbus::Result<()> {
        let header = message.header();
        let to = header.destination().map(ToString::to_string);
        let length = message.data().len();
        match (message.message_type(), to, header.reply_serial()) {
            (Type::MethodReturn | Type::Error, Some(caller), Some(serial)) => {
                let sent = self.answer(&caller, serial, message).await;
                self.callers
                    .with_budget(|budget| budget.finish(&caller, serial));
                sent
            }
            // A signal to one client is counted as a reply is: the bus keeps it until the client reads it.
            (Type::Signal, Some(caller), _) => {
                let outcome = self
                    .callers
                    .with_budget(|budget| budget.unread(&caller, length));
                match outcome {
                    Outcome::Send => self.outgoing.send_message(message).await,
                    _ => Ok(()),
                }
            }
            (Type::MethodCall, ..) => {
                let serial = message.primary_header().serial_num();
                self.ours
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .insert(serial);
                self.outgoing.send_message(message).await
            }
            _ => self.outgoing.send_message(message).await,
        }
    }

    async fn sendmsg(
        &mut self,
        buffer: &[u8],
        descriptors: &[BorrowedFd<'_>],
    ) -> io::Result<usize> {
        self.outgoing.sendmsg(buffer, descriptors).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.outgoing.close().await
    }
}

impl Out {
    async fn answer(
        &mut self,
        caller: &str,
        serial: NonZeroU32,
        message: &Message,
    ) -> zbus::Result<()> {
        let length = message.data().len();
        let outcome = self
            .callers
            .with_budget(|budget| budget.answer(caller, serial, length));
        match outcome {
            Outcome::Send => self.outgoing.send_message(message).await?,
            Outcome::Replace => {
                // The work was done, and its reply is lost: the error tells the caller so.
                let told = error(caller, serial, refusal(Full::Unread))?;
                let length = told.data().len();
                self.callers
                    .with_budget(|budget| budget.count_unread(caller, length));
                self.outgoing.send_message(&told).await?;
            }
            Outcome::Drop => {}
        }
        self.ask(caller).await
    }

    /// Sends a Ping to a caller with many unread bytes; D-Bus libraries answer it by themselves (specification,
    /// "org.freedesktop.DBus.Peer").
    async fn ask(&mut self, caller: &str) -> zbus::Result<()> {
        if !self
            .callers
            .with_budget(|budget| budget.is_to_be_asked(caller))
        {
            return Ok(());
        }
        let ping = Message::method_call("/", "Ping").interface(PEER);
        let ping = ping.destination(caller.to_owned()).build(&())?;
        let serial = ping.primary_header().serial_num();
        self.callers
            .with_budget(|budget| budget.asks(caller, serial));
        self.outgoing.send_message(&ping).await
    }
}

/// The maximum body size of a call.
fn limit(interface: &str, member: &str) -> usize {
    let method = Method::named(member).filter(|_| interface == MANAGER_INTERFACE);
    method.map_or(method::BODY, Method::longest)
}

fn refusal(full: Full) -> Refusal {
    let (code, reason, hint) = match full {
        Full::Calls => (
            Code::CallsFull,
            "this user has too many unfinished calls",
            "wait for a reply before the next call",
        ),
        Full::Bytes => (
            Code::CallsFull,
            "the unfinished calls of this user are too large together",
            "wait for a reply before the next call",
        ),
        Full::Unread | Full::NotReading => (
            Code::AnswersUnread,
            "this user has too many unread replies on the bus",
            "read them, or close the connection, before the next call",
        ),
    };
    Refusal::new(code, reason, hint)
}

fn too_large(head: &Head) -> Refusal {
    let limit = limit(&head.interface, &head.member);
    let reason = format!(
        "a call of {} bytes is too large; the limit is {limit} bytes",
        head.body
    );
    Refusal::new(Code::CallTooLarge, reason, "send a smaller text")
}

/// An error instead of the reply to a call.
fn error(caller: &str, serial: NonZeroU32, refusal: Refusal) -> zbus::Result<Message> {
    // Only sender and serial of this message matter: zbus makes an error from a call, and the filter has no parsed one.
    let call = Message::method_call("/", "Call")
        .sender(caller.to_owned())
        .serial(serial)
        .build(&())?;
    BusError::from(refusal).create_reply(&call.header())
}
