//! Caches the parsed content of files that only a package changes, from one read of the host to the next.
//!
//! `modules.alias` and the kernel's configuration have 2 MB on a distribution's kernel, of which a read needs a few
//! lines.

use std::sync::{Mutex, PoisonError};

use crate::alias::Variant;
use crate::failure::Failure;

/// Identity and state of a file (stat(2)): a file that was written or replaced since has another stamp.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: i64,
    /// Seconds and nanoseconds.
    pub(crate) modified: (i64, i64),
    /// The ctime of its inode, which no process can set back.
    pub(crate) changed: (i64, i64),
}

/// The cache.
#[derive(Debug, Default)]
pub struct Cache {
    pub(crate) variants: Slot<Vec<Variant>>,
    pub(crate) configuration: Slot<Configuration>,
}

/// What a read needs of a kernel's configuration.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Configuration {
    pub(crate) nests_smmu: bool,
    pub(crate) command_queues: Option<bool>,
}

/// The parsed content of one file, and the file's stamp.
#[derive(Debug)]
pub(crate) struct Slot<T>(Mutex<Option<(Stamp, T)>>);

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<T: Clone> Slot<T> {
    /// Returns the parsed content of the file; reads it if its `stamp` differs from the cached one, or is `None`.
    pub(crate) fn of(
        &self,
        stamp: Option<Stamp>,
        read: impl FnOnce() -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let mut cache = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let (Some(now), Some((then, value))) = (stamp, &*cache)
            && now == *then
        {
            return Ok(value.clone());
        }
        let value = read()?;
        // The stamp was taken before the read: a file that is replaced in between has another stamp at the next call.
        *cache = stamp.map(|stamp| (stamp, value.clone()));
        Ok(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cache_does_not_read_an_unchanged_file() {
        let stamp = |size| Stamp {
            device: 1,
            inode: 2,
            size,
            modified: (3, 4),
            changed: (3, 4),
        };
        let slot = Slot::default();
        let say = |stamp, word: &str| slot.of(stamp, || Ok(word.to_owned())).expect("said");
        assert_eq!(say(Some(stamp(5)), "first"), "first");
        assert_eq!(say(Some(stamp(5)), "unread"), "first");
        assert_eq!(say(Some(stamp(6)), "second"), "second");
        assert_eq!(say(None, "third"), "third");
        assert_eq!(say(Some(stamp(6)), "fourth"), "fourth");
    }
}
