//! Why the host, or a recording of it, could not be read or written.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

/// The host said no. The text names action and object; the source, where there is one, says why.
#[derive(Debug, Error)]
pub enum Failure {
    /// A file could not be read or written.
    #[error("cannot {action} '{path}'")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The root has no PCI devices, so it is neither a live nor a recorded host.
    #[error("'{root}' has no 'sys/bus/pci/devices': {}", remedy(.root))]
    NoDevices {
        /// The root directory.
        root: PathBuf,
    },
    /// A recording would be mixed with what is in the directory.
    #[error("cannot record a host in '{0}': the directory is not empty")]
    Occupied(PathBuf),
}

impl Failure {
    /// Makes the failure of `action` on `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self::Io {
            action,
            path,
            source,
        }
    }

    /// True when the object does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True when this process, or the machine, ran out of something: that says nothing of the object.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        self.errno().is_some_and(is_exhaustion)
    }

    /// The errno behind it; `None` when the content is at fault.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::NoDevices { .. } | Self::Occupied(_) => None,
        }
    }

    /// True when this user may not.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::EACCES | Errno::EPERM))
    }

    /// Why, without action and object: a lower-case text without full stop.
    #[must_use]
    pub fn reason(&self) -> String {
        match self {
            Self::Io { source, .. } => match self.errno() {
                Some(errno) => describe(errno),
                None => source.to_string(),
            },
            Self::NoDevices { .. } | Self::Occupied(_) => self.to_string(),
        }
    }
}

/// True for an errno that says that this process, or the machine, ran out of something for now.
#[must_use]
pub fn is_exhaustion(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::EMFILE
            | Errno::ENFILE
            | Errno::ENOMEM
            | Errno::ENOSPC
            | Errno::EAGAIN
            | Errno::EINTR
    )
}

/// An errno in words, lower-case but for abbreviations such as I/O.
#[must_use]
pub fn describe(errno: Errno) -> String {
    let text = errno.desc();
    let mut letters = text.chars();
    match (letters.next(), letters.next()) {
        (Some(first), Some(second)) if second.is_lowercase() => {
            first.to_lowercase().chain(text.chars().skip(1)).collect()
        }
        _ => text.to_owned(),
    }
}

/// True for what [`describe`] makes of the errno of a user who may not; a recorded host has nothing else of it.
#[must_use]
pub fn is_denied(reason: &str) -> bool {
    [Errno::EACCES, Errno::EPERM]
        .map(describe)
        .contains(&reason.to_owned())
}

fn remedy(root: &Path) -> String {
    if root == Path::new("/") {
        "is sysfs mounted, and does the machine have PCI?".to_owned()
    } else {
        let root = root.display();
        format!("make a recorded host with 'variantctl record-host {root}'")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_text_does_not_repeat_the_source() {
        let failure = Failure::io("read", Path::new("/a"), Errno::EACCES.into());
        assert_eq!(failure.to_string(), "cannot read '/a'");
        assert_eq!(failure.reason(), "permission denied");
    }
}
