//! What comes on the hook's socket: whole messages, kept as far as they have arrived, whatever their headers claim.
//!
//! zbus allocates what a header claims, up to 128 MiB, before the rest is there. So it gets a message only once all of it is here.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use hooks::message::{FIXED, length};
use tokio::io::AsyncReadExt;
use tokio::net::unix::OwnedReadHalf;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use zbus::connection::socket::ReadHalf;
use zbus::export::async_trait::async_trait;

/// Bytes that one caller may send in all: libvirt's hook makes one call, with a definition of at most 1 MiB.
pub(super) const MOST: usize = 2 << 20;
/// Bytes that all callers together may have sent and are not answered for: 32 of the largest, hundreds of usual ones.
const BUDGET: usize = 64 << 20;
/// Bytes that are read at once.
const PIECE: usize = 16 << 10;
/// How long the next piece of a message may take.
const PAUSE: Duration = Duration::from_secs(5);

/// What all callers share.
#[derive(Clone, Debug)]
pub(super) struct Budget(Arc<Semaphore>);

/// What one caller sends. It carries no descriptors.
#[derive(Debug)]
pub(super) struct Incoming {
    stream: OwnedReadHalf,
    /// A whole message, of which `given` bytes were passed on.
    message: Vec<u8>,
    given: usize,
    /// Bytes that the caller may still send.
    left: usize,
    budget: Budget,
    /// Given back when the caller leaves: zbus has the messages until then.
    held: Vec<OwnedSemaphorePermit>,
}

impl Budget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(BUDGET)))
    }

    async fn take(&self, bytes: usize) -> io::Result<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        let taken = self.0.clone().acquire_many_owned(bytes).await;
        taken.map_err(io::Error::other)
    }
}

impl Incoming {
    pub(super) fn new(stream: OwnedReadHalf, budget: Budget) -> Self {
        Self {
            stream,
            message: Vec::new(),
            given: 0,
            left: MOST,
            budget,
            held: Vec::new(),
        }
    }

    /// Reads the next message whole; nothing where the caller has closed before it.
    async fn next(&mut self) -> io::Result<()> {
        self.message = Vec::new();
        self.given = 0;
        // A caller may be silent as long as it likes, but not in the middle of a message.
        if self.piece(FIXED).await? == 0 {
            return Ok(());
        }
        self.fill(FIXED).await?;
        let Some(length) = length(&self.message, self.left) else {
            let why = format!("it is not a D-Bus message, or more than {MOST} bytes in all");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        };
        let held = timeout(PAUSE, self.budget.take(length)).await??;
        self.held.push(held);
        self.left -= length;
        self.fill(length).await
    }

    async fn fill(&mut self, length: usize) -> io::Result<()> {
        while self.message.len() < length {
            let read = timeout(PAUSE, self.piece(length - self.message.len())).await??;
            if read == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        Ok(())
    }

    /// Keeps what has come, at most so many bytes.
    async fn piece(&mut self, most: usize) -> io::Result<usize> {
        let mut bytes = [0; PIECE];
        let read = self.stream.read(&mut bytes[..most.min(PIECE)]).await?;
        self.message.extend_from_slice(&bytes[..read]);
        Ok(read)
    }
}

#[async_trait]
impl ReadHalf for Incoming {
    async fn recvmsg(&mut self, buffer: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
        if self.given == self.message.len() {
            self.next().await?;
        }
        let rest = &self.message[self.given..];
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        self.given += count;
        Ok((count, Vec::new()))
    }
}
