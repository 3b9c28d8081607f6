//! Why the host, or a recording of it, could not be read or written.

use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use thiserror::Error;

/// The host returned an error. The text names action and object; the source, if there is one, is the reason.
#[derive(Debug, Error)]
pub enum Failure {
    /// A file could not be read or written.
    #[error("cannot {action} '{path}'")]
    Io {
        /// The action, as a verb.
        action: &'static str,
        /// The object.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// The root has no PCI devices, so it is not a live or recorded host.
    #[error("'{root}' has no 'sys/bus/pci/devices': {}", remedy(.root))]
    NoDevices {
        /// The root directory.
        root: PathBuf,
    },
    /// A recording must not mix with existing files of the directory.
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

    /// The file or directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::NoDevices { root: path } | Self::Occupied(path) => path,
        }
    }

    /// True if the object does not exist.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// True if this process, or the machine, ran out of a resource: that says nothing about the object.
    #[must_use]
    pub fn is_exhaustion(&self) -> bool {
        self.errno().is_some_and(is_exhaustion)
    }

    /// The errno; `None` if the content is invalid.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Io { source, .. } => source.raw_os_error().map(Errno::from_raw),
            Self::NoDevices { .. } | Self::Occupied(_) => None,
        }
    }

    /// True if this user lacks permission.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.errno(), Some(Errno::EACCES | Errno::EPERM))
    }

    /// The reason without action and object: a lower-case text without full stop.
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

/// True for an errno that means that this process, or the machine, ran out of a resource for now.
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

/// The text of an errno, lower-case except abbreviations such as I/O.
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

/// True if [`describe`] made the text from a missing permission; a recorded host has only the text.
#[must_use]
pub fn is_denied(reason: &str) -> bool {
    [Errno::EACCES, Errno::EPERM]
        .map(describe)
        .contains(&reason.to_owned())
}

fn remedy(root: &Path) -> String {
    if root == Path::new("/") {
        "check that sysfs is mounted and that the machine has PCI".to_owned()
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
