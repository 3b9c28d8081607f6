//! The agent's run directory as the hook reads it: whether the agent has a record of a guest's device.
//!
//! `records/ADDRESS.json` names the domain that has the device; agents of older versions wrote `journal/UUID.json`. The files are
//! searched as bytes, because only root can write there. An unreadable file may name any guest, so the hook then calls the agent.
//!
//! The hook uses this before it is protected from a lack of memory: the one allocation, for the bytes of a record, may fail, and
//! then the record counts as unreadable.

use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use memchr::memmem;
use rustix::fs::{FileType, Mode, OFlags, RawDir, fstat, open, openat, statat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;

use crate::input::fill;

/// Larger than any record that the agent writes, in bytes.
const LIMIT: usize = 64 << 10;
/// Bytes of the kernel's answer to one getdents64(2): some names of 255 bytes.
const ENTRIES: usize = 2 << 10;
/// The mode of a new file, before the umask.
const MODE: u16 = 0o666;

/// The agent's run directory, opened once; or why that failed.
#[derive(Debug)]
pub struct RunDirectory(Result<OwnedFd>);

impl RunDirectory {
    /// Opens it. Without it no agent has run since boot, and there are no records.
    #[must_use]
    pub fn open(path: impl Arg) -> Self {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self(open(path, flags, Mode::empty()))
    }

    /// `variantctl doctor` reads the time of this file to see whether libvirt calls its hook; nothing else uses it.
    pub fn note_call(&self) {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::CLOEXEC;
        if let Ok(run) = &self.0 {
            let _ = openat(run, c"called", flags, Mode::from(u32::from(MODE)));
        }
    }

    /// True when no record names a guest.
    pub(crate) fn is_unused(&self) -> bool {
        self.has_journal().is_ok_and(|found| !found)
            && self.any("\"domain\"").is_ok_and(|found| !found)
    }

    /// True when a record names the guest.
    pub(crate) fn has(&self, uuid: &str) -> bool {
        self.has_entry(uuid).unwrap_or(false) || self.any(uuid).unwrap_or(true)
    }

    fn has_journal(&self) -> Result<bool> {
        let mut found = false;
        self.each(c"journal", |_, _| {
            found = true;
            Ok(false)
        })?;
        Ok(found)
    }

    /// An entry of an older agent.
    fn has_entry(&self, uuid: &str) -> Result<bool> {
        let run = self.0.as_ref().map_err(|why| *why)?;
        let entry = statat(
            run,
            format!("journal/{uuid}.json"),
            rustix::fs::AtFlags::empty(),
        );
        Ok(entry.is_ok())
    }

    /// True when a record contains this text.
    fn any(&self, text: &str) -> Result<bool> {
        let mut found = false;
        self.each(c"records", |records, name| {
            found = name.to_bytes().ends_with(b".json") && contains(records, name, text)?;
            Ok(!found)
        })?;
        Ok(found)
    }

    /// Calls the function with each file of a directory until it returns false. A missing directory has none.
    fn each(
        &self,
        name: &CStr,
        mut visit: impl FnMut(&OwnedFd, &CStr) -> Result<bool>,
    ) -> Result<()> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let run = self.0.as_ref().map_err(|why| *why);
        let directory = run.and_then(|run| openat(run, name, flags, Mode::empty()));
        let directory = match directory {
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            opened => opened?,
        };
        let mut buffer = [MaybeUninit::uninit(); ENTRIES];
        let mut entries = RawDir::new(&directory, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            if name != c"." && name != c".." && !visit(&directory, name)? {
                break;
            }
        }
        Ok(())
    }
}

/// True when the record contains this text; a record that is gone does not.
fn contains(records: &OwnedFd, name: &CStr, text: &str) -> Result<bool> {
    match read(records, name) {
        Err(Errno::NOENT) => Ok(false),
        bytes => Ok(memmem::find(&bytes?, text.as_bytes()).is_some()),
    }
}

/// Reads a regular file only. A FIFO without a writer does not block (fifo(7)).
fn read(directory: &OwnedFd, name: &CStr) -> Result<Vec<u8>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::empty())?;
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Err(Errno::INVAL);
    }
    let mut bytes = Vec::new();
    fill(file.as_fd(), &mut bytes, LIMIT)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

    fn run(name: &str, text: &str) -> tempfile::TempDir {
        let run = tempfile::tempdir().expect("directory");
        let path = run.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, text).expect("written");
        run
    }

    fn has(run: &Path, uuid: &str) -> bool {
        RunDirectory::open(run).has(uuid)
    }

    fn is_unused(run: &Path) -> bool {
        RunDirectory::open(run).is_unused()
    }

    #[test]
    fn has_finds_the_record_and_the_entry_of_an_older_agent() {
        let record = format!("{{\"owner\": {{\"domain\": {{\"uuid\": \"{UUID}\"}}}}}}");
        for run in [
            run("records/0009:01:00.0.json", &record),
            run(&format!("journal/{UUID}.json"), "{}"),
        ] {
            assert!(has(run.path(), UUID) && !is_unused(run.path()));
        }
        let other = run("records/0009:01:00.0.json", &record);
        assert!(!has(other.path(), "70700b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"));
    }

    #[test]
    fn has_finds_the_last_of_many_records() {
        let run = run("records/0000:00:00.0.json", "{\"owner\": \"admin\"}");
        for bus in 0..200 {
            let name = format!("records/0009:{bus:02x}:00.0.json");
            fs::write(run.path().join(name), "{\"owner\": \"admin\"}").expect("written");
        }
        assert!(!has(run.path(), UUID) && is_unused(run.path()));
        let padded = format!("{}{UUID}\"domain\"", " ".repeat(LIMIT - UUID.len() - 8));
        fs::write(run.path().join("records/0009:ff:00.0.json"), padded).expect("written");
        assert!(has(run.path(), UUID) && !is_unused(run.path()));
    }

    #[test]
    fn has_ignores_records_of_the_administrator_and_locks() {
        let manual = run("records/0009:01:00.0.json", "{\"owner\": \"admin\"}");
        fs::write(manual.path().join("records/0009:01:00.0.lock"), UUID).expect("written");
        assert!(!has(manual.path(), UUID) && is_unused(manual.path()));
        assert!(is_unused(Path::new("/nonexistent")) && is_unused(Path::new("/dev/null")));
    }

    #[test]
    fn unreadable_record_counts_for_each_guest() {
        let run = run("records/file", "");
        fs::create_dir(run.path().join("records/0009:01:00.0.json")).expect("directory");
        assert!(has(run.path(), UUID) && !is_unused(run.path()));
    }

    #[test]
    fn note_call_creates_the_file_and_does_nothing_without_the_directory() {
        let run = run("records/file", "");
        RunDirectory::open(run.path()).note_call();
        assert!(run.path().join("called").exists());
        RunDirectory::open(c"/nonexistent").note_call();
    }
}
