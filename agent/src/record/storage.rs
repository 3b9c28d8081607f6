//! How records get onto the disk and back: the one interface through which a test makes that fail.

use std::fmt::Debug;
use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use settings::file;

/// Reads and changes files.
pub trait Storage: Debug + Send + Sync {
    /// Called for each record: at most `limit` bytes of the file; `None` when it is not there, and for no other reason.
    ///
    /// # Errors
    /// When it cannot be opened or read.
    fn read(&self, path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>>;

    /// Called to find the records: all files in a directory, by name; none when there is no such directory.
    ///
    /// # Errors
    /// When it cannot be listed.
    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>>;

    /// Called for each record; readers see the old text or the new one, also after a crash.
    ///
    /// # Errors
    /// The text may be there or not: the last step that can fail is the directory's sync.
    fn replace(&self, path: &Path, text: &str) -> io::Result<()>;

    /// Called when a record has ended.
    ///
    /// # Errors
    /// When the file is not there, or stays.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The files themselves, readable by root alone.
#[derive(Clone, Copy, Debug)]
pub struct Files;

impl Storage for Files {
    /// Never waits for a pipe, follows no link.
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
        let mut bytes = Vec::new();
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
        fs::remove_file(path)
    }
}
