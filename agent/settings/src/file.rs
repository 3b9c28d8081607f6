//! Reads files up to a size limit, and replaces and removes them: readers see the old text or the new one, also after a power cut.
//!
//! Only this module changes files that must survive. A change is durable when its function returns:
//!
//! ```text
//! new directories -> sync of the directory above each -> NAME.new written -> its sync -> renamed to NAME -> sync of the directory
//! ```

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use nix::fcntl::OFlag;

/// Maximum size of a configuration file or of the agent's own files, in bytes.
pub const MAX_BYTES: u64 = 256 << 10;

/// Reads a file of at most [`MAX_BYTES`]. Never blocks on a pipe or a terminal.
///
/// # Errors
/// The file cannot be read, is larger, is not UTF-8, or is neither a regular file nor `/dev/null`.
pub fn read(path: &Path) -> io::Result<String> {
    let mut options = OpenOptions::new();
    let options = options.read(true).custom_flags(OFlag::O_NONBLOCK.bits());
    let file = options.open(path)?;
    let kind = file.metadata()?;
    // A drop-in that links to /dev/null disables another one.
    if !kind.is_file() && fs::canonicalize(path)? != Path::new("/dev/null") {
        return Err(irregular());
    }
    limited(file, kind.len(), MAX_BYTES)
}

/// Reads a file with the limit `most` that another user may have written: follows no link to it.
///
/// # Errors
/// As [`read`]; it is a link.
pub fn read_up_to(most: u64, path: &Path) -> io::Result<String> {
    read_trusted(most, path, |_| Ok(()))
}

/// As [`read_up_to`], if `trust` accepts the file that was opened.
///
/// # Errors
/// As [`read_up_to`], and those of `trust`.
pub fn read_trusted(
    most: u64,
    path: &Path,
    trust: impl FnOnce(&fs::Metadata) -> io::Result<()>,
) -> io::Result<String> {
    let mut options = OpenOptions::new();
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOFOLLOW;
    let file = options.read(true).custom_flags(flags.bits()).open(path)?;
    // Of the open file, not of the path: another user can replace what the path names between two calls.
    let kind = file.metadata()?;
    if !kind.is_file() {
        return Err(irregular());
    }
    trust(&kind)?;
    limited(file, kind.len(), most)
}

pub(crate) fn irregular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file")
}

/// The capacity for at most `most` bytes of a file that has `length`. Without one the standard library begins with reads of 32 bytes. One
/// byte more, so that the end needs no larger one.
pub(crate) fn capacity(length: u64, most: u64) -> usize {
    usize::try_from(length.min(most)).unwrap_or_default() + 1
}

/// Reads a file that had so many bytes when it was opened.
fn limited(file: File, length: u64, most: u64) -> io::Result<String> {
    let mut text = String::with_capacity(capacity(length, most));
    // One byte more than the limit tells a file that is too large from one that just fits.
    file.take(most + 1).read_to_string(&mut text)?;
    if text.len() as u64 > most {
        let why = format!("it is larger than {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(text)
}

/// Writes `text` beside `path`, syncs it and renames it to `path`.
///
/// # Errors
/// The error of the first failing step, or the text is larger than [`read`] accepts; `path` is then unchanged.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    replace_up_to(MAX_BYTES, path, text, mode)
}

/// Like [`replace`], with owner, group and mode of the file whose metadata is `like`.
///
/// # Errors
/// As [`replace`]; only root may write a file of another user.
pub fn replace_like(like: &fs::Metadata, path: &Path, text: &str) -> io::Result<()> {
    let access = Access {
        mode: like.mode() & 0o7777,
        owner: Some((like.uid(), like.gid())),
    };
    write(MAX_BYTES, path, text, access)
}

/// Like [`replace`], for a file with the limit `most`.
///
/// # Errors
/// As [`replace`].
pub fn replace_up_to(most: u64, path: &Path, text: &str, mode: u32) -> io::Result<()> {
    write(most, path, text, Access { mode, owner: None })
}

/// The mode of a new file, and its user and group if they are not those of this process.
struct Access {
    mode: u32,
    owner: Option<(u32, u32)>,
}

fn write(most: u64, path: &Path, text: &str, access: Access) -> io::Result<()> {
    let Access { mode, owner } = access;
    if text.len() as u64 > most {
        let why = format!("its {} bytes exceed the limit of {most} bytes", text.len());
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    create_directory(directory_of(path))?;
    let mut name = path.as_os_str().to_owned();
    // In the same directory, because rename(2) does not cross file systems.
    name.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .custom_flags(OFlag::O_NOFOLLOW.bits())
        .open(&name)?;
    if let Some((user, group)) = owner {
        // Before the mode: chown(2) clears the set-user-ID and set-group-ID bits.
        fchown(&file, Some(user), Some(group))?;
    }
    // A file that a crash left may have another mode.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    rename(Path::new(&name), path)
}

/// Removes a file; it does not come back after a power cut.
///
/// # Errors
/// There is no such file; or it was not removed, or its directory cannot be synced.
pub fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)?;
    sync_directory(directory_of(path))
}

/// Renames a file within its directory.
///
/// # Errors
/// The file does not exist, or its directory cannot be synced.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    sync_directory(directory_of(to))
}

/// Makes durable that `path` is there, or is not: an earlier process that changed it may have ended before its last sync.
///
/// # Errors
/// A sync fails.
pub fn settle(path: &Path) -> io::Result<()> {
    let directory = directory_of(path);
    // Such a process may also have created the directory.
    for directory in [directory, directory_of(directory)] {
        match sync_directory(directory) {
            Err(why) if why.kind() == io::ErrorKind::NotFound => {}
            synced => synced?,
        }
    }
    Ok(())
}

/// The parent of a bare file name is the empty path, which open(2) does not find.
fn directory_of(path: &Path) -> &Path {
    let named = path.parent().filter(|parent| *parent != Path::new(""));
    named.unwrap_or(Path::new("."))
}

/// Creates a directory and those above it, if missing. Each is a name in the one above, which must be durable, too.
///
/// # Errors
/// One of them cannot be created, or the one above it cannot be synced.
pub fn create_directory(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let missing = directory.ancestors().take_while(|one| !one.exists());
    let missing: Vec<&Path> = missing.collect();
    fs::create_dir_all(directory)?;
    missing
        .into_iter()
        .try_for_each(|one| sync_directory(directory_of(one)))
}

/// fsync(2) of a file does not make its name durable, fsync of the directory does.
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_longer_text_is_replaced_by_a_shorter_one() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("below/devices");
        replace(&path, "first and long", 0o644).expect("first");
        replace(&path, "second", 0o644).expect("second");
        assert_eq!(fs::read_to_string(&path).expect("text"), "second");
        let names = fs::read_dir(path.parent().expect("parent")).expect("list");
        assert_eq!(names.count(), 1, "nothing is left beside it");
    }

    #[test]
    fn replace_refuses_a_text_above_the_limit() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("entry");
        let full = " ".repeat(usize::try_from(MAX_BYTES).expect("a size"));
        replace(&path, &full, 0o600).expect("at the limit");
        let error = replace(&path, &(full.clone() + " "), 0o600).expect_err("over it");
        assert!(
            error.to_string().contains("the limit of 262144 bytes"),
            "{error}"
        );
        assert_eq!(read(&path).expect("as it was"), full);
        replace_up_to(1 << 20, &path, &(full + " "), 0o600).expect("another limit");
    }

    #[test]
    fn replace_sets_the_mode_and_follows_no_link() {
        let directory = tempfile::tempdir().expect("directory");
        let (path, beside) = (
            directory.path().join("entry"),
            directory.path().join("entry.new"),
        );
        fs::write(&beside, "left behind").expect("left behind");
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o666)).expect("mode");
        replace(&path, "text", 0o600).expect("replaced");
        let mode = fs::metadata(&path).expect("entry").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let victim = directory.path().join("victim");
        fs::write(&victim, "kept").expect("victim");
        std::os::unix::fs::symlink(&victim, &beside).expect("link");
        assert!(replace(&path, "other", 0o600).is_err());
        assert_eq!(fs::read_to_string(&victim).expect("victim"), "kept");
        assert_eq!(read(&path).expect("as it was"), "text");
    }

    #[test]
    fn replace_like_keeps_mode_and_owner() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("entry");
        fs::write(&path, "of others").expect("entry");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("mode");
        if nix::unistd::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(4711), Some(4712)).expect("owner");
        }
        let before = fs::metadata(&path).expect("entry");
        replace_like(&before, &path, "text").expect("replaced");
        let after = fs::metadata(&path).expect("entry");
        let access = |kind: &fs::Metadata| (kind.mode(), kind.uid(), kind.gid());
        assert_eq!(access(&after), access(&before));
        assert_ne!(after.ino(), before.ino());
        assert_eq!(read(&path).expect("text"), "text");
    }

    #[test]
    fn read_refuses_large_files_and_pipes() {
        let directory = tempfile::tempdir().expect("directory");
        let path = |name: &str| directory.path().join(name);
        let text = " ".repeat(usize::try_from(MAX_BYTES).expect("a size"));
        fs::write(path("full"), &text).expect("full");
        assert_eq!(read(&path("full")).expect("at the limit").len(), text.len());
        fs::write(path("large"), text + " ").expect("large");
        assert!(read(&path("large")).is_err());
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("pipe");
        assert!(read(&path("pipe")).is_err());
        assert!(read(Path::new("/dev/zero")).is_err());
        assert_eq!(read(Path::new("/dev/null")).expect("nothing"), "");
    }
}
