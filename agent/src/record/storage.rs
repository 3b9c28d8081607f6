//! The interface between records and the disk, through which tests inject errors.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use settings::file;

/// Reads and changes files.
pub trait Storage: Debug + Send + Sync {
    /// Reads at most `limit` bytes of a record's file; `None` only if it does not exist.
    ///
    /// # Errors
    /// It cannot be opened or read.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Lists all files in a directory, by name; empty if there is no such directory.
    ///
    /// # Errors
    /// It cannot be listed.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Replaces a record's file; readers see the old text or the new one, also after a crash.
    ///
    /// # Errors
    /// The new text may be stored or not: the last step that can fail is the directory's sync.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Removes the file of a record that has ended; a power cut does not bring it back.
    ///
    /// # Errors
    /// The file does not exist, or was not removed, or its removal may not be durable.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// More bytes than nearly every record has.
const USUAL: usize = 1 << 10;

/// The files themselves, readable by root alone.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Storage for Files {
    /// Never blocks on a pipe, follows no link.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
        let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits())
            .open(path);
        let file = match opened {
            Ok(file) => file,
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(why) => return Err(why),
        };
        // Without a capacity the standard library begins with reads of 32 bytes.
        let mut bytes = Vec::with_capacity(USUAL);
        file.take(limit).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let files = match fs::read_dir(directory) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            files => files?,
        };
        let paths = files.map(|file| Ok(file?.path()));
        let mut paths = paths.collect::<io::Result<Vec<PathBuf>>>()?;
        paths.sort();
        Ok(paths)
    }

    fn replace(&self, path: &Path, text: &str) -> io::Result<()> {
        file::replace(path, text, 0o600)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        file::remove(path)
    }
}
