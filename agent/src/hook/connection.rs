//! One connection to the hook's socket: reads calls, each within a deadline and a size limit, and answers them.
//!
//! The peer is root, and may still be slow, hostile or disconnected: its messages are limited by message, by connection
//! and by all connections, and no reply waits for a peer that does not read.

use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hooks::call::Operation;
use hooks::protocol::{
    DESCRIPTION, Description, Frames, GET_DESCRIPTION, GET_INFO, INTERFACE, INTERFACE_NOT_FOUND,
    INVALID_PARAMETER, Info, LONGEST_CALL, METHOD_NOT_FOUND, METHOD_NOT_IMPLEMENTED, MethodCall,
    MethodReply, PERMISSION_DENIED, PROGRESS, REFUSED, RUN, Results, SERVICE, SERVICE_DESCRIPTION,
    encoded,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, interval_at, timeout};
use tracing::{debug, info};

use super::operation::Hook;
use crate::progress::{Listener, carried, heard};
use api::refused::Kind;
use domain::code::Code;

/// Calls on one connection; libvirt's hook makes one, varlinkctl(1) up to three.
const CALLS: usize = 16;
/// Unanswered bytes of all callers together: 32 of the largest calls, hundreds of usual ones.
const BUDGET: usize = 64 << 20;
/// Bytes per read.
const PIECE: usize = 16 << 10;
/// Timeout of the next bytes of a message, and of the whole message.
const SILENCE: Duration = Duration::from_secs(5);
/// See [`SILENCE`].
const MESSAGE: Duration = Duration::from_secs(20);
/// While a call takes longer than this, the journal has a line this often: libvirt shows nothing of a start that waits.
const LONG: Duration = Duration::from_secs(15);
/// Characters of a guest's name in that line.
const NAME: usize = 256;
/// Most calls are answered before the first progress message, which costs the hook a read and a wake-up. A slow call must have one
/// well within the hook's time limit for a reply.
pub(super) const FIRST: Duration = Duration::from_millis(100);
/// Timeout of sending a reply.
const REPLY: Duration = Duration::from_secs(5);

/// State shared by all callers.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }
}

/// Replies to other users than root that they are not authorized.
pub(super) async fn deny(stream: &mut UnixStream) {
    let _ = send(stream, &failed(PERMISSION_DENIED, Results::default())).await;
}

/// Serves a caller until it disconnects.
///
/// # Errors
/// It breaks a limit or the protocol, or its connection fails.
pub(super) async fn serve(
    stream: &mut UnixStream,
    hook: &Arc<Hook>,
    budget: &Budget,
) -> io::Result<()> {
    let mut incoming = Incoming {
        frames: Frames::new(LONGEST_CALL),
        budget: budget.clone(),
        held: None,
    };
    // A limit on calls, not on time: each call has its own deadline.
    for _ in 0..CALLS {
        let Some(message) = timeout(MESSAGE, incoming.next(stream)).await?? else {
            return Ok(());
        };
        let call = serde_json::from_slice::<MethodCall<'_>>(&message);
        // Up to 1 MiB, which is parsed and no longer needed while the work runs.
        drop(message);
        match call {
            Ok(call) => answer(stream, hook, call).await?,
            // JSON of the wrong shape: Varlink answers InvalidParameter and keeps the connection. Text that is not JSON ends it.
            Err(error) if error.is_data() => {
                debug!("refused a call of the hook's socket with invalid parameters: {error}");
                send(stream, &invalid("parameters")).await?;
            }
            Err(error) => return Err(error.into()),
        }
        incoming.held = None;
    }
    Err(io::Error::other("one connection made too many calls"))
}

/// The data of one caller.
struct Incoming {
    frames: Frames,
    budget: Budget,
    /// For the received and unanswered bytes.
    held: Option<OwnedSemaphorePermit>,
}

impl Incoming {
    /// The next message; `None` if the caller has closed the connection, or was silent too long.
    async fn next(&mut self, stream: &mut UnixStream) -> io::Result<Option<Vec<u8>>> {
        let mut piece = vec![0; PIECE];
        loop {
            if let Some(message) = self.frames.take().map_err(io::Error::other)? {
                return Ok(Some(message));
            }
            let read = match timeout(SILENCE, stream.read(&mut piece)).await {
                Ok(read) => read?,
                Err(_) if self.frames.kept() == 0 => return Ok(None),
                Err(late) => return Err(late.into()),
            };
            match read {
                0 if self.frames.kept() == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => self.keep(&piece[..read]).await?,
            }
        }
    }

    async fn keep(&mut self, piece: &[u8]) -> io::Result<()> {
        let bytes = u32::try_from(piece.len()).map_err(io::Error::other)?;
        let taken = self.budget.0.clone().acquire_many_owned(bytes);
        // Waits before the bytes are stored, so all callers together stay within the budget.
        let taken = timeout(SILENCE, taken).await?.map_err(io::Error::other)?;
        match &mut self.held {
            Some(held) => held.merge(taken),
            held => *held = Some(taken),
        }
        self.frames.push(piece);
        Ok(())
    }
}

async fn answer(stream: &mut UnixStream, hook: &Arc<Hook>, call: MethodCall<'_>) -> io::Result<()> {
    // libvirt has continued without a reply, so the operation would come at the wrong time.
    if has_left(stream) {
        return Err(io::Error::other(
            "hook client disconnected before being served",
        ));
    }
    let is_silent = call.oneway;
    let reply = match &*call.method {
        _ if call.upgrade => not_implemented(&call.method),
        GET_INFO => return printed(stream, &info(), is_silent).await,
        GET_DESCRIPTION => {
            let interface = call.parameters.interface.as_deref();
            return describe(stream, interface, is_silent).await;
        }
        RUN => run(stream, hook, call).await,
        other => unknown(other),
    };
    printed(stream, &reply, is_silent).await
}

async fn printed<T: Serialize>(
    stream: &mut UnixStream,
    reply: &MethodReply<T>,
    is_silent: bool,
) -> io::Result<()> {
    match is_silent {
        true => Ok(()),
        false => send(stream, reply).await,
    }
}

/// Performs libvirt's request, and sends progress messages meanwhile. A disconnect does not cancel it.
async fn run(stream: &mut UnixStream, hook: &Arc<Hook>, call: MethodCall<'_>) -> MethodReply {
    let wants_progress = call.more && !call.oneway;
    let arguments = call.parameters;
    let operation = arguments.operation.as_deref().unwrap_or_default();
    let Some(operation) = Operation::ALL
        .into_iter()
        .find(|known| known.word() == operation)
    else {
        return invalid("operation");
    };
    if arguments.sub.is_some_and(|sub| sub != operation.sub()) {
        return invalid("sub");
    }
    let Some(xml) = arguments.xml else {
        return invalid("xml");
    };
    debug!(
        "hook: {} {} {}",
        arguments.domain.as_deref().unwrap_or("-"),
        operation.word(),
        arguments.extra.as_deref().unwrap_or("-")
    );
    let (xml, stage) = (xml.into_owned(), Arc::new(Stage::default()));
    let worker = hook.clone();
    // On a blocking thread: a bind waits for the kernel, and this thread must send the progress messages.
    let work = heard(stage.clone(), async move {
        spawn_blocking(carried(move || worker.run(operation, &xml))).await
    });
    let mut work = std::pin::pin!(work);
    let (begun, metrics) = (Instant::now(), &hook.context.metrics);
    let until = begun + hook.limit();
    let mut ticks = interval_at(begun + FIRST, PROGRESS);
    let mut long = interval_at(begun + LONG, LONG);
    let mut tells = wants_progress;
    loop {
        tokio::select! {
            done = &mut work => {
                // A panic of the work must not become a successful reply: the connection ends, and the hook refuses the start.
                let reply = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
                metrics.hook(operation, error(&reply), begun.elapsed());
                return reply;
            }
            // After the agent's own time limit the progress messages stop, and the hook's timeout ends its wait.
            _ = ticks.tick(), if tells => {
                tells = Instant::now() < until && send(stream, &stage.reply()).await.is_ok();
            }
            _ = long.tick() => {
                let name = arguments.domain.as_deref().unwrap_or("-");
                let name: String = name.chars().take(NAME).collect();
                let (word, seconds, stage) = (operation.word(), begun.elapsed().as_secs(), stage.text());
                info!(variantd_domain = name, "guest '{name}' waits for {seconds} s in libvirt's hook ({word}): {stage}");
            }
        }
    }
}

/// The kind and code of an error.
fn error(reply: &MethodReply) -> Option<(Kind, Option<Code>)> {
    let kind = match reply.error.as_deref()? {
        REFUSED => Kind::Refused,
        _ => Kind::Failed,
    };
    let code = reply.parameters.code.as_ref();
    Some((kind, code.and_then(|code| code.parse().ok())))
}

/// The progress of a call's work.
#[derive(Default)]
struct Stage(Mutex<Option<String>>);

impl Stage {
    fn text(&self) -> String {
        let stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        stage.clone().unwrap_or_else(|| "working".to_owned())
    }

    fn reply(&self) -> MethodReply {
        MethodReply {
            continues: true,
            parameters: Results {
                stage: Some(self.text()),
                ..Results::default()
            },
            error: None,
        }
    }
}

impl Listener for Stage {
    fn stage(&self, text: &str, _done: f64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(text.to_owned());
    }

    fn begin(&self) -> bool {
        true
    }
}

async fn send<T: Serialize>(stream: &mut UnixStream, reply: &MethodReply<T>) -> io::Result<()> {
    let bytes = encoded(reply)?;
    timeout(REPLY, stream.write_all(&bytes)).await?
}

fn info() -> MethodReply<Info> {
    MethodReply {
        parameters: Info {
            vendor: "The variantd developers",
            product: "variantd",
            version: env!("CARGO_PKG_VERSION"),
            url: "https://variantd.example.org/",
            interfaces: [SERVICE, INTERFACE],
        },
        ..MethodReply::default()
    }
}

fn description(interface: &str) -> Option<&'static str> {
    match interface {
        INTERFACE => Some(DESCRIPTION),
        SERVICE => Some(SERVICE_DESCRIPTION),
        _ => None,
    }
}

/// The reply to GetInterfaceDescription, or an error.
async fn describe(
    stream: &mut UnixStream,
    interface: Option<&str>,
    is_silent: bool,
) -> io::Result<()> {
    let error = match interface.map(|interface| (interface, description(interface))) {
        Some((_, Some(description))) => {
            let reply = MethodReply {
                parameters: Description { description },
                ..MethodReply::default()
            };
            return printed(stream, &reply, is_silent).await;
        }
        Some((other, None)) => no_interface(other),
        None => invalid("interface"),
    };
    printed(stream, &error, is_silent).await
}

fn unknown(method: &str) -> MethodReply {
    let (interface, _) = method.rsplit_once('.').unwrap_or_default();
    match interface {
        INTERFACE | SERVICE => {
            let method = Some(method.to_owned());
            failed(
                METHOD_NOT_FOUND,
                Results {
                    method,
                    ..Results::default()
                },
            )
        }
        other => no_interface(other),
    }
}

fn no_interface(interface: &str) -> MethodReply {
    let interface = Some(interface.to_owned());
    failed(
        INTERFACE_NOT_FOUND,
        Results {
            interface,
            ..Results::default()
        },
    )
}

fn not_implemented(method: &str) -> MethodReply {
    let method = Some(method.to_owned());
    failed(
        METHOD_NOT_IMPLEMENTED,
        Results {
            method,
            ..Results::default()
        },
    )
}

fn invalid(parameter: &str) -> MethodReply {
    let parameter = Some(parameter.to_owned());
    failed(
        INVALID_PARAMETER,
        Results {
            parameter,
            ..Results::default()
        },
    )
}

pub(super) fn failed(error: &str, parameters: Results) -> MethodReply {
    MethodReply {
        error: Some(error.to_owned()),
        parameters,
        continues: false,
    }
}

/// True if a caller has disconnected, even with unread data.
fn has_left(stream: &UnixStream) -> bool {
    // POLLHUP need not be requested.
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|events| events > 0)
}
