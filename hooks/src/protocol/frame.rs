//! Splits received bytes into messages: each ends with a NUL byte and is shorter than a limit.

use std::fmt;
use std::mem;

use memchr::memchr;

/// Received bytes that are not taken yet.
#[derive(Debug)]
pub struct Frames {
    bytes: Vec<u8>,
    /// The bytes before this index have no NUL byte.
    searched: usize,
    limit: usize,
}

/// A message has more bytes than the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong(pub usize);

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a message has more than {} bytes", self.0)
    }
}

impl std::error::Error for TooLong {}

impl Frames {
    /// For messages of at most `limit` bytes, without their NUL bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            bytes: Vec::new(),
            searched: 0,
            limit,
        }
    }

    /// Adds received bytes. Call [`Self::take`] before the next read, so that at most a message and one read are kept.
    pub fn push(&mut self, piece: &[u8]) {
        self.bytes.extend_from_slice(piece);
    }

    /// Takes the next whole message, without its NUL byte; `None` where its end has not arrived.
    ///
    /// # Errors
    /// When it is longer than the limit, whether or not its end has arrived.
    pub fn take(&mut self) -> Result<Option<Vec<u8>>, TooLong> {
        let found = memchr(0, &self.bytes[self.searched..]).map(|at| self.searched + at);
        let length = found.unwrap_or(self.bytes.len());
        if length > self.limit {
            return Err(TooLong(self.limit));
        }
        let Some(end) = found else {
            self.searched = length;
            return Ok(None);
        };
        let rest = self.bytes.split_off(end + 1);
        let mut message = mem::replace(&mut self.bytes, rest);
        message.truncate(end);
        self.searched = 0;
        Ok(Some(message))
    }

    /// The number of bytes that are kept.
    #[must_use]
    pub fn kept(&self) -> usize {
        self.bytes.len()
    }
}
