//! Limits of what the callers of one connection may use of the agent and of the bus: unfinished calls, their bytes, and
//! unread replies.
//!
//! Everything is counted by user, because a user may have many connections. Root has its own share, which other users
//! cannot use.
//!
//! A reply that its caller does not read stays in the bus, and dbus-daemon counts it as a message of the *agent*: at
//! 127 MiB (max_incoming_bytes of the system bus) it stops reading from the agent, for all callers. So the agent counts
//! replies until it knows that they were read: the caller has answered a Ping that was sent after them (the bus keeps
//! the order), or it has left the bus.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU32;

/// Memory of the agent while all users use their full shares: the calls below, each with its raw and its parsed text,
/// two plans at once, and the overhead of allocators. The unit's `MemoryMax` is twice this.
pub const MEMORY_BOUND: u64 = 512 << 20;

/// Unfinished calls of one user.
const CALLS: usize = 32;
/// Unfinished calls of all users except root.
const CALLS_OF_ALL: usize = 128;
/// Bytes of one user's calls.
const BYTES: usize = 12 << 20;
/// Bytes of the calls of all users except root.
const BYTES_OF_ALL: usize = 32 << 20;
/// Bytes of replies that one user has not read.
const UNREAD: usize = 8 << 20;
/// The same for all users except root: they share it, so that `n` users leave at most the `n`th harmonic number times
/// this unread, which is 124 MiB for a hundred users.
const UNREAD_OF_ALL: usize = 24 << 20;
/// Calls and bytes of root.
const CALLS_OF_ROOT: usize = 256;
const BYTES_OF_ROOT: usize = 64 << 20;
/// After its share of unread replies a user gets error replies up to this many bytes, then none.
const ERROR_REPLIES: usize = 1 << 20;
/// Unread bytes of a connection after which the agent sends a Ping.
const PING_AFTER: usize = 64 << 10;
/// Unanswered Pings: the bus lets a connection wait for 128 replies (max_replies_per_connection).
const PINGS: usize = 32;

/// Why a call is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The user has too many unfinished calls.
    Calls,
    /// The user's unfinished calls have too many bytes.
    Bytes,
    /// Too many replies are unread.
    Unread,
    /// The same, and the error replies are used up.
    NotReading,
}

/// The handling of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Send,
    /// Too many earlier replies are unread: send an error instead.
    Replace,
    /// The caller does not wait for it, has disconnected, or does not read.
    Drop,
}

/// The calls and replies of a connection's callers.
#[derive(Debug, Default)]
pub(super) struct Budget {
    users: BTreeMap<u32, Used>,
    peers: HashMap<String, Peer>,
    calls: HashMap<(String, NonZeroU32), Vec<Call>>,
    pings: usize,
}

#[derive(Debug, Default)]
struct Used {
    calls: usize,
    bytes: usize,
    unread: usize,
}

/// A caller's connection.
#[derive(Debug)]
struct Peer {
    user: u32,
    is_root: bool,
    unread: usize,
    /// Of these, sent since the last Ping.
    since: usize,
    /// The serial of the unanswered Ping.
    asked: Option<NonZeroU32>,
}

#[derive(Clone, Copy, Debug)]
struct Call {
    user: u32,
    bytes: usize,
    is_silent: bool,
}

/// An incoming call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Incoming<'a> {
    pub(super) sender: &'a str,
    pub(super) serial: NonZeroU32,
    pub(super) user: u32,
    pub(super) is_root: bool,
    pub(super) bytes: usize,
    pub(super) is_silent: bool,
}

impl Budget {
    /// Counts a call until it is answered.
    ///
    /// # Errors
    /// The user has used up its share.
    pub(super) fn admit(&mut self, call: Incoming<'_>) -> Result<(), Full> {
        // Also for a call that is refused below: its error reply is counted, too.
        self.meet(&call);
        self.room(&call)?;
        let used = self.users.entry(call.user).or_default();
        used.calls += 1;
        used.bytes += call.bytes;
        let key = (call.sender.to_owned(), call.serial);
        self.calls.entry(key).or_default().push(Call {
            user: call.user,
            bytes: call.bytes,
            is_silent: call.is_silent,
        });
        Ok(())
    }

    fn room(&self, call: &Incoming<'_>) -> Result<(), Full> {
        let own = self.users.get(&call.user);
        let (calls, bytes) = own.map_or((0, 0), |own| (own.calls, own.bytes));
        // Root's share is not part of the others' sums, so an administrator can act while users fill theirs.
        if call.is_root {
            return match () {
                () if calls >= CALLS_OF_ROOT => Err(Full::Calls),
                () if bytes + call.bytes > BYTES_OF_ROOT => Err(Full::Bytes),
                () => Ok(()),
            };
        }
        let unread = own.map_or(0, |own| own.unread);
        let share = self.unread_share(call.user);
        // First: a user who does not read gets no error either, because that would be one more unread message.
        if unread >= share + ERROR_REPLIES {
            return Err(Full::NotReading);
        }
        if unread >= share {
            return Err(Full::Unread);
        }
        let others = |part: fn(&Used) -> usize| {
            let others = self.users.iter().filter(|(user, _)| !self.is_root(**user));
            others.map(|(_, used)| part(used)).sum::<usize>()
        };
        if calls >= CALLS || others(|used| used.calls) >= CALLS_OF_ALL {
            return Err(Full::Calls);
        }
        let all = others(|used| used.bytes) + call.bytes;
        if bytes + call.bytes > BYTES || all > BYTES_OF_ALL {
            return Err(Full::Bytes);
        }
        Ok(())
    }

    /// Decides about a reply of this length.
    pub(super) fn answer(&mut self, caller: &str, serial: NonZeroU32, length: usize) -> Outcome {
        let key = (caller.to_owned(), serial);
        // A hostile client may use one serial for several unfinished calls; each reply ends one of them.
        let call = self.calls.get(&key).and_then(|calls| calls.last());
        match call.is_some_and(|call| call.is_silent) {
            true => Outcome::Drop,
            false => self.unread(caller, length),
        }
    }

    /// Decides about a message of this length to `caller`.
    pub(super) fn unread(&mut self, caller: &str, length: usize) -> Outcome {
        let Some(peer) = self.peers.get(caller) else {
            return Outcome::Drop;
        };
        let (user, is_root) = (peer.user, peer.is_root);
        let unread = self.users.get(&user).map_or(0, |used| used.unread);
        let share = self.unread_share(user);
        // Root is exempt: an administrator who reads slowly must still get replies.
        if !is_root && unread + length > share {
            return match unread < share + ERROR_REPLIES {
                true => Outcome::Replace,
                false => Outcome::Drop,
            };
        }
        self.count_unread(caller, length);
        Outcome::Send
    }

    /// Counts a message to `caller` regardless of its unread replies.
    pub(super) fn count_unread(&mut self, caller: &str, length: usize) {
        let Some(peer) = self.peers.get_mut(caller) else {
            return;
        };
        peer.unread += length;
        peer.since += length;
        self.users.entry(peer.user).or_default().unread += length;
    }

    /// Adds a caller, so that its messages are counted, including refusals.
    pub(super) fn meet(&mut self, call: &Incoming<'_>) {
        let peer = Peer {
            user: call.user,
            is_root: call.is_root,
            unread: 0,
            since: 0,
            asked: None,
        };
        self.peers.entry(call.sender.to_owned()).or_insert(peer);
    }

    /// Whether `caller` must get a Ping now.
    pub(super) fn is_to_be_asked(&self, caller: &str) -> bool {
        let peer = self.peers.get(caller);
        let peer = peer.filter(|peer| peer.asked.is_none() && !peer.is_root);
        peer.is_some_and(|peer| peer.since >= PING_AFTER) && self.pings < PINGS
    }

    /// A Ping with this serial was sent to `caller`.
    pub(super) fn asks(&mut self, caller: &str, serial: NonZeroU32) {
        if let Some(peer) = self.peers.get_mut(caller) {
            peer.asked = Some(serial);
            peer.since = 0;
            self.pings += 1;
        }
    }

    /// True if this is the reply of `caller` to a Ping: everything sent before the Ping was read.
    pub(super) fn has_read(&mut self, caller: &str, serial: NonZeroU32) -> bool {
        let Some(peer) = self.peers.get_mut(caller) else {
            return false;
        };
        if peer.asked != Some(serial) {
            return false;
        }
        // Messages that were sent after the Ping may still be unread.
        let read = peer.unread - peer.since;
        peer.asked = None;
        peer.unread = peer.since;
        let user = peer.user;
        self.pings -= 1;
        self.forget_unread(user, read);
        true
    }

    /// `caller` has left the bus, which dropped its unread messages. Its calls continue, and are counted until they
    /// end.
    pub(super) fn gone(&mut self, caller: &str) {
        if let Some(peer) = self.peers.remove(caller) {
            // The bus answers its Ping with an error (NoReply), so no reply from the peer will come.
            self.pings -= usize::from(peer.asked.is_some());
            self.forget_unread(peer.user, peer.unread);
        }
    }

    /// Unfinished calls.
    #[cfg(test)]
    pub(super) fn calls(&self) -> usize {
        self.calls.values().map(Vec::len).sum()
    }

    /// The call is answered; its reply was sent or dropped.
    pub(super) fn finish(&mut self, caller: &str, serial: NonZeroU32) {
        let key = (caller.to_owned(), serial);
        let Some(calls) = self.calls.get_mut(&key) else {
            return;
        };
        let call = calls.pop();
        if calls.is_empty() {
            self.calls.remove(&key);
        }
        let Some(call) = call else { return };
        if let Some(used) = self.users.get_mut(&call.user) {
            used.calls -= 1;
            used.bytes -= call.bytes;
        }
        self.drop_unused(call.user);
    }

    fn forget_unread(&mut self, user: u32, length: usize) {
        if let Some(used) = self.users.get_mut(&user) {
            used.unread -= length;
        }
        self.drop_unused(user);
    }

    fn drop_unused(&mut self, user: u32) {
        let used = self.users.get(&user);
        if used.is_some_and(|used| used.calls == 0 && used.unread == 0) {
            self.users.remove(&user);
        }
    }

    /// The bytes that `user` may leave unread while no other user appears.
    fn unread_share(&self, user: u32) -> usize {
        let others = self.users.iter();
        let others =
            others.filter(|(one, used)| **one != user && used.unread > 0 && !self.is_root(**one));
        // Shrinks as other users leave replies unread; see `UNREAD_OF_ALL` for the sum.
        UNREAD.min(UNREAD_OF_ALL / (others.count() + 1))
    }

    fn is_root(&self, user: u32) -> bool {
        super::caller::is_root(user)
    }
}

#[cfg(test)]
mod tests;
