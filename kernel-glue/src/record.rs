//! Records a host below a directory, so that it can be read on another machine.
//!
//! Stores exactly what the reader reads: it reads the host through a tap and writes the results, without serial
//! numbers. Failed reads are recorded too, so that reading the recording gives an equal [`Host`].

mod scrub;

use std::cell::RefCell;
use std::fs::{self, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use crate::cache::Cache;
use crate::capacity::Capacity;
use crate::failure::Failure;
use crate::host::{Gap, Host};
use crate::reader::RECORDED_GAPS;
use crate::sysfs::{self, DEVICES, MAX_TEXT, Root, Tree, last_component};

/// The result of a recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Files written.
    pub files: usize,
    /// Symbolic links made.
    pub links: usize,
    /// Paths that could not be read, listed in the recording.
    pub gaps: Vec<Gap>,
}

/// Records the host below `root` (`/`, or another recording) in `dir`, which must be empty or not exist. Needs no
/// privilege, but records less without.
///
/// # Errors
/// `root` is not a host, `dir` is not empty, or a file cannot be written.
pub fn record(root: &Path, dir: &Path) -> Result<Recorded, Failure> {
    let source = Root::new(root.to_owned())?;
    let tap = Tap {
        root: &source,
        seen: RefCell::default(),
    };
    let host = Host::read_tree(&tap, root, &Cache::default())?;
    Capacity::read_tree(&tap, &host.numa)?;
    let writer = Writer::new(dir)?;
    let seen = tap.seen.into_inner();
    seen.iter().try_for_each(|item| writer.write(item))?;
    writer.note(&host.gaps)?;
    let links = seen.iter().filter(|item| matches!(item, Seen::Link { .. }));
    let links = links.count();
    Ok(Recorded {
        files: seen.len() - links,
        links,
        gaps: host.gaps,
    })
}

/// The file of a recording with what [`add`] could not store, `/path: reason` in each line.
pub const UNREAD: &str = "recorded-unread";

/// Something that checks read of a host besides what [`Host`] has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fact {
    /// Path below the root.
    pub path: String,
    /// What is there.
    pub content: Content,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file, with the part of its content that is stored.
    File(Vec<u8>),
    /// A directory, which may be empty.
    Directory,
    /// It could not be read, for this reason; "no such file or directory" if it does not exist.
    Unread(String),
}

/// Adds facts to the recording in `dir`, and returns the number of files. A path that the recording has already stays.
///
/// # Errors
/// A path leaves the recording, or a file cannot be written.
pub fn add(dir: &Path, facts: &[Fact]) -> Result<usize, Failure> {
    let writer = Writer {
        dir: dir.to_owned(),
    };
    let mut files = 0;
    let mut unread = String::new();
    for Fact { path, content } in facts {
        let at = dir.join(path);
        if !sysfs::is_below(path) {
            let why = io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the recording");
            return Err(Failure::io("write", &at, why));
        }
        match content {
            Content::Unread(reason) => unread.push_str(&format!("/{path}: {reason}\n")),
            _ if at.symlink_metadata().is_ok() => {}
            Content::Directory => {
                let made = fs::create_dir_all(&at);
                made.map_err(|source| Failure::io("create", &at, source))?;
            }
            Content::File(content) => {
                writer.file(path, content)?;
                files += 1;
            }
        }
    }
    writer.file(UNREAD, unread.as_bytes())?;
    Ok(files + 1)
}

/// A tree that records what was read from it.
struct Tap<'a> {
    root: &'a Root,
    seen: RefCell<Vec<Seen>>,
}

enum Seen {
    File { path: String, content: Vec<u8> },
    Link { path: String, target: String },
}

impl Tree for Tap<'_> {
    fn bytes(&self, path: &str, cap: usize) -> Result<Vec<u8>, Failure> {
        let content = self.root.bytes(path, cap)?;
        // Written by `note` from the gaps of this read; a copy of the old file would exist twice.
        if path != RECORDED_GAPS {
            self.seen.borrow_mut().push(Seen::File {
                path: path.to_owned(),
                content: scrub::without_serials(path, content.clone()),
            });
        }
        Ok(content)
    }

    fn head(&self, path: &str, length: usize) -> Result<Vec<u8>, Failure> {
        let content = self.root.head(path, length)?;
        self.seen.borrow_mut().push(Seen::File {
            path: path.to_owned(),
            content: scrub::without_serials(path, content.clone()),
        });
        Ok(content)
    }

    fn link(&self, path: &str) -> Result<String, Failure> {
        let target = self.root.link(path)?;
        self.seen.borrow_mut().push(Seen::Link {
            path: path.to_owned(),
            target: target.clone(),
        });
        Ok(target)
    }

    fn list(&self, path: &str) -> Result<Vec<String>, Failure> {
        self.root.list(path)
    }

    fn tap(&self, dir: &str, names: &[&str]) {
        for name in names {
            // Nothing depends on a file that cannot be read.
            let _ = self.bytes(&format!("{dir}/{name}"), MAX_TEXT);
        }
    }
}

struct Writer {
    dir: PathBuf,
}

impl Writer {
    fn new(dir: &Path) -> Result<Self, Failure> {
        let failure = |source| Failure::io("create", dir, source);
        fs::create_dir_all(dir).map_err(failure)?;
        if fs::read_dir(dir).map_err(failure)?.next().is_some() {
            return Err(Failure::Occupied(dir.to_owned()));
        }
        // A host without PCI devices has an empty directory, which no file or link below it would create.
        fs::create_dir_all(dir.join(DEVICES)).map_err(failure)?;
        Ok(Self {
            dir: dir.to_owned(),
        })
    }

    fn write(&self, item: &Seen) -> Result<(), Failure> {
        match item {
            Seen::File { path, content } => self.file(path, content),
            Seen::Link { path, target } => self.link(path, target),
        }
    }

    fn file(&self, path: &str, content: &[u8]) -> Result<(), Failure> {
        let path = self.dir.join(path);
        let write = || {
            create_parent(&path)?;
            let mut file = OpenOptions::new()
                .write(true)
                // Not truncated and not followed: the reader reads each file once, so a second write would be an error.
                .create_new(true)
                .open(&path)?;
            file.set_permissions(Permissions::from_mode(0o644))?;
            file.write_all(content)
        };
        write().map_err(|source| Failure::io("write", &path, source))
    }

    /// Links to devices are kept, and lead to a directory here; of other links only the name counts.
    fn link(&self, path: &str, target: &str) -> Result<(), Failure> {
        let at = self.dir.join(path);
        let make = || {
            create_parent(&at)?;
            if Path::new(path).parent() != Some(Path::new(DEVICES)) {
                let relative = !target.starts_with('/');
                let name = last_component(target).unwrap_or_default();
                // An absolute target would lead out of the recording on the machine that reads it.
                return symlink(if relative { target } else { name }, &at);
            }
            let below = target.strip_prefix("../../../devices/");
            let below = below.filter(|below| !below.split('/').any(|name| name == ".."));
            let below = below.ok_or_else(|| {
                io::Error::new(io::ErrorKind::InvalidData, "the link leaves sys/devices")
            })?;
            fs::create_dir_all(self.dir.join("sys/devices").join(below))?;
            symlink(target, &at)
        };
        make().map_err(|source| Failure::io("make the link", &at, source))
    }

    fn note(&self, gaps: &[Gap]) -> Result<(), Failure> {
        if gaps.is_empty() {
            return Ok(());
        }
        let line = |gap: &Gap| format!("{}: {}\n", gap.path, gap.reason);
        let lines: String = gaps.iter().map(line).collect();
        self.file(RECORDED_GAPS, lines.as_bytes())
    }
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), fs::create_dir_all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reader::tests::{GPU_DIR, host};

    fn recorded(root: &Path) -> (tempfile::TempDir, Recorded) {
        let dir = tempfile::tempdir().expect("scratch directory");
        let recorded = record(root, &dir.path().join("new")).expect("recorded");
        (dir, recorded)
    }

    /// Reads a host and its recording, which must be equal.
    fn assert_equal(root: &Path) -> (tempfile::TempDir, Recorded) {
        let (dir, recorded) = recorded(root);
        let original = Host::read(root).expect("host");
        let copy = Host::read(&dir.path().join("new")).expect("recording");
        assert_eq!(original, copy);
        assert_eq!(original.gaps, recorded.gaps);
        let capacity = |root: &Path| Capacity::read(root, &original.numa).expect("capacity");
        assert_eq!(capacity(root), capacity(&dir.path().join("new")));
        (dir, recorded)
    }

    #[test]
    fn a_recording_reads_as_the_host_did() {
        let dir = host();
        let (_copy, recorded) = assert_equal(dir.path());
        assert!(recorded.gaps.is_empty());
        assert_eq!(recorded.links, 2 + 3);
    }

    #[test]
    fn a_recording_has_cpus_and_huge_pages() {
        let dir = host();
        let pages = "node/node0/hugepages/hugepages-2048kB";
        for (path, text) in [
            ("cpu/online", "0-1"),
            ("cpu/cpu0/topology/core_cpus_list", "0-1"),
            (&format!("{pages}/nr_hugepages"), "8"),
            (&format!("{pages}/free_hugepages"), "7"),
        ] {
            let path = dir.path().join("sys/devices/system").join(path);
            create_parent(&path).expect("directory");
            fs::write(path, text).expect("file");
        }
        let (copy, _) = assert_equal(dir.path());
        let host = Host::read(dir.path()).expect("host");
        let capacity = Capacity::read(&copy.path().join("new"), &host.numa).expect("capacity");
        assert_eq!((capacity.cores.len(), capacity.pages.len()), (1, 1));
    }

    #[test]
    fn record_stores_failed_reads_with_their_reason() {
        let dir = host();
        fs::create_dir_all(dir.path().join("sys/firmware/acpi/tables/SRAT")).expect("unreadable");
        fs::write(dir.path().join(GPU_DIR).join("class"), "junk").expect("malformed");
        fs::remove_file(dir.path().join(GPU_DIR).join("config")).expect("missing");
        fs::create_dir(dir.path().join(GPU_DIR).join("config")).expect("unreadable");
        fs::create_dir(dir.path().join(DEVICES).join("junk")).expect("no address");
        let (_copy, recorded) = assert_equal(dir.path());
        assert_eq!(recorded.gaps.len(), 4);
    }

    #[test]
    fn recording_a_recording_changes_nothing() {
        let dir = host();
        fs::remove_file(dir.path().join(GPU_DIR).join("class")).expect("missing");
        let (first, _) = recorded(dir.path());
        assert_equal(&first.path().join("new"));
    }

    #[test]
    fn record_refuses_a_directory_that_is_not_empty() {
        let (dir, into) = (host(), host());
        let failure = record(dir.path(), into.path()).expect_err("occupied");
        assert!(matches!(failure, Failure::Occupied(_)));
    }

    #[test]
    fn links_are_relative_and_files_are_readable_by_all() {
        let dir = host();
        let at = dir.path().join(GPU_DIR).join("driver");
        fs::remove_file(&at).expect("removed");
        symlink("/sys/bus/pci/drivers/nvidia", &at).expect("absolute");
        let (copy, _) = assert_equal(dir.path());
        let gpu = copy.path().join("new").join(GPU_DIR);
        let driver = fs::read_link(gpu.join("driver")).expect("link");
        assert_eq!(driver, Path::new("nvidia"));
        let mode = fs::metadata(gpu.join("vendor"))
            .expect("file")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o644);
    }

    #[test]
    fn added_facts_do_not_replace_files_and_do_not_leave_the_recording() {
        let dir = host();
        let (copy, _) = recorded(dir.path());
        let copy = copy.path().join("new");
        let fact = |path: &str, content| Fact {
            path: path.to_owned(),
            content,
        };
        let file = || Content::File(b"x\n".to_vec());
        let facts = [
            fact("proc/cmdline", file()),
            fact(crate::reader::OSRELEASE, file()),
            fact("sys/class/egm", Content::Directory),
            fact("etc/a", Content::Unread("permission denied".to_owned())),
        ];
        assert_eq!(add(&copy, &facts).expect("added"), 2);
        let read = |path: &str| fs::read_to_string(copy.join(path)).expect("a file");
        assert_eq!(read("proc/cmdline"), "x\n");
        assert_ne!(read(crate::reader::OSRELEASE), "x\n");
        assert_eq!(read(UNREAD), "/etc/a: permission denied\n");
        assert!(copy.join("sys/class/egm").is_dir());
        for path in ["../x", "/etc/x", "a/../../x", ""] {
            let failure = add(&copy, &[fact(path, file())]).expect_err(path);
            assert_eq!(failure.reason(), "the path leaves the recording", "{path}");
        }
    }

    #[test]
    fn record_refuses_a_device_link_outside_sys_devices() {
        let dir = host();
        let at = dir.path().join(DEVICES).join("0000:00:02.0");
        symlink("../../../devices/../../etc", at).expect("link");
        let into = tempfile::tempdir().expect("scratch directory");
        let failure = record(dir.path(), into.path()).expect_err("leaves sys/devices");
        assert_eq!(failure.reason(), "the link leaves sys/devices");
    }
}
