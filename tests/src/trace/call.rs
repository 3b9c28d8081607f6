//! A system call that changes a file, makes a change durable, or sends a message.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::libc;

use super::NOTIFICATION;
use super::task::{Opened, Task};

/// A call, before it happens. It may still fail: a replay knows from its files whether it succeeds. Owner and mode of a file are not
/// recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// open(2) that creates or truncates.
    Open {
        /// The file.
        path: PathBuf,
        /// O_CREAT.
        creates: bool,
        /// O_TRUNC.
        truncates: bool,
        /// O_EXCL.
        is_exclusive: bool,
    },
    /// write(2) and its relatives.
    Write {
        /// The file.
        path: PathBuf,
        /// Offset; `None`: at the end.
        at: Option<u64>,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// truncate(2).
    Resize {
        /// The file.
        path: PathBuf,
        /// Bytes.
        size: u64,
    },
    /// fsync(2) and fdatasync(2).
    Sync {
        /// The file or directory.
        path: PathBuf,
    },
    /// mkdir(2).
    MakeDirectory {
        /// The directory.
        path: PathBuf,
    },
    /// rename(2).
    Rename {
        /// The old path.
        from: PathBuf,
        /// The new path.
        to: PathBuf,
    },
    /// unlink(2) and rmdir(2).
    Remove {
        /// The file or directory.
        path: PathBuf,
    },
    /// A message to a socket or pipe.
    Send {
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A call that changes a file in a way that no replay knows.
    Unknown {
        /// The call.
        name: &'static str,
        /// The file.
        path: PathBuf,
    },
    /// The program ended.
    Exit,
}

/// The number of a system call, with its name and the form of its arguments.
type Row = (i64, &'static str, Form);

/// Which arguments of a call are what.
#[derive(Clone, Copy)]
enum Form {
    /// A directory, a name and flags.
    OpenAt,
    /// The same with `struct open_how`.
    OpenAt2,
    /// A descriptor, bytes and their count.
    Write,
    /// The same with an offset.
    WriteAt,
    /// A descriptor, an array of parts and their count.
    WriteParts,
    /// A socket and a `struct msghdr`.
    SendMessage,
    /// A descriptor and a size.
    Resize,
    /// A descriptor.
    Sync,
    /// A directory and a name.
    MakeAt,
    /// Two directories, each with a name.
    RenameAt,
    /// A directory and a name.
    RemoveAt,
    /// A shared mapping for writing.
    Map,
    /// A descriptor is written in a way that is not replayed: its argument number.
    Unknown(usize),
    /// A directory and a name, the same.
    UnknownAt(usize),
    /// Forms without a directory, which are older.
    Old(OldForm),
}

/// As the form of the same name, with the name as first argument.
#[derive(Clone, Copy)]
enum OldForm {
    Open,
    Make,
    Rename,
    Remove,
    Unknown(usize),
}

#[rustfmt::skip]
const CALLS: &[Row] = &[
    (libc::SYS_openat, "openat", Form::OpenAt),
    (libc::SYS_openat2, "openat2", Form::OpenAt2),
    (libc::SYS_write, "write", Form::Write),
    (libc::SYS_sendto, "sendto", Form::Write),
    (libc::SYS_pwrite64, "pwrite64", Form::WriteAt),
    (libc::SYS_writev, "writev", Form::WriteParts),
    (libc::SYS_sendmsg, "sendmsg", Form::SendMessage),
    (libc::SYS_ftruncate, "ftruncate", Form::Resize),
    (libc::SYS_fsync, "fsync", Form::Sync),
    (libc::SYS_fdatasync, "fdatasync", Form::Sync),
    (libc::SYS_mkdirat, "mkdirat", Form::MakeAt),
    (libc::SYS_renameat2, "renameat2", Form::RenameAt),
    (libc::SYS_unlinkat, "unlinkat", Form::RemoveAt),
    (libc::SYS_mmap, "mmap", Form::Map),
    (libc::SYS_pwritev, "pwritev", Form::Unknown(0)),
    (libc::SYS_pwritev2, "pwritev2", Form::Unknown(0)),
    (libc::SYS_fallocate, "fallocate", Form::Unknown(0)),
    (libc::SYS_copy_file_range, "copy_file_range", Form::Unknown(2)),
    (libc::SYS_sendfile, "sendfile", Form::Unknown(0)),
    (libc::SYS_splice, "splice", Form::Unknown(2)),
    (libc::SYS_linkat, "linkat", Form::UnknownAt(2)),
    (libc::SYS_symlinkat, "symlinkat", Form::UnknownAt(1)),
    (libc::SYS_truncate, "truncate", Form::Old(OldForm::Unknown(0))),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, "open", Form::Old(OldForm::Open)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, "creat", Form::Old(OldForm::Unknown(0))),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mkdir, "mkdir", Form::Old(OldForm::Make)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rename, "rename", Form::Old(OldForm::Rename)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_renameat, "renameat", Form::RenameAt),
    #[cfg(target_arch = "aarch64")]
    (libc::SYS_renameat, "renameat", Form::RenameAt),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_unlink, "unlink", Form::Old(OldForm::Remove)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_rmdir, "rmdir", Form::Old(OldForm::Remove)),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_link, "link", Form::Old(OldForm::Unknown(1))),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_symlink, "symlink", Form::Old(OldForm::Unknown(1))),
];

/// The system calls that are recorded, as `trace.c` reads them.
pub(super) fn list() -> String {
    let written = libc::O_CREAT | libc::O_TRUNC;
    let rows = CALLS.iter().map(|(number, _, form)| match form {
        Form::OpenAt => format!("{number}:2:{written}"),
        Form::Old(OldForm::Open) => format!("{number}:1:{written}"),
        // MAP_SHARED_VALIDATE contains this bit.
        Form::Map => format!("{number}:3:{}", libc::MAP_SHARED),
        _ => number.to_string(),
    });
    rows.collect::<Vec<_>>().join(",")
}

const HERE: u64 = libc::AT_FDCWD as u64;

impl Call {
    /// Decodes the kernel's `struct seccomp_notif`; `None` if the call changes nothing below `roots`.
    ///
    /// # Panics
    /// The thread ended meanwhile, or its memory cannot be read.
    pub(super) fn read(notification: &[u8; NOTIFICATION], roots: &[PathBuf]) -> Option<Self> {
        let word =
            |at: usize| u64::from_ne_bytes(notification[at..at + 8].try_into().expect("8 bytes"));
        let half =
            |at: usize| u32::from_ne_bytes(notification[at..at + 4].try_into().expect("4 bytes"));
        let task = Task(half(8));
        let arguments = [32, 40, 48, 56, 64, 72].map(word);
        let row = CALLS.iter().find(|row| row.0 == i64::from(half(16)))?;
        // A bad address fails in the kernel, too.
        let call = decode(row, &arguments, &task).ok()??;
        let is_below = |path: &Path| roots.iter().any(|root| path.starts_with(root));
        call.path().is_none_or(is_below).then_some(call)
    }

    /// The file that it changes.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Open { path, .. }
            | Self::Write { path, .. }
            | Self::Resize { path, .. }
            | Self::Sync { path }
            | Self::MakeDirectory { path }
            | Self::Rename { to: path, .. }
            | Self::Remove { path }
            | Self::Unknown { path, .. } => Some(path),
            Self::Send { .. } | Self::Exit => None,
        }
    }
}

fn decode(row: &Row, a: &[u64; 6], task: &Task) -> io::Result<Option<Call>> {
    let (_, name, form) = *row;
    Ok(match form {
        Form::OpenAt => opened(task.path(a[0], a[1])?, a[2]),
        Form::OpenAt2 => {
            let how = task.words(a[2], 1)?[0];
            opened(task.path(a[0], a[1])?, how)
        }
        Form::Write => written(task, a[0], None, || task.bytes(a[1], count(a[2])))?,
        Form::WriteAt => written(task, a[0], Some(a[3]), || task.bytes(a[1], count(a[2])))?,
        Form::WriteParts => written(task, a[0], None, || task.gathered(a[1], a[2]))?,
        Form::SendMessage => {
            // msg_iov and msg_iovlen are the third and fourth word of struct msghdr.
            let message = task.words(a[1], 4)?;
            written(task, a[0], None, || task.gathered(message[2], message[3]))?
        }
        Form::Resize => named(task, a[0]).map(|path| Call::Resize { path, size: a[1] }),
        Form::Sync => named(task, a[0]).map(|path| Call::Sync { path }),
        Form::MakeAt => Some(Call::MakeDirectory {
            path: task.path(a[0], a[1])?,
        }),
        Form::RenameAt => Some(renamed(task.path(a[0], a[1])?, task.path(a[2], a[3])?)),
        Form::RemoveAt => Some(Call::Remove {
            path: task.path(a[0], a[1])?,
        }),
        Form::Map => {
            let shared =
                a[3] & 0xf != libc::MAP_PRIVATE as u64 && a[2] & libc::PROT_WRITE as u64 != 0;
            let path = shared.then(|| named(task, a[4])).flatten();
            path.map(|path| Call::Unknown { name, path })
        }
        Form::Unknown(which) => named(task, a[which]).map(|path| Call::Unknown { name, path }),
        Form::UnknownAt(which) => {
            let path = task.path(a[which], a[which + 1])?;
            Some(Call::Unknown { name, path })
        }
        Form::Old(form) => Some(match form {
            OldForm::Open => return Ok(opened(task.path(HERE, a[0])?, a[1])),
            OldForm::Make => Call::MakeDirectory {
                path: task.path(HERE, a[0])?,
            },
            OldForm::Rename => renamed(task.path(HERE, a[0])?, task.path(HERE, a[1])?),
            OldForm::Remove => Call::Remove {
                path: task.path(HERE, a[0])?,
            },
            OldForm::Unknown(which) => {
                let path = task.path(HERE, a[which])?;
                Call::Unknown { name, path }
            }
        }),
    })
}

fn count(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn named(task: &Task, descriptor: u64) -> Option<PathBuf> {
    match task.opened(descriptor) {
        Opened::Named(path) => Some(path),
        _ => None,
    }
}

fn renamed(from: PathBuf, to: PathBuf) -> Call {
    Call::Rename { from, to }
}

/// `None` if the call neither creates nor truncates.
fn opened(path: PathBuf, flags: u64) -> Option<Call> {
    let has = |flag: i32| flags & u64::from(flag.unsigned_abs()) != 0;
    let changes = has(libc::O_CREAT) || has(libc::O_TRUNC);
    changes.then(|| Call::Open {
        path,
        creates: has(libc::O_CREAT),
        truncates: has(libc::O_TRUNC),
        is_exclusive: has(libc::O_EXCL),
    })
}

fn written(
    task: &Task,
    descriptor: u64,
    at: Option<u64>,
    bytes: impl FnOnce() -> io::Result<Vec<u8>>,
) -> io::Result<Option<Call>> {
    Ok(match task.opened(descriptor) {
        Opened::Named(path) => Some(Call::Write {
            path,
            at: match at {
                Some(at) => Some(at),
                None => task.position(descriptor)?,
            },
            bytes: bytes()?,
        }),
        Opened::Channel => Some(Call::Send { bytes: bytes()? }),
        Opened::Other => None,
    })
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path().map(Path::display);
        match (self, path) {
            (Self::Write { bytes, .. }, Some(path)) => {
                write!(f, "write {} bytes to {path}", bytes.len())
            }
            (Self::Rename { from, to }, _) => {
                write!(f, "rename {} to {}", from.display(), to.display())
            }
            (Self::Send { bytes }, _) => write!(f, "send {} bytes", bytes.len()),
            (Self::Unknown { name, .. }, Some(path)) => write!(f, "{name} {path}"),
            (Self::Open { .. }, Some(path)) => write!(f, "open {path}"),
            (Self::Resize { .. }, Some(path)) => write!(f, "truncate {path}"),
            (Self::Sync { .. }, Some(path)) => write!(f, "sync {path}"),
            (Self::MakeDirectory { .. }, Some(path)) => write!(f, "mkdir {path}"),
            (Self::Remove { .. }, Some(path)) => write!(f, "remove {path}"),
            (_, _) => write!(f, "exit"),
        }
    }
}
