//! Keeps the last two directories open while a whole host is read, so that the next file in them is opened relative to its directory
//! and not by its full path from the root. Two, because a device's link is in one and its files are in the other.
//!
//! Returns the same as [`Root`]: the root opens a name that is a link, because its links must not leave the root.

use std::cell::{Ref, RefCell};
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2, readlinkat};

use crate::cache::Stamp;
use crate::config::Config;
use crate::failure::Failure;
use crate::sysfs::{self, Root, Tree};

/// A root, and the two directories below it that were read last, the last one first.
pub(crate) struct DirectoryCache<'a> {
    root: &'a Root,
    last: RefCell<[Option<(String, OwnedFd)>; 2]>,
}

impl<'a> DirectoryCache<'a> {
    pub(crate) fn new(root: &'a Root) -> Self {
        let last = RefCell::default();
        Self { root, last }
    }

    /// The open directory of `path`, and the name in it; `None` if the root must report the error.
    fn near<'p>(&self, path: &'p str) -> Option<(Ref<'_, OwnedFd>, &'p str)> {
        let (directory, name) = path.rsplit_once('/')?;
        // Only the root resolves these without leaving its directory (RESOLVE_IN_ROOT).
        if matches!(name, "" | "." | "..") {
            return None;
        }
        let is_at = |known: &Option<(String, OwnedFd)>| {
            known.as_ref().is_some_and(|known| known.0 == directory)
        };
        let at = self.last.borrow().iter().position(is_at);
        match at {
            Some(0) => {}
            Some(_) => self.last.borrow_mut().reverse(),
            None => {
                let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
                let opened = self.root.open(directory, flags).ok()?;
                let mut last = self.last.borrow_mut();
                last.reverse();
                last[0] = Some((directory.to_owned(), opened));
            }
        }
        let last = Ref::filter_map(self.last.borrow(), |[last, _]| {
            last.as_ref().map(|(_, fd)| fd)
        });
        last.ok().map(|directory| (directory, name))
    }

    /// Opens a file to read; `None` if the root must report the error.
    fn open(&self, path: &str) -> Option<io::Result<OwnedFd>> {
        let (directory, name) = self.near(path)?;
        let no_link = ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        let how = OpenHow::new().flags(flags).resolve(no_link);
        match openat2(&*directory, name, how) {
            Ok(file) => Some(Ok(file)),
            // The two results that are common in sysfs, and that the root would return, too.
            Err(errno @ (Errno::ENOENT | Errno::EACCES)) => Some(Err(errno.into())),
            Err(_) => None,
        }
    }

    fn printed<T>(&self, path: &str, read: io::Result<T>) -> Result<T, Failure> {
        read.map_err(|why| Failure::io("read", &self.root.path().join(path), why))
    }
}

impl Tree for DirectoryCache<'_> {
    fn bytes(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        match self.open(path) {
            Some(file) => self.printed(path, file.and_then(|file| sysfs::content(file, cap))),
            None => self.root.bytes(path, cap),
        }
    }

    fn alone(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        self.root.bytes(path, cap)
    }

    fn config(&self, path: &str) -> Result<Config, Failure> {
        match self.open(path) {
            Some(file) => self.printed(path, file.and_then(|file| Config::read(&file.into()))),
            None => self.root.config(path),
        }
    }

    fn head(&self, path: &str, length: usize) -> Result<Vec<u8>, Failure> {
        self.root.head(path, length)
    }

    fn link(&self, path: &str) -> Result<String, Failure> {
        let Some((directory, name)) = self.near(path) else {
            return self.root.link(path);
        };
        match readlinkat(&*directory, name).map(std::ffi::OsString::into_string) {
            Ok(Ok(text)) => Ok(text),
            Err(Errno::ENOENT) => Err(Failure::io(
                "read the link",
                &self.root.path().join(path),
                Errno::ENOENT.into(),
            )),
            _ => self.root.link(path),
        }
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Failure> {
        self.root.list(path)
    }

    fn stamp(&self, path: &str) -> Option<Stamp> {
        self.root.stamp(path)
    }

    fn shared(&self) -> Option<&Root> {
        Some(self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn directory_cache_returns_the_same_as_the_root() {
        let dir = tempfile::tempdir().expect("scratch directory");
        fs::write(dir.path().join("secret"), "x").expect("secret");
        let host = dir.path().join("host");
        fs::create_dir_all(host.join("a/b")).expect("directories");
        fs::write(host.join("a/file"), "text").expect("file");
        fs::write(host.join("a/b/file"), "deeper").expect("file");
        for (name, target) in [
            ("a/inside", "file"),
            ("a/absolute", "/a/file"),
            ("a/out", "../../secret"),
            ("a/gone", "nothing"),
            ("there", "a"),
        ] {
            symlink(target, host.join(name)).expect("link");
        }
        let root = Root::new(host).expect("root");
        let directory_cache = DirectoryCache::new(&root);
        let names =
            "file inside absolute out gone b b/file nothing none/file ../a/file a/.. . a/ /a/file";
        for name in names.split(' ').flat_map(|name| {
            [
                format!("a/{name}"),
                format!("there/{name}"),
                name.to_owned(),
            ]
        }) {
            for cap in [100, 2] {
                let (read, known) = (directory_cache.bytes(&name, cap), root.bytes(&name, cap));
                assert_eq!(printed(read), printed(known), "{name}");
            }
            assert_eq!(
                printed(directory_cache.link(&name)),
                printed(root.link(&name)),
                "{name}"
            );
            let (read, known) = (directory_cache.config(&name), Tree::config(&root, &name));
            assert_eq!(printed(read), printed(known), "{name}");
        }
    }

    fn printed<T>(result: Result<T, Failure>) -> Result<T, String> {
        result.map_err(|failure| format!("{failure}: {}", failure.reason()))
    }
}
