//! What is journalled, looked at without setting anything aside.

use std::path::Path;

use nix::sys::statvfs::{FsFlags, statvfs};

use super::super::scene::{Journal, Seen, Unseen};
use super::Look;
use crate::bell::Bell;
use crate::bound::Bound;
use crate::journal::{self, Peeked};

const RUN: &str = "run/variantd";

pub(super) fn read(look: &Look, root: &Path) -> Seen<Journal> {
    look.absent(RUN)?;
    let run = root.join(RUN);
    let mut journal = Journal {
        unwritable: unwritable(&run).map(str::to_owned),
        ..Journal::default()
    };
    let entries = journal::Journal::new(run.join("journal")).peek();
    for (path, entry) in entries.map_err(hidden)? {
        sort(&mut journal.entries, &mut journal.unusable, path, entry)?;
    }
    let records = Bound::new(run.join("bound"), Bell::default()).peek();
    for (path, record) in records.map_err(hidden)? {
        sort(&mut journal.records, &mut journal.unusable, path, record)?;
    }
    Ok(journal)
}

/// Why nothing can be written there: by what the file system says of itself, since a check changes nothing.
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

fn sort<T>(
    good: &mut Vec<T>,
    bad: &mut Vec<(String, String, bool)>,
    path: String,
    one: Peeked<T>,
) -> Seen<()> {
    match one {
        Peeked::Good(one) => good.push(one),
        Peeked::Damaged(why) => bad.push((path, why, false)),
        Peeked::Newer(version) => bad.push((path, format!("it has version {version}"), true)),
        Peeked::Hidden(why) => return Err(hidden(why)),
    }
    Ok(())
}

fn hidden(why: std::io::Error) -> Unseen {
    match why.kind() {
        std::io::ErrorKind::PermissionDenied => {
            Unseen("only root may read it; run it as root".to_owned())
        }
        _ => Unseen(why.to_string()),
    }
}
