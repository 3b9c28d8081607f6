//! The hook's socket, `hook` in the run directory: D-Bus messages from peer to peer, past the bus, for root alone.
//!
//! The bus takes one message after another, whoever sent them; what libvirt waits for comes past it. Nothing depends on the
//! socket: where nobody listens, the hook asks over the bus, which starts the agent.
//!
//! There is no authentication protocol: the kernel says who is at the other end (unix(7), SO_PEERCRED), to either side. So an end
//! that closes before it has read the call is told from one that has taken it (unix(7): the other end sees ECONNRESET).

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hooks::agent::SOCKET;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use tokio::io::{AsyncWriteExt, Interest};
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};
use zbus::Guid;
use zbus::connection::Builder;
use zbus::connection::socket::{Split, WriteHalf};
use zbus::export::async_trait::async_trait;

use super::hook::Hook;
use super::{HOOK, caller};

use incoming::{Budget, Incoming};

mod incoming;

/// Calls that are under way at once; more wait to be let in. libvirt makes one for each guest that starts or ends.
const CALLERS: u32 = 256;
/// How long a caller may say nothing.
const SILENCE: Duration = Duration::from_secs(5);
/// How long the hook waits for an answer, but at a guest's start (variantd-hook(8)); then the agent does not end by itself.
const ANSWER: Duration = Duration::from_secs(20);
/// After a failure to let somebody in, as when no descriptor is free.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens until it is dropped or closed.
pub struct Socket {
    path: PathBuf,
    listening: JoinHandle<()>,
    callers: Arc<Semaphore>,
}

impl Socket {
    /// Listens in the place of what another agent left there, and serves in the hook's `thread`.
    ///
    /// # Errors
    /// When the run directory cannot be written.
    pub fn listen(run: &Path, hook: Hook, thread: &Handle) -> io::Result<Self> {
        let _inside = thread.enter();
        let path = run.join(SOCKET);
        let listener = bound(&path)?;
        let callers = Arc::new(Semaphore::new(CALLERS as usize));
        let listening = tokio::spawn(accept(listener, hook, callers.clone()));
        Ok(Self {
            path,
            listening,
            callers,
        })
    }

    /// Lets nobody in any more, and returns once who was in has its answer or has left off waiting for it.
    pub async fn close(&self) {
        let _ = fs::remove_file(&self.path);
        self.listening.abort();
        let _ = timeout(ANSWER, self.callers.acquire_many(CALLERS)).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

/// Nobody but root finds it before its mode is set.
fn bound(path: &Path) -> io::Result<UnixListener> {
    let made = path.with_extension("new");
    match fs::remove_file(&made) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    fs::rename(&made, path)?;
    Ok(listener)
}

async fn accept(listener: UnixListener, hook: Hook, callers: Arc<Semaphore>) {
    let budget = Budget::new();
    loop {
        let Ok(turn) = callers.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(answer(stream, hook.clone(), budget.clone(), turn));
            }
            Err(error) => {
                warn!("cannot let libvirt's hook in: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn answer(stream: UnixStream, hook: Hook, budget: Budget, _turn: OwnedSemaphorePermit) {
    match stream.peer_cred() {
        Ok(peer) if caller::is_root(peer.uid()) => {}
        Ok(peer) => return warn!("user {} is not let into the hook's socket", peer.uid()),
        Err(error) => return debug!("somebody left the hook's socket: {error}"),
    }
    match timeout(SILENCE, spoken(&stream)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return debug!("somebody left the hook's socket: {error}"),
        Err(_) => return debug!("somebody did not say a word on the hook's socket"),
    }
    if has_left(&stream) {
        return debug!("a caller of the hook's socket has not waited to be heard");
    }
    let peer = Builder::authenticated_socket(Peer(stream, budget), Guid::generate()).p2p();
    match peer.serve_at(HOOK, hook).build().await {
        Ok(connection) => connection.closed().await,
        Err(error) => warn!("cannot serve libvirt's hook: {error}"),
    }
}

/// Returns once there is something to read, which stays there.
async fn spoken(stream: &UnixStream) -> io::Result<()> {
    let peek = || {
        recv(stream.as_raw_fd(), &mut [0], MsgFlags::MSG_PEEK)?;
        Ok(())
    };
    stream.async_io(Interest::READABLE, peek).await
}

/// True where a caller is gone, whatever there is to read: libvirt has gone on without an answer, so that what was asked for
/// would come at a wrong time.
fn has_left(stream: &UnixStream) -> bool {
    // POLLHUP needs no asking.
    let mut polled = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut polled, PollTimeout::ZERO).is_ok_and(|events| events > 0)
}

/// Who came to the socket. It carries no descriptors.
#[derive(Debug)]
struct Peer(UnixStream, Budget);

/// The writing half of a stream without descriptors.
#[derive(Debug)]
pub(super) struct Outgoing(OwnedWriteHalf);

impl From<OwnedWriteHalf> for Outgoing {
    fn from(half: OwnedWriteHalf) -> Self {
        Self(half)
    }
}

impl zbus::connection::socket::Socket for Peer {
    type ReadHalf = Incoming;
    type WriteHalf = Outgoing;

    fn split(self) -> Split<Incoming, Outgoing> {
        let (incoming, outgoing) = self.0.into_split();
        Split::new(Incoming::new(incoming, self.1), Outgoing(outgoing))
    }
}

#[async_trait]
impl WriteHalf for Outgoing {
    async fn sendmsg(&mut self, buffer: &[u8], _: &[BorrowedFd<'_>]) -> io::Result<usize> {
        self.0.write(buffer).await
    }

    async fn close(&mut self) -> io::Result<()> {
        self.0.shutdown().await
    }
}
