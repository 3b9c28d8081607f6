//! A file replaced in one step: readers see the old text or the new one, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Writes `text` beside `path`, syncs it and renames it over `path`.
///
/// # Errors
/// The first failing step's; `path` is then as it was.
pub fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(directory)?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&name)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&name, path)?;
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
}
