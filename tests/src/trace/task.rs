//! The memory and the open files of a thread that waits in a system call.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Component, Path, PathBuf};

use nix::libc;

/// Maximum size of a message that is kept, in bytes.
const LONGEST: usize = 1 << 20;

/// A thread, by its id.
pub(super) struct Task(pub(super) u32);

/// What a descriptor is open for.
pub(super) enum Opened {
    /// A file or directory that has a name.
    Named(PathBuf),
    /// A socket or pipe.
    Channel,
    /// Another object, or a file that was removed.
    Other,
}

impl Task {
    fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.0))
    }

    pub(super) fn bytes(&self, at: u64, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count.min(LONGEST)];
        File::open(self.file("mem"))?.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// The text that ends with a zero byte.
    fn text(&self, at: u64) -> io::Result<Vec<u8>> {
        let memory = File::open(self.file("mem"))?;
        let mut text = vec![0; libc::PATH_MAX.unsigned_abs() as usize];
        // The page behind the text may not exist.
        let count = memory.read_at(&mut text, at)?;
        let end = text[..count].iter().position(|byte| *byte == 0);
        text.truncate(end.ok_or(io::ErrorKind::InvalidData)?);
        Ok(text)
    }

    /// Integers of 8 bytes.
    pub(super) fn words(&self, at: u64, count: usize) -> io::Result<Vec<u64>> {
        let bytes = self.bytes(at, count * 8)?;
        let word = |part: &[u8]| u64::from_ne_bytes(part.try_into().expect("8 bytes"));
        Ok(bytes.chunks_exact(8).map(word).collect())
    }

    /// The bytes of a `struct iovec` array.
    pub(super) fn gathered(&self, at: u64, count: u64) -> io::Result<Vec<u8>> {
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(1024);
        let mut gathered = Vec::new();
        for part in self.words(at, count * 2)?.chunks_exact(2) {
            let size = usize::try_from(part[1]).unwrap_or(usize::MAX);
            gathered.extend(self.bytes(part[0], size)?);
        }
        Ok(gathered)
    }

    /// The absolute path of a name relative to a directory, as the call has them.
    pub(super) fn path(&self, directory: u64, name: u64) -> io::Result<PathBuf> {
        let name = self.text(name)?;
        let name = Path::new(OsStr::from_bytes(&name));
        // The kernel takes the low 32 bits: AT_FDCWD is negative.
        let base = match directory as u32 as i32 {
            _ if name.is_absolute() => PathBuf::from("/"),
            libc::AT_FDCWD => fs::read_link(self.file("cwd"))?,
            open => fs::read_link(self.file(&format!("fd/{open}")))?,
        };
        let mut path = PathBuf::new();
        for part in base.join(name).components() {
            match part {
                Component::ParentDir => drop(path.pop()),
                Component::CurDir => {}
                part => path.push(part),
            }
        }
        Ok(path)
    }

    pub(super) fn opened(&self, descriptor: u64) -> Opened {
        let Ok(target) = fs::read_link(self.file(&format!("fd/{descriptor}"))) else {
            return Opened::Other;
        };
        let text = target.to_string_lossy();
        let is_channel = text.starts_with("socket:") || text.starts_with("pipe:");
        match text.starts_with('/') && !text.ends_with(" (deleted)") {
            true => Opened::Named(target),
            false if is_channel => Opened::Channel,
            false => Opened::Other,
        }
    }

    /// Where the next write goes; `None`: to the end (O_APPEND).
    pub(super) fn position(&self, descriptor: u64) -> io::Result<Option<u64>> {
        let text = fs::read_to_string(self.file(&format!("fdinfo/{descriptor}")))?;
        let field = |name: &str, radix| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            u64::from_str_radix(line.trim(), radix).ok()
        };
        let flags = field("flags:", 8).ok_or(io::ErrorKind::InvalidData)?;
        let appends = flags & u64::from(libc::O_APPEND.unsigned_abs()) != 0;
        Ok(field("pos:", 10).filter(|_| !appends))
    }
}
