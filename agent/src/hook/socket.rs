//! Listens at `hook` in the run directory, or on the socket that systemd opened there, and accepts root.
//!
//! The kernel identifies the peer (unix(7), SO_PEERCRED). Callers above the limit wait in the socket's queue.

use std::fs;
use std::future::pending;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use hooks::protocol::SOCKET;
use nix::unistd::geteuid;
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{self, Handle};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tracing::{debug, info, warn};

use super::activation;
use super::connection::{self, Budget};
use super::operation::Hook;

/// Only root may connect.
const MODE: u32 = 0o600;
/// Maximum number of concurrent callers. libvirt makes one call for each guest that starts or ends.
const CALLERS: u32 = 256;
/// How long the hook waits for a reply, except at a guest's start (variantd-hook(8)); the agent does not exit by itself
/// meanwhile.
const ANSWER: Duration = Duration::from_secs(20);
/// Pause after a failed accept, for example without free descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Listens until it is dropped or closed.
pub struct Socket {
    /// The path of a socket that the agent made itself; systemd's socket stays, and starts the agent again.
    own: Option<PathBuf>,
    listening: JoinHandle<()>,
    callers: Arc<Semaphore>,
}

/// Starts the thread that serves the hook, and returns its runtime: bus clients cannot delay it.
///
/// # Errors
/// The thread cannot be created.
pub fn thread() -> io::Result<Handle> {
    let runtime = runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let handle = runtime.handle().clone();
    // One thread is enough: it only moves messages, and all work runs on blocking threads.
    let serve = move || runtime.block_on(pending::<()>());
    thread::Builder::new().name("hook".into()).spawn(serve)?;
    Ok(handle)
}

impl Socket {
    /// Listens on systemd's socket, or replaces the socket of an earlier agent, and serves in the hook's `thread`.
    ///
    /// # Errors
    /// The run directory cannot be written, or systemd has passed something else.
    pub fn listen(run: &Path, hook: Hook, thread: &Handle) -> io::Result<Self> {
        let _inside = thread.enter();
        let (listener, own) = match activation::listener()? {
            Some(listener) => {
                info!("the hook's socket is systemd's");
                (listener, None)
            }
            None => {
                let path = run.join(SOCKET);
                (settings::socket::listen(&path, MODE)?, Some(path))
            }
        };
        // Both are blocking sockets, and tokio requires a non-blocking one.
        listener.set_nonblocking(true)?;
        let listener = UnixListener::from_std(listener)?;
        let callers = Arc::new(Semaphore::new(CALLERS as usize));
        let listening = tokio::spawn(accept(listener, Arc::new(hook), callers.clone()));
        Ok(Self {
            own,
            listening,
            callers,
        })
    }

    /// Accepts no more callers, and returns when each connected one has its reply or has stopped waiting for it.
    pub async fn close(&self) {
        if let Some(path) = &self.own {
            let _ = fs::remove_file(path);
        }
        self.listening.abort();
        let _ = timeout(ANSWER, self.callers.acquire_many(CALLERS)).await;
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

async fn accept(listener: UnixListener, hook: Arc<Hook>, callers: Arc<Semaphore>) {
    let budget = Budget::default();
    loop {
        // Before the accept: callers above the limit stay in the kernel's queue and use none of our descriptors.
        let Ok(turn) = callers.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                tokio::spawn(serve(stream, hook.clone(), budget.clone(), turn));
            }
            Err(error) => {
                warn!("cannot accept a connection of libvirt's hook: {error}");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn serve(
    mut stream: UnixStream,
    hook: Arc<Hook>,
    budget: Budget,
    _turn: OwnedSemaphorePermit,
) {
    match stream.peer_cred() {
        Ok(peer) if is_root(peer.uid()) => {}
        Ok(peer) => {
            warn!("refused user {} on the hook's socket", peer.uid());
            // The file's mode keeps others out; this also covers a descriptor that was passed to another user's process.
            return connection::deny(&mut stream).await;
        }
        Err(error) => return debug!("a caller disconnected from the hook's socket: {error}"),
    }
    if let Err(error) = connection::serve(&mut stream, &hook, &budget).await {
        debug!("a connection to the hook's socket failed: {error}");
    }
}

/// Root, or the user that the agent runs as (tests).
fn is_root(user: u32) -> bool {
    user == 0 || user == geteuid().as_raw()
}
