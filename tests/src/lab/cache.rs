//! Artefacts that take time to make, stored outside the source tree and named after a digest of their inputs.
//!
//! Each family has one builder at a time; families are built beside each other, because most builders use one processor. An
//! artefact appears complete or not at all. A newer one of a family replaces the older.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use nix::fcntl::{Flock, FlockArg};

use super::command;
use super::progress::{Step, say};
use super::state;

const BUILDING: &str = ".building-";

/// A digest of an artefact's inputs (FNV-1a, 64 bit: against staleness, not against malice).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(u64);

impl Key {
    /// The key without inputs.
    pub fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Adds one input, separated from the others.
    #[must_use]
    pub fn with(mut self, input: impl AsRef<[u8]>) -> Self {
        for byte in input.as_ref().iter().chain([&0xff]) {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        self
    }

    /// Adds each file below a folder, with its path.
    pub fn with_folder(mut self, folder: &Path) -> Result<Self> {
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
            .with_context(|| format!("cannot list '{}'", folder.display()))?;
        paths.sort();
        for path in paths {
            if path.is_dir() {
                self = self.with_folder(&path)?;
            } else {
                let content =
                    fs::read(&path).with_context(|| format!("cannot read '{}'", path.display()))?;
                self = self.with(path.file_name().unwrap_or_default().as_encoded_bytes());
                self = self.with(content);
            }
        }
        Ok(self)
    }
}

impl Default for Key {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The folder of artefacts.
#[derive(Clone, Debug)]
pub struct Cache {
    folder: PathBuf,
}

impl Cache {
    /// `$VARIANTD_LAB_CACHE`, else `/var/cache/variantd-lab`.
    pub fn open() -> Result<Self> {
        let folder = std::env::var_os("VARIANTD_LAB_CACHE")
            .map_or_else(|| PathBuf::from("/var/cache/variantd-lab"), PathBuf::from);
        fs::create_dir_all(&folder).with_context(|| {
            format!(
                "cannot create the cache '{}' (set VARIANTD_LAB_CACHE to use another folder)",
                folder.display()
            )
        })?;
        Ok(Self { folder })
    }

    /// The folder of the cache.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The artefact of this family and key, if it exists.
    pub fn find(&self, family: &str, key: Key) -> Option<PathBuf> {
        let path = self.path(family, key);
        path.is_dir().then_some(path)
    }

    /// The artefact of this family and key; `make` fills an empty folder if there is none.
    pub fn artefact(
        &self,
        family: &str,
        key: Key,
        make: impl FnOnce(&Path) -> Result<()>,
    ) -> Result<PathBuf> {
        let path = self.path(family, key);
        if path.is_dir() {
            return Ok(path);
        }
        let _lock = self.lock(family)?;
        if path.is_dir() {
            return Ok(path);
        }
        let building = self.folder.join(format!("{BUILDING}{family}"));
        // of a builder that was killed
        remove(&building)?;
        fs::create_dir(&building)
            .with_context(|| format!("cannot create '{}'", building.display()))?;
        let made = make(&building);
        if made.is_err() {
            remove(&building)?;
        }
        made?;
        fs::rename(&building, &path)
            .with_context(|| format!("cannot create '{}'", path.display()))?;
        self.prune(family, &path)?;
        Ok(path)
    }

    fn path(&self, family: &str, key: Key) -> PathBuf {
        self.folder.join(format!("{family}-{key}"))
    }

    fn lock(&self, family: &str) -> Result<Flock<File>> {
        let path = self.folder.join(format!("{family}.lock"));
        let file =
            File::create(&path).with_context(|| format!("cannot create '{}'", path.display()))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(lock),
            Err((file, _)) => {
                let step = Step::begin(format!("waiting for another lab that makes '{family}'"));
                let lock = Flock::lock(file, FlockArg::LockExclusive)
                    .map_err(|(_, error)| error)
                    .with_context(|| format!("cannot lock '{}'", path.display()))?;
                step.done();
                Ok(lock)
            }
        }
    }

    fn prune(&self, family: &str, newest: &Path) -> Result<()> {
        let used = state::artefacts_in_use();
        for path in self.list(&format!("{family}-"))? {
            // the key is the last part, so that family 'a' does not own 'a-b-KEY'
            let rest = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or("");
            let is_family = rest.len() == family.len() + 17;
            if is_family && path != newest && !used.contains(&path) {
                say(&format!(
                    "removing '{}', which a newer one replaces",
                    path.display()
                ));
                remove(&path)?;
            }
        }
        Ok(())
    }

    fn list(&self, prefix: &str) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.folder)
            .with_context(|| format!("cannot list '{}'", self.folder.display()))?;
        Ok(entries
            .flatten()
            .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
            .map(|entry| entry.path())
            .collect())
    }
}

/// Removes a tree without the file systems that are mounted in it.
pub fn remove(path: &Path) -> Result<()> {
    command::run(
        Command::new("rm")
            .args(["-rf", "--one-file-system", "--"])
            .arg(path),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache() -> (tempfile::TempDir, Cache) {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let cache = Cache {
            folder: folder.path().to_path_buf(),
        };
        (folder, cache)
    }

    #[test]
    fn inputs_are_kept_apart() {
        let joined = Key::new().with("ab").with("c");
        assert_ne!(joined, Key::new().with("a").with("bc"));
        assert_eq!(joined, Key::new().with("ab").with("c"));
    }

    #[test]
    fn an_artefact_is_made_once_and_replaces_the_older() {
        let (_folder, cache) = cache();
        let make = |folder: &Path| Ok(fs::write(folder.join("x"), "1")?);
        let old = cache.artefact("thing", Key::new(), make).expect("made");
        let again = cache
            .artefact("thing", Key::new(), |_| anyhow::bail!("made twice"))
            .expect("found");
        assert_eq!(old, again);
        let new = cache
            .artefact("thing", Key::new().with("2"), make)
            .expect("made");
        assert!(new.is_dir() && !old.exists());
    }

    #[test]
    fn a_family_does_not_wait_for_another() {
        let (_folder, cache) = cache();
        let other = |folder: &Path| {
            let made = cache.artefact("other", Key::new(), |_| Ok(()))?;
            Ok(fs::write(
                folder.join("x"),
                made.as_os_str().as_encoded_bytes(),
            )?)
        };
        cache.artefact("thing", Key::new(), other).expect("made");
        assert!(cache.find("other", Key::new()).is_some());
    }

    #[test]
    fn a_failed_artefact_leaves_nothing() {
        let (_folder, cache) = cache();
        let failed = cache.artefact("thing", Key::new(), |folder| {
            fs::write(folder.join("half"), "")?;
            anyhow::bail!("no more")
        });
        assert!(failed.is_err());
        assert!(cache.find("thing", Key::new()).is_none());
        assert!(cache.list(BUILDING).expect("listable").is_empty());
    }
}
