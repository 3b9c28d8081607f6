//! The stack that was found last, stored for when libvirt cannot be reached: at boot it starts guests, and calls the hook,
//! before it accepts a connection.
//!
//! ```text
//! not asked, or a program changed -> ask -> all sources answered -> until a program changes
//!                                     \-> a source failed -> ask again after a pause, which doubles, and at each start
//! ```

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, Weak};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tracing::warn;

use planner::stack::Stack;
use planner::target::{Version, Versions};
use settings::file;

use super::emulator::Build;

/// File name in the state directory.
pub const FILE: &str = "stack.json";

/// Number of the questions to the programs: increase it with each change of what is asked or concluded.
const QUESTIONS: u32 = 1;

/// The shortest and the longest pause before a source that failed is asked again.
const PAUSES: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(3600)];

/// libvirt's driver for QEMU, on Fedora, and on Debian for both architectures.
const DRIVERS: [&str; 3] = [
    "usr/lib64/libvirt/connection-driver/libvirt_driver_qemu.so",
    "usr/lib/aarch64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
    "usr/lib/x86_64-linux-gnu/libvirt/connection-driver/libvirt_driver_qemu.so",
];

/// What a stack was found for; it is asked again when one of these changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Key {
    /// The emulator's path.
    pub emulator: PathBuf,
    /// Its build.
    pub build: Build,
    /// The running libvirt.
    pub libvirt: Version,
    /// The `st_ctime` of its driver for QEMU; `None` if it was not found.
    pub driver_ctime: Option<i64>,
    /// `/dev/iommu` exists.
    pub iommufd: bool,
    /// The questions: another agent may have others.
    pub questions: u32,
}

/// A stack, and what it was found for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Found {
    /// The installed programs.
    pub key: Key,
    /// What they can express.
    pub stack: Stack,
    /// Sources that gave no answer, with the reason.
    pub notes: Vec<String>,
}

/// The stack of this host.
#[derive(Debug, Default)]
pub struct KnownStack {
    root: PathBuf,
    path: PathBuf,
    found: RwLock<Option<Found>>,
    retry: Mutex<Retry>,
    round: Mutex<Weak<()>>,
}

/// When a source that failed is asked again; never without a failure since the start.
#[derive(Debug, Default)]
struct Retry {
    pause: Duration,
    at: Option<Instant>,
}

impl Key {
    /// The present key; `None` if the emulator does not exist.
    #[must_use]
    pub fn now(root: &Path, emulator: &Path, libvirt: Version) -> Option<Self> {
        let ctime = |path: &str| Some(std::fs::metadata(root.join(path)).ok()?.ctime());
        Some(Self {
            emulator: emulator.to_owned(),
            build: Build::of(&below(root, emulator)).ok()?,
            libvirt,
            driver_ctime: DRIVERS.into_iter().find_map(ctime),
            iommufd: root.join("dev/iommu").exists(),
            questions: QUESTIONS,
        })
    }

    fn is_current(&self, root: &Path, libvirt: Version) -> bool {
        Self::now(root, &self.emulator, libvirt).as_ref() == Some(self)
    }
}

impl Found {
    /// Parses the stored text; `None` if it has another form, such as that of another version of the agent.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text).ok()
    }
}

/// An absolute path below the root directory.
fn below(root: &Path, path: &Path) -> PathBuf {
    root.join(path.strip_prefix("/").unwrap_or(path))
}

impl KnownStack {
    /// Loads the content of `path`; empty if there is no such file, or it has another form.
    #[must_use]
    pub fn load(root: PathBuf, path: PathBuf) -> Self {
        let text = file::read(&path).unwrap_or_default();
        Self {
            root,
            path,
            found: RwLock::new(Found::parse(&text)),
            retry: Mutex::default(),
            round: Mutex::default(),
        }
    }

    /// The root directory of the installed programs.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What was found for the installed programs; `None` if one of them changed since.
    #[must_use]
    pub fn current(&self, libvirt: Version) -> Option<Found> {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        let found = found.clone()?;
        found.key.is_current(&self.root, libvirt).then_some(found)
    }

    /// The stack; by versions until the installed programs were asked.
    #[must_use]
    pub fn stack(&self, versions: Versions) -> Stack {
        let found = self.current(versions.libvirt);
        found.map_or_else(|| Stack::assumed(versions), |found| found.stack)
    }

    /// True if the installed programs must be asked: never asked, changed since, or a source failed and its pause is over. The
    /// pause does not outlive the agent.
    #[must_use]
    pub fn is_due(&self, libvirt: Version) -> bool {
        let known = self.current(libvirt);
        known.is_none_or(|known| {
            let is_over = self.pause().is_none_or(|pause| pause == Duration::ZERO);
            !known.notes.is_empty() && is_over
        })
    }

    /// Time until sources that failed are asked again; `None` if none has failed since the start.
    #[must_use]
    pub fn pause(&self) -> Option<Duration> {
        let at = self.retry().at?;
        Some(at.saturating_duration_since(Instant::now()))
    }

    /// Begins a round of questions; `None` while a call of an earlier round has not returned. The round ends with the last clone
    /// of the value.
    #[must_use]
    pub fn begin(&self) -> Option<Arc<()>> {
        let mut round = self.round.lock().unwrap_or_else(PoisonError::into_inner);
        if round.strong_count() > 0 {
            return None;
        }
        let begun = Arc::new(());
        *round = Arc::downgrade(&begun);
        Some(begun)
    }

    /// Notes whether a source has failed in the round that ends.
    pub fn note(&self, has_failed: bool) {
        self.retry().note(has_failed);
    }

    /// Stores what was found; false if it tells nothing new. Fewer answers about the same programs do not replace earlier ones.
    pub fn learn(&self, found: Found) -> bool {
        let known = self.current(found.key.libvirt);
        if known.is_some_and(|known| found.notes.len() >= known.notes.len()) {
            return false;
        }
        self.store(found);
        true
    }

    fn retry(&self) -> MutexGuard<'_, Retry> {
        self.retry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self, found: Found) {
        let text = planner::json::text(&found) + "\n";
        if let Err(error) = file::replace(&self.path, &text, 0o644) {
            warn!("cannot write '{}': {error}", self.path.display());
        }
        *self.found.write().unwrap_or_else(PoisonError::into_inner) = Some(found);
    }
}

impl Retry {
    fn note(&mut self, has_failed: bool) {
        let [shortest, longest] = PAUSES;
        *self = match has_failed {
            true => {
                // The first pause is the shortest, because twice zero is below it.
                let pause = (self.pause * 2).clamp(shortest, longest);
                let at = Some(Instant::now() + pause);
                Self { pause, at }
            }
            false => Self::default(),
        };
    }
}

#[cfg(test)]
#[path = "known_test.rs"]
mod test;
