//! Reads the agent's records of devices, without renaming unreadable files.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::super::scene::{Journal, Seen, Unavailable};
use super::Look;
use agent::record::{Peeked, peek};

const RUN: &str = "run/variantd";

pub(super) fn read(look: &Look, root: &Path) -> Seen<Journal> {
    look.absent(RUN)?;
    let run = root.join(RUN);
    let mut journal = Journal {
        unwritable: unwritable(&run).map(str::to_owned),
        ..Journal::default()
    };
    for (path, peeked) in peek::all(&run).map_err(hidden)? {
        match peeked {
            Peeked::Good(records) => journal.records.extend(records),
            Peeked::Damaged(why) => journal.unusable.push((path, why, false)),
            Peeked::Newer(version) => {
                let why = format!("it has version {version}");
                journal.unusable.push((path, why, true));
            }
            Peeked::Hidden(why) => return Err(hidden(why)),
        }
    }
    Ok(journal)
}

/// Why no file can be written there, from the file system's own status: a check writes no file.
fn unwritable(run: &Path) -> Option<&'static str> {
    let system = statvfs(run).ok()?;
    if system.flags().contains(FsFlags::ST_RDONLY) {
        return Some("its file system is read-only");
    }
    // A file system without such a limit has 0 of all.
    let full = system.blocks() > 0 && system.blocks_available() == 0;
    let used_up = system.files() > 0 && system.files_available() == 0;
    match (full, used_up) {
        (true, _) => Some("its file system is full"),
        (_, true) => Some("its file system has no inode left"),
        _ => None,
    }
}

fn hidden(why: std::io::Error) -> Unavailable {
    match why.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Unavailable::to_others("only root may read it; run it as root")
        }
        _ => Unavailable::because(why.to_string()),
    }
}
