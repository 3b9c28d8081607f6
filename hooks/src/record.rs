//! Whether the agent has a record of a guest's device.
//!
//! `records/ADDRESS.json` names the domain that has the device; agents of older versions wrote `journal/UUID.json`. The files are
//! searched as bytes, because only root can write there. An unreadable file may name any guest, so the hook then calls the agent.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Larger than any record that the agent writes, in bytes.
const LIMIT: u64 = 64 << 10;

/// True when no record names a guest.
pub(crate) fn is_empty(run: &Path) -> bool {
    files(&run.join("journal")).is_ok_and(|files| files.is_empty())
        && any(run, "\"domain\"").is_ok_and(|found| !found)
}

/// True when a record names the guest.
pub(crate) fn has(run: &Path, uuid: &str) -> bool {
    run.join("journal").join(format!("{uuid}.json")).exists() || any(run, uuid).unwrap_or(true)
}

/// True when a record contains this text.
fn any(run: &Path, text: &str) -> io::Result<bool> {
    for path in files(&run.join("records"))? {
        if path.extension().is_some_and(|end| end == "json") {
            let bytes = match read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                bytes => bytes?,
            };
            if memmem::find(&bytes, text.as_bytes()).is_some() {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    matches!(error.kind(), NotFound | NotADirectory)
}

fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(files) => files.map(|file| Ok(file?.path())).collect(),
        Err(error) if is_absent(&error) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Reads a regular file only: a FIFO would block.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if !fs::metadata(path)?.is_file() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    const UUID: &str = "6f1f0b9e-3c1e-4b3a-9a39-0d0c7b9f6a11";

    fn run(name: &str, text: &str) -> tempfile::TempDir {
        let run = tempfile::tempdir().expect("directory");
        let path = run.path().join(name);
        fs::create_dir_all(path.parent().expect("a parent")).expect("directory");
        fs::write(path, text).expect("written");
        run
    }

    #[test]
    fn has_finds_the_record_and_the_entry_of_an_older_agent() {
        let record = format!("{{\"owner\": {{\"domain\": {{\"uuid\": \"{UUID}\"}}}}}}");
        for run in [
            run("records/0009:01:00.0.json", &record),
            run(&format!("journal/{UUID}.json"), "{}"),
        ] {
            assert!(has(run.path(), UUID) && !is_empty(run.path()));
        }
        let other = run("records/0009:01:00.0.json", &record);
        assert!(!has(other.path(), "70700b9e-3c1e-4b3a-9a39-0d0c7b9f6a11"));
    }

    #[test]
    fn has_ignores_records_of_the_administrator_and_locks() {
        let manual = run("records/0009:01:00.0.json", "{\"owner\": \"admin\"}");
        fs::write(manual.path().join("records/0009:01:00.0.lock"), UUID).expect("written");
        assert!(!has(manual.path(), UUID) && is_empty(manual.path()));
        assert!(is_empty(Path::new("/nonexistent")) && is_empty(Path::new("/dev/null")));
    }

    #[test]
    fn unreadable_record_counts_for_each_guest() {
        let run = run("records/file", "");
        fs::create_dir(run.path().join("records/0009:01:00.0.json")).expect("directory");
        assert!(has(run.path(), UUID) && !is_empty(run.path()));
    }
}
