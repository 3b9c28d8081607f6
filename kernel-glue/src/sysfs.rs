//! Bounded reads below a root directory: the live host's `/`, or a recorded host.
//!
//! Never leaves the root: paths with `..` are refused, and below any root but `/` links are resolved with openat2(2)
//! RESOLVE_IN_ROOT, so that neither an absolute link nor one with many `..` leaves a recording. Magic links, as in
//! `/proc/PID/fd`, are never followed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat, openat2, readlinkat};
use nix::sys::stat::{Mode, fstat};

use crate::cache::Stamp;
use crate::config::Config;
use crate::failure::Failure;

/// The directory of PCI functions: links into `sys/devices`.
pub(crate) const DEVICES: &str = "sys/bus/pci/devices";
/// Maximum size of a text file; the kernel's own limit for an attribute is one page.
pub const MAX_TEXT: usize = 64 << 10;
/// Size of PCI Express configuration space.
pub const MAX_CONFIG: usize = 4096;
/// Maximum size of an SRAT; 4,096 processors with 34 nodes need about 75 KiB.
pub const MAX_SRAT: usize = 1 << 20;
/// Maximum size of `modules.alias`, as in libvirt (src/util/virpci.c).
pub const MAX_ALIAS: usize = 8 << 20;
/// More bytes than nearly every file of a host has; `resource` of a PCI function has about 800.
const START: usize = 1024;
/// Maximum number of entries of a directory.
pub const MAX_ENTRIES: usize = 65_536;
/// Maximum number of lookups while concurrent renames disturb them.
const MAX_TRIES: usize = 1000;

/// The interface through which a host is read; paths are relative to the root.
pub(crate) trait Tree {
    /// The content of a file of at most `cap` bytes; a larger one is a failure.
    fn bytes(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure>;

    /// Like [`bytes`](Self::bytes), of a file that is the only one of its directory to be read.
    fn alone(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        self.bytes(path, cap)
    }

    /// The first `length` bytes of a file, or all of a shorter one.
    fn head(&self, path: &str, length: usize) -> Result<Vec<u8>, Failure>;

    /// A function's config space.
    fn config(&self, path: &str) -> Result<Config, Failure> {
        Ok(Config::parse(&self.bytes(path, MAX_CONFIG)?))
    }

    /// The text of a symbolic link.
    fn link(&self, path: &str) -> Result<String, Failure>;

    /// The names in a directory, sorted by bytes.
    fn list(&self, path: &str) -> Result<Vec<String>, Failure>;

    /// Adds the files of a directory to a recording, although the reader does not need them: they repeat another file, and other
    /// programs and earlier releases read them.
    fn tap(&self, _dir: &str, _names: &[&str]) {}

    /// The identity of the file at `path`; `None` if its content must not be cached.
    fn stamp(&self, _path: &str) -> Option<Stamp> {
        None
    }

    /// The root, if other threads may read it at the same time in place of this.
    fn shared(&self) -> Option<&Root> {
        None
    }
}

/// A directory with the layout of `/`, held open.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    /// `None`: the root is empty.
    directory: Option<OwnedFd>,
    resolve: ResolveFlag,
}

impl Root {
    /// Opens a root: `/`, or the directory of a recorded host.
    ///
    /// # Errors
    /// `path` is not a directory or cannot be opened.
    pub fn new(path: PathBuf) -> Result<Self, Failure> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        match open(&path, flags, Mode::empty()) {
            Ok(directory) => Ok(Self {
                resolve: resolve(&path),
                path,
                directory: Some(directory),
            }),
            Err(errno) => Err(Failure::io("open", &path, errno.into())),
        }
    }

    /// An empty root, for a host without files such as a snapshot.
    #[must_use]
    pub fn empty(path: PathBuf) -> Self {
        Self {
            path,
            directory: None,
            resolve: ResolveFlag::empty(),
        }
    }

    /// The path of the root.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads a text file of at most [`MAX_TEXT`] bytes, without its final newline.
    ///
    /// # Errors
    /// The file cannot be read, is larger, or is not UTF-8.
    pub fn text(&self, path: &str) -> Result<String, Failure> {
        text(self, path, MAX_TEXT)
    }

    /// Reads a file of at most `cap` bytes.
    ///
    /// # Errors
    /// The file cannot be read or is larger.
    pub fn bytes(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        let failure = |source| Failure::io("read", &self.path.join(path), source);
        let file = self.open(path, OFlag::O_RDONLY).map_err(failure)?;
        content(file, cap).map_err(failure)
    }

    /// Reads the first `length` bytes of a file, or all of a shorter one.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn head(&self, path: &str, length: usize) -> Result<Vec<u8>, Failure> {
        let failure = |source| Failure::io("read", &self.path.join(path), source);
        let file = self.open(path, OFlag::O_RDONLY).map_err(failure)?;
        let limit = u64::try_from(length).unwrap_or(u64::MAX);
        let mut content = Vec::with_capacity(length);
        let read = File::from(file).take(limit).read_to_end(&mut content);
        read.map_err(failure)?;
        Ok(content)
    }

    /// Reads the text of a symbolic link.
    ///
    /// # Errors
    /// `path` cannot be read or is not a link.
    pub fn link(&self, path: &str) -> Result<String, Failure> {
        let failure = |source| Failure::io("read the link", &self.path.join(path), source);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW;
        let link = self.open(path, flags).map_err(failure)?;
        // An empty path reads the link that the descriptor itself refers to; for anything else the kernel returns
        // ENOENT, which would look like "no such link".
        let text = match readlinkat(&link, "") {
            Err(Errno::ENOENT) => Err(Errno::EINVAL),
            other => other,
        };
        text.map_err(|errno| failure(errno.into()))?
            .into_string()
            .map_err(|_| failure(not_utf8()))
    }

    /// The last component of a symbolic link.
    ///
    /// # Errors
    /// `path` cannot be read, is not a link, or its last component is `..`.
    pub fn link_name(&self, path: &str) -> Result<String, Failure> {
        let target = self.link(path)?;
        last_component(&target)
            .map(str::to_owned)
            .ok_or_else(|| self.malformed(path, "the link has no name"))
    }

    /// The names in a directory, sorted by bytes, without `.` and `..`.
    ///
    /// # Errors
    /// The directory cannot be read, or has more than [`MAX_ENTRIES`] entries.
    pub fn list(&self, path: &str) -> Result<Vec<String>, Failure> {
        let failure = |source| Failure::io("list", &self.path.join(path), source);
        let mut names = Vec::new();
        for name in self.entries(path).map_err(failure)? {
            if names.len() == MAX_ENTRIES {
                let why = format!("more than {MAX_ENTRIES} entries");
                return Err(failure(io::Error::new(io::ErrorKind::FileTooLarge, why)));
            }
            names.push(name.map_err(failure)?);
        }
        names.sort_unstable();
        Ok(names)
    }

    /// True if `path` exists and can be looked up. Only for output: decisions use [`Self::exists`].
    #[must_use]
    pub fn has(&self, path: &str) -> bool {
        self.open(path, OFlag::O_PATH).is_ok()
    }

    /// Whether `path` exists.
    ///
    /// # Errors
    /// It is unknown: any error but ENOENT.
    pub fn exists(&self, path: &str) -> Result<bool, Failure> {
        match self.open(path, OFlag::O_PATH) {
            Ok(_) => Ok(true),
            Err(why) if why.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(why) => Err(Failure::io("look up", &self.path.join(path), why)),
        }
    }

    /// Names in a directory in the kernel's order, without a limit: for `/proc`.
    pub(crate) fn entries(
        &self,
        path: &str,
    ) -> io::Result<impl Iterator<Item = io::Result<String>> + use<>> {
        let fd = self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        Ok(names(Dir::from_fd(fd)?))
    }

    /// Like [`Self::entries`] for links, each with its text; `None` for one that was removed meanwhile.
    pub(crate) fn links(
        &self,
        path: &str,
    ) -> io::Result<impl Iterator<Item = io::Result<(String, Option<String>)>> + use<>> {
        let fd = self.open(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)?;
        // `Dir` owns its descriptor, and readlinkat(2) needs one, too.
        let names = names(Dir::from_fd(fd.try_clone()?)?);
        Ok(names.map(move |name| {
            let name = name?;
            match readlinkat(&fd, name.as_str()) {
                Ok(text) => Ok((name, text.into_string().ok())),
                // Removed meanwhile, or, in a recorded host, not a link.
                Err(Errno::ENOENT | Errno::EINVAL) => Ok((name, None)),
                Err(errno) => Err(errno.into()),
            }
        }))
    }

    /// Opens `path`; links cannot leave the root.
    pub(crate) fn open(&self, path: &str, flags: OFlag) -> io::Result<OwnedFd> {
        if !is_below(path) {
            let why = "the path leaves the root";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let flags = flags | OFlag::O_CLOEXEC;
        // Any rename on the machine can disturb a scoped lookup through `..`: EAGAIN means that the caller must retry.
        let mut tries = (0..MAX_TRIES).map(|_| self.open_once(path, flags));
        let opened = tries.find(|fd| !matches!(fd, Err(Errno::EAGAIN | Errno::EINTR)));
        Ok(opened.unwrap_or(Err(Errno::EAGAIN))?)
    }

    /// A program that systemd runs with RestrictSUIDSGID, such as one of a udev rule, has no openat2(2); below `/` a
    /// plain open leads to the same file.
    fn open_once(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        let how = OpenHow::new().flags(flags).resolve(self.resolve);
        let directory = self.directory.as_ref().ok_or(Errno::ENOENT)?;
        match openat2(directory, path, how) {
            Err(Errno::ENOSYS) if !self.resolve.contains(ResolveFlag::RESOLVE_IN_ROOT) => {
                openat(directory, path, flags, Mode::empty())
            }
            opened => opened,
        }
    }

    pub(crate) fn malformed(&self, path: &str, why: &str) -> Failure {
        let source = io::Error::new(io::ErrorKind::InvalidData, why);
        Failure::io("read", &self.path.join(path), source)
    }
}

impl Tree for Root {
    fn bytes(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        Self::bytes(self, path, cap)
    }

    fn head(&self, path: &str, length: usize) -> Result<Vec<u8>, Failure> {
        Self::head(self, path, length)
    }

    fn config(&self, path: &str) -> Result<Config, Failure> {
        let failure = |source| Failure::io("read", &self.path.join(path), source);
        let file = self.open(path, OFlag::O_RDONLY).map_err(failure)?;
        Config::read(&file.into()).map_err(failure)
    }

    fn link(&self, path: &str) -> Result<String, Failure> {
        Self::link(self, path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Failure> {
        Self::list(self, path)
    }

    fn stamp(&self, path: &str) -> Option<Stamp> {
        // O_PATH, because an open for reading could block on a pipe.
        let stat = fstat(self.open(path, OFlag::O_PATH).ok()?).ok()?;
        Some(Stamp {
            device: stat.st_dev,
            inode: stat.st_ino,
            size: stat.st_size,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
        })
    }
}

/// True for a relative path without `.` and `..`.
pub(crate) fn is_below(path: &str) -> bool {
    let plain = |component| matches!(component, Component::Normal(_));
    !path.is_empty() && Path::new(path).components().all(plain)
}

/// Without `.` and `..`.
fn names(directory: Dir) -> impl Iterator<Item = io::Result<String>> {
    directory
        .into_iter()
        .map(|entry| {
            let name = entry?.file_name().to_bytes().to_vec();
            let name = std::ffi::OsString::from_vec(name).into_string();
            name.map_err(|_| not_utf8())
        })
        .filter(|name| !matches!(name.as_deref(), Ok("." | "..")))
}

/// Reads an open file of at most `cap` bytes.
pub(crate) fn content(file: OwnedFd, cap: usize) -> io::Result<Vec<u8>> {
    let mut file = File::from(file);
    let mut start = [0; START];
    let count = first_read(&mut file, &mut start)?;
    let mut content = start[..count].to_vec();
    // Fewer bytes than asked for are the end of a regular file (read(2)); the kernel prints an attribute of sysfs at once. So nearly
    // every file of a host needs one read.
    if count == START {
        // One byte more than allowed tells a file that is too large from one that just fits. The size in stat(2) is no help: sysfs
        // says 4096 for every attribute, and /proc says 0.
        let limit = (cap.saturating_add(1)).saturating_sub(count);
        let limit = u64::try_from(limit).unwrap_or(u64::MAX);
        file.take(limit).read_to_end(&mut content)?;
    }
    if content.len() > cap {
        let why = format!("larger than {cap} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(content)
}

/// Reads once, and again only after a signal.
fn first_read(file: &mut File, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

/// No path leaves `/`; below any other root a link must not leave it.
fn resolve(root: &Path) -> ResolveFlag {
    match root == Path::new("/") {
        true => ResolveFlag::RESOLVE_NO_MAGICLINKS,
        false => ResolveFlag::RESOLVE_NO_MAGICLINKS | ResolveFlag::RESOLVE_IN_ROOT,
    }
}

/// A text file of at most `cap` bytes, without its final newline. The kernel writes no NUL; tools that record a host
/// (hwloc) may leave some at the end of a value.
pub(crate) fn text(tree: &dyn Tree, path: &str, cap: usize) -> Result<String, Failure> {
    plain(tree.bytes(path, cap)?, path)
}

/// Like [`text`], of a file that is the only one of its directory to be read.
pub(crate) fn text_alone(tree: &dyn Tree, path: &str, cap: usize) -> Result<String, Failure> {
    plain(tree.alone(path, cap)?, path)
}

fn plain(bytes: Vec<u8>, path: &str) -> Result<String, Failure> {
    let mut text =
        String::from_utf8(bytes).map_err(|_| Failure::io("read", Path::new(path), not_utf8()))?;
    text.truncate(text.trim_end_matches('\0').len());
    if text.ends_with('\n') {
        text.pop();
        text.truncate(text.trim_end_matches('\0').len());
    }
    Ok(text)
}

/// The last component of a link's text; `None` if it is `..` or empty.
pub(crate) fn last_component(target: &str) -> Option<&str> {
    Path::new(target).file_name()?.to_str()
}

fn not_utf8() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn scratch() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let root = Root::new(dir.path().join("host"));
        assert!(root.is_err(), "a missing root was opened");
        fs::create_dir(dir.path().join("host")).expect("host");
        let root = Root::new(dir.path().join("host")).expect("root");
        (dir, root)
    }

    #[test]
    fn a_path_cannot_leave_the_root() {
        let (dir, root) = scratch();
        fs::write(dir.path().join("secret"), "x").expect("secret");
        for path in ["../secret", "/etc/passwd", "a/../../secret", "", "./a"] {
            let failure = root.text(path).expect_err(path).to_string();
            assert!(failure.starts_with("cannot read '"), "{failure}");
        }
    }

    #[test]
    fn a_link_cannot_leave_the_root() {
        let (dir, root) = scratch();
        fs::write(dir.path().join("secret"), "x").expect("secret");
        symlink("../secret", root.path().join("up")).expect("up");
        symlink("/etc/passwd", root.path().join("absolute")).expect("absolute");
        assert!(root.text("up").is_err());
        assert!(root.text("absolute").is_err());
        assert_eq!(root.link_name("absolute").expect("link"), "passwd");
    }

    #[test]
    fn a_file_at_the_cap_is_read_and_one_above_is_refused() {
        let (_dir, root) = scratch();
        fs::write(root.path().join("a"), vec![b'a'; 10]).expect("a");
        assert_eq!(root.bytes("a", 10).expect("a").len(), 10);
        let failure = root.bytes("a", 9).expect_err("too large");
        assert_eq!(failure.reason(), "larger than 9 bytes");
        for length in [START - 1, START, START + 1, 3 * START] {
            fs::write(root.path().join("a"), vec![b'a'; length]).expect("a");
            assert_eq!(root.bytes("a", length).expect("a").len(), length);
            assert!(root.bytes("a", length - 1).is_err(), "{length}");
        }
    }

    #[test]
    fn a_listing_is_sorted() {
        let (_dir, root) = scratch();
        for name in ["c", "a", "b"] {
            fs::write(root.path().join(name), "").expect("file");
        }
        assert_eq!(
            root.entries(".").err().map(|e| e.kind()),
            Some(io::ErrorKind::InvalidInput)
        );
        fs::create_dir(root.path().join("d")).expect("d");
        for name in ["2", "10", "1"] {
            fs::write(root.path().join("d").join(name), "").expect("file");
        }
        assert_eq!(root.list("d").expect("list"), ["1", "10", "2"]);
    }

    #[test]
    fn link_of_a_regular_file_is_not_enoent() {
        let (_dir, root) = scratch();
        fs::write(root.path().join("file"), "").expect("file");
        assert!(!root.link("file").expect_err("no link").is_absent());
        assert!(root.link("nothing").expect_err("nothing").is_absent());
    }
}
