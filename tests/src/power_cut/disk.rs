//! Files and directories with their changes that are not durable yet.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::trace::Call;

/// Maximum number of combinations at one point: more are a mistake of the test, which must then leave files out.
const MOST: usize = 1 << 14;

/// Files and directories, by their path below the root.
pub type Tree = BTreeMap<PathBuf, Node>;

/// A file or directory.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Node {
    /// A directory.
    Directory,
    /// A file with its content.
    File(Vec<u8>),
}

/// The files below a directory that a function selects.
pub struct Disk<'a> {
    root: &'a Path,
    keep: &'a dyn Fn(&Path) -> bool,
    /// The first is the root.
    inodes: Vec<Inode>,
}

enum Inode {
    Directory {
        durable: Names,
        pending: Vec<Rename>,
    },
    File {
        durable: Vec<u8>,
        pending: Vec<Change>,
    },
}

type Names = BTreeMap<OsString, usize>;

/// A change of the names in a directory; a creation and a removal have one of both.
#[derive(Clone)]
struct Rename {
    removed: Option<OsString>,
    added: Option<(OsString, usize)>,
}

#[derive(Clone)]
enum Change {
    Write { at: Option<u64>, bytes: Vec<u8> },
    Resize(u64),
}

/// One choice for each inode: the names of a directory, or the content of a file.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Kept {
    Names(Names),
    Content(Vec<u8>),
}

impl Rename {
    fn apply(&self, names: &mut Names) {
        if let Some(name) = &self.removed {
            names.remove(name);
        }
        if let Some((name, inode)) = &self.added {
            names.insert(name.clone(), *inode);
        }
    }
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Resize(size) => content.resize(length(*size), 0),
            Self::Write { at, bytes } => {
                let at = at.map_or(content.len(), length);
                let end = content.len().max(at + bytes.len());
                content.resize(end, 0);
                content[at..at + bytes.len()].copy_from_slice(bytes);
            }
        }
    }

    /// What a cut may leave of it besides nothing and all.
    fn parts(&self, before: &[u8]) -> Vec<Vec<u8>> {
        let Self::Write { at, bytes } = self else {
            return Vec::new();
        };
        let at = Some(at.unwrap_or(before.len() as u64));
        let half = bytes[..bytes.len() / 2].to_vec();
        let zeros = vec![0; bytes.len()];
        let part = |bytes: Vec<u8>| {
            let mut content = before.to_vec();
            Self::Write { at, bytes }.apply(&mut content);
            content
        };
        [half, zeros].map(part).to_vec()
    }
}

fn length(size: u64) -> usize {
    usize::try_from(size).expect("a small file")
}

impl<'a> Disk<'a> {
    /// A disk that has `tree` below `root`, all of it durable. Paths below `root` that `keep` refuses are left out; it must accept the
    /// directories of all that it accepts.
    #[must_use]
    pub fn new(root: &'a Path, tree: &Tree, keep: &'a dyn Fn(&Path) -> bool) -> Self {
        let inodes = vec![Inode::directory()];
        let mut disk = Self { root, keep, inodes };
        for (path, node) in tree {
            let inode = match node {
                Node::Directory => Inode::directory(),
                Node::File(bytes) => Inode::file(bytes.clone()),
            };
            disk.add(&root.join(path), inode);
        }
        for inode in &mut disk.inodes {
            inode.sync();
        }
        disk
    }

    /// Performs a call, unless it fails.
    ///
    /// # Panics
    /// The call cannot be replayed.
    pub fn apply(&mut self, call: &Call) {
        let Some(path) = call.path().filter(|path| self.has(path)) else {
            return;
        };
        let is_unknown = matches!(call, Call::Unknown { .. });
        assert!(!is_unknown, "no replay of: {call}");
        match (call, self.find(path)) {
            (Call::Open { creates: true, .. }, None) => self.add(path, Inode::file(Vec::new())),
            (
                Call::Open {
                    truncates: true,
                    is_exclusive: false,
                    ..
                },
                Some(file),
            ) => {
                self.change(file, Change::Resize(0));
            }
            (Call::Write { at, bytes, .. }, Some(file)) => {
                let bytes = bytes.clone();
                self.change(file, Change::Write { at: *at, bytes });
            }
            (Call::Resize { size, .. }, Some(file)) => self.change(file, Change::Resize(*size)),
            (Call::Sync { .. }, Some(inode)) => self.inodes[inode].sync(),
            (Call::MakeDirectory { .. }, None) => self.add(path, Inode::directory()),
            (Call::Rename { from, .. }, _) => self.rename(from, path),
            (Call::Remove { .. }, Some(_)) => self.alter(path, |name| Rename {
                removed: Some(name.to_owned()),
                added: None,
            }),
            _ => {}
        }
    }

    /// What programs see now.
    #[must_use]
    pub fn live(&self) -> Tree {
        let kept: Vec<Kept> = self.inodes.iter().map(Inode::live).collect();
        tree(&kept)
    }

    /// All that may be there after a cut now.
    ///
    /// # Panics
    /// There are too many.
    #[must_use]
    pub fn cuts(&self) -> BTreeSet<Tree> {
        let choices: Vec<BTreeSet<Kept>> = self.inodes.iter().map(Inode::cuts).collect();
        let count: usize = choices.iter().map(BTreeSet::len).product();
        assert!(count <= MOST, "{count} states of {}", self.root.display());
        let mut all = vec![Vec::new()];
        for choice in &choices {
            let with = |done: &Vec<Kept>| {
                let done = done.clone();
                choice
                    .iter()
                    .map(move |kept| [&done[..], std::slice::from_ref(kept)].concat())
            };
            all = all.iter().flat_map(with).collect();
        }
        all.iter().map(|kept| tree(kept)).collect()
    }

    fn has(&self, path: &Path) -> bool {
        let below = path.strip_prefix(self.root);
        below.is_ok_and(|below| below.as_os_str().is_empty() || (self.keep)(below))
    }

    fn find(&self, path: &Path) -> Option<usize> {
        let mut found = 0;
        for name in path.strip_prefix(self.root).ok()? {
            let Kept::Names(names) = self.inodes[found].live() else {
                return None;
            };
            found = *names.get(name)?;
        }
        Some(found)
    }

    fn add(&mut self, path: &Path, inode: Inode) {
        let number = self.inodes.len();
        self.inodes.push(inode);
        self.alter(path, |name| Rename {
            removed: None,
            added: Some((name.to_owned(), number)),
        });
    }

    fn rename(&mut self, from: &Path, to: &Path) {
        // Sockets and files outside of the selection are renamed, too.
        let Some(inode) = self.find(from) else { return };
        assert_eq!(
            from.parent(),
            to.parent(),
            "a rename between directories has no replay"
        );
        let removed = from.file_name().map(OsStr::to_owned);
        self.alter(to, |name| Rename {
            removed,
            added: Some((name.to_owned(), inode)),
        });
    }

    /// Changes the names in the directory of `path`, if that exists.
    fn alter(&mut self, path: &Path, rename: impl FnOnce(&OsStr) -> Rename) {
        let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
            return;
        };
        let Some(above) = self.find(above) else {
            return;
        };
        if let Inode::Directory { pending, .. } = &mut self.inodes[above] {
            pending.push(rename(name));
        }
    }

    fn change(&mut self, file: usize, change: Change) {
        if let Inode::File { pending, .. } = &mut self.inodes[file] {
            pending.push(change);
        }
    }
}

impl Inode {
    fn directory() -> Self {
        let (durable, pending) = (Names::new(), Vec::new());
        Self::Directory { durable, pending }
    }

    fn file(content: Vec<u8>) -> Self {
        let (durable, pending) = (content, Vec::new());
        Self::File { durable, pending }
    }

    fn live(&self) -> Kept {
        match self {
            Self::Directory { durable, pending } => Kept::Names(named(durable, pending.iter())),
            Self::File { durable, pending } => {
                let mut content = durable.clone();
                pending.iter().for_each(|change| change.apply(&mut content));
                Kept::Content(content)
            }
        }
    }

    fn sync(&mut self) {
        let live = self.live();
        match (self, live) {
            (Self::Directory { durable, pending }, Kept::Names(names)) => {
                *durable = names;
                pending.clear();
            }
            (Self::File { durable, pending }, Kept::Content(content)) => {
                *durable = content;
                pending.clear();
            }
            _ => {}
        }
    }

    fn cuts(&self) -> BTreeSet<Kept> {
        match self {
            Self::Directory { durable, pending } => subsets(pending)
                .map(|some| Kept::Names(named(durable, some.into_iter())))
                .collect(),
            Self::File { durable, pending } => {
                let mut content = durable.clone();
                let mut cuts = BTreeSet::from([Kept::Content(content.clone())]);
                for change in pending {
                    cuts.extend(change.parts(&content).into_iter().map(Kept::Content));
                    change.apply(&mut content);
                    cuts.insert(Kept::Content(content.clone()));
                }
                cuts
            }
        }
    }
}

fn named<'a>(durable: &Names, changes: impl Iterator<Item = &'a Rename>) -> Names {
    let mut names = durable.clone();
    changes.for_each(|change| change.apply(&mut names));
    names
}

/// Each selection of changes, in their order.
fn subsets(changes: &[Rename]) -> impl Iterator<Item = Vec<&Rename>> {
    assert!(
        changes.len() < 12,
        "{} changes of one directory are pending",
        changes.len()
    );
    (0..1_u32 << changes.len()).map(move |mask| {
        let chosen = changes.iter().enumerate();
        let chosen = chosen.filter(|(at, _)| mask >> at & 1 == 1);
        chosen.map(|(_, change)| change).collect()
    })
}

fn tree(kept: &[Kept]) -> Tree {
    let mut found = Tree::new();
    fill(kept, 0, Path::new(""), &mut found);
    found
}

fn fill(kept: &[Kept], at: usize, path: &Path, found: &mut Tree) {
    let node = match &kept[at] {
        Kept::Content(bytes) => Node::File(bytes.clone()),
        Kept::Names(names) => {
            for (name, inode) in names {
                fill(kept, *inode, &path.join(name), found);
            }
            Node::Directory
        }
    };
    if at > 0 {
        found.insert(path.to_owned(), node);
    }
}

/// The files and directories below `root` that `keep` accepts.
///
/// # Panics
/// One of them cannot be read.
#[must_use]
pub fn read(root: &Path, keep: &dyn Fn(&Path) -> bool) -> Tree {
    let mut found = Tree::new();
    add_all(root, Path::new(""), keep, &mut found);
    found
}

fn add_all(root: &Path, below: &Path, keep: &dyn Fn(&Path) -> bool, found: &mut Tree) {
    for entry in fs::read_dir(root.join(below))
        .expect("a directory")
        .flatten()
    {
        let path = below.join(entry.file_name());
        let kind = entry.file_type().expect("a kind");
        if !keep(&path) {
            continue;
        }
        if kind.is_dir() {
            add_all(root, &path, keep, found);
            found.insert(path, Node::Directory);
        } else if kind.is_file() {
            let bytes = fs::read(root.join(&path)).expect("a file");
            found.insert(path, Node::File(bytes));
        }
    }
}

/// Makes the files and directories below `root`.
///
/// # Panics
/// One of them cannot be written.
pub fn write(root: &Path, tree: &Tree) {
    for (path, node) in tree {
        let path = root.join(path);
        match node {
            Node::Directory => fs::create_dir_all(path).expect("a directory"),
            Node::File(bytes) => fs::write(path, bytes).expect("a file"),
        }
    }
}

#[cfg(test)]
mod tests;
