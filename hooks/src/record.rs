//! What the agent has on record, as far as the hook has to know it: whether a guest has a device.
//!
//! `records/ADDRESS.json` names the domain that has the device; an agent of an older version had `journal/UUID.json`. Looked
//! at as bytes: who may write there is root. What cannot be read may name any guest: then the agent is asked.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use memchr::memmem;

/// Larger than any record that the agent writes, in bytes.
const LIMIT: u64 = 64 << 10;

/// No guest has a device.
pub(crate) fn is_empty(run: &Path) -> bool {
    files(&run.join("journal")).is_ok_and(|files| files.is_empty())
        && any(run, "\"domain\"").is_ok_and(|found| !found)
}

/// The guest has a device.
pub(crate) fn has(run: &Path, uuid: &str) -> bool {
    run.join("journal").join(format!("{uuid}.json")).exists() || any(run, uuid).unwrap_or(true)
}

/// A record has this text.
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

/// Waits for no pipe.
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
    fn a_guest_has_a_device_by_its_record_or_by_the_entry_of_an_older_agent() {
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
    fn a_device_that_no_guest_has_is_nobodys_and_a_lock_is_no_record() {
        let manual = run("records/0009:01:00.0.json", "{\"owner\": \"admin\"}");
        fs::write(manual.path().join("records/0009:01:00.0.lock"), UUID).expect("written");
        assert!(!has(manual.path(), UUID) && is_empty(manual.path()));
        assert!(is_empty(Path::new("/nonexistent")) && is_empty(Path::new("/dev/null")));
    }

    #[test]
    fn what_cannot_be_read_may_be_of_any_guest() {
        let run = run("records/file", "");
        fs::create_dir(run.path().join("records/0009:01:00.0.json")).expect("directory");
        assert!(has(run.path(), UUID) && !is_empty(run.path()));
    }
}
