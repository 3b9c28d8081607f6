//! `metrics.prom` in the run directory, for the textfile collector of node_exporter.
//!
//! ```text
//! start: an earlier agent's file removed -> written before the agent is ready -> every 15 s
//! clean end: removed          killed: stays, and its timestamp tells that it is old
//! ```
//!
//! A file that cannot be replaced is removed: no metrics are better than old ones.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};
use tracing::{info, warn};

use settings::file;

/// Name of the file. The collector reads only names that end with `.prom`, so not `metrics.prom.new`.
pub const FILE: &str = "metrics.prom";

/// Interval of writes; Prometheus reads every 15 s to 60 s.
const INTERVAL: Duration = Duration::from_secs(15);

/// How long the start or the end of the agent waits for the file.
const LIMIT: Duration = Duration::from_secs(1);

/// Makes the text of the file.
type Text = dyn Fn() -> String + Send + Sync;

/// The file of a running agent; all clones are one file.
#[derive(Clone)]
pub struct MetricsFile {
    path: Arc<Path>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// The agent ends: the file is not written again.
    ended: bool,
    /// Why the last write failed.
    failure: Option<String>,
}

impl MetricsFile {
    /// The file in a run directory, without that of an earlier agent.
    #[must_use]
    pub fn open(run: &Path) -> Self {
        let path: PathBuf = run.join(FILE);
        // One that cannot be removed is replaced, or its timestamp tells that it is old.
        let _ = file::remove(&path);
        Self {
            path: path.into(),
            state: Arc::default(),
        }
    }

    /// Writes the file, waits a moment for that, and replaces the file periodically until the agent ends.
    pub async fn begin(&self, text: Arc<Text>) {
        let _ = timeout(LIMIT, self.write_once(&text)).await;
        let file = self.clone();
        tokio::spawn(async move { file.replace_every(INTERVAL, &text).await });
    }

    /// Removes the file, and waits a moment for that; it is not written again.
    pub async fn end(&self) {
        let file = self.clone();
        let removed = spawn_blocking(move || file.remove());
        let _ = timeout(LIMIT, removed).await;
    }

    async fn replace_every(&self, interval: Duration, text: &Arc<Text>) {
        loop {
            sleep(interval).await;
            self.write_once(text).await;
        }
    }

    async fn write_once(&self, text: &Arc<Text>) {
        let (file, text) = (self.clone(), text.clone());
        let write = move || file.write(&text());
        // Fails only while the runtime ends.
        let _ = spawn_blocking(write).await;
    }

    fn write(&self, text: &str) {
        let mut state = self.state();
        if state.ended {
            return;
        }
        let written = file::replace(&self.path, text, 0o644);
        if written.is_err() {
            let _ = file::remove(&self.path);
        }
        state.note(&self.path, written);
    }

    fn remove(&self) {
        let mut state = self.state();
        state.ended = true;
        let _ = file::remove(&self.path);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Logs a failure once, and again if its reason changes or it is over.
    fn note(&mut self, path: &Path, written: io::Result<()>) {
        let failure = written.err().map(|error| error.to_string());
        let path = path.display();
        match (&failure, &self.failure) {
            (Some(new), old) if old.as_ref() != Some(new) => {
                warn!("cannot write the metrics to '{path}': {new}; variantd retries");
            }
            (None, Some(_)) => info!("the metrics are written to '{path}' again"),
            _ => {}
        }
        self.failure = failure;
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Instant;

    use super::*;

    /// A text that is another one each time.
    fn counting() -> Arc<dyn Fn() -> String + Send + Sync> {
        let count = Mutex::new(0);
        Arc::new(move || {
            let mut count = count.lock().expect("count");
            *count += 1;
            format!("{count}\n")
        })
    }

    #[tokio::test]
    async fn file_is_written_at_once_replaced_and_removed_for_good() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(FILE);
        fs::write(&path, "of a killed agent\n").expect("old");
        let file = MetricsFile::open(directory.path());
        assert!(!path.exists(), "no metrics while the agent starts");
        file.begin(counting()).await;
        assert_eq!(fs::read_to_string(&path).expect("text"), "1\n");
        let (other, text) = (file.clone(), counting());
        let often = tokio::spawn(async move {
            let pause = Duration::from_millis(2);
            other.replace_every(pause, &text).await;
        });
        let until = Instant::now() + Duration::from_secs(30);
        while fs::read_to_string(&path).expect("text") != "3\n" {
            assert!(Instant::now() < until, "it is not replaced");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        file.end().await;
        assert!(!path.exists());
        file.write("late\n");
        assert!(!path.exists(), "the agent has ended");
        often.abort();
    }

    #[test]
    fn file_that_cannot_be_replaced_is_removed_and_the_reason_is_kept_until_it_is_over() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join(FILE);
        let file = MetricsFile::open(directory.path());
        file.write("first\n");
        let beside = directory.path().join("metrics.prom.new");
        fs::create_dir(&beside).expect("in the way");
        file.write("second\n");
        assert!(!path.exists(), "no metrics are better than old ones");
        assert!(file.state().failure.is_some());
        fs::remove_dir(&beside).expect("out of the way");
        file.write("third\n");
        assert_eq!(fs::read_to_string(&path).expect("text"), "third\n");
        assert_eq!(file.state().failure, None);
    }
}
