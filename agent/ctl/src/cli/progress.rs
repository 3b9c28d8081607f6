//! A line about work that takes long: its stage and the time so far, rewritten in place on a terminal.
//!
//! ```text
//! work begins -> 2 s -> line, rewritten each second -> work ends: line erased
//! ```
//!
//! Only a terminal on standard error gets the line, and none with `--json` or `--quiet`. It must be dropped before other text is
//! printed.

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{output, table};
use domain::printable::Printable;

/// The time until the line appears.
const FIRST: Duration = Duration::from_secs(2);
/// The time until it is written again.
const NEXT: Duration = Duration::from_secs(1);
/// Columns of a terminal that reports no width.
const COLUMNS: usize = 80;
/// Erases the line; `ESC [ K` erases to its end (ECMA-48, EL).
const ERASE: &str = "\r\x1b[K";

/// Set once, before the verb runs.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Prints no progress in this process.
pub(super) fn silence() {
    QUIET.store(true, Ordering::Relaxed);
}

/// True after [`silence`].
pub(super) fn is_silent() -> bool {
    QUIET.load(Ordering::Relaxed)
}

/// True if progress is a line on a terminal.
pub(super) fn is_shown() -> bool {
    !is_silent() && io::stderr().is_terminal()
}

/// The line of one piece of work; it is erased when this is dropped.
pub(super) struct Progress(Option<Shown>);

struct Shown {
    shared: Arc<Shared>,
    thread: JoinHandle<()>,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    ended: Condvar,
}

#[derive(Default)]
struct State {
    stage: String,
    ended: bool,
}

impl Progress {
    /// Begins work with its first stage.
    pub(super) fn begin(stage: &str) -> Self {
        if !is_shown() {
            return Self(None);
        }
        let shared = Arc::new(Shared::default());
        let drawn = shared.clone();
        // In a thread of its own, because much of the work blocks.
        let thread = thread::Builder::new().spawn(move || drawn.draw([FIRST, NEXT]));
        let progress = Self(thread.ok().map(|thread| Shown { shared, thread }));
        progress.stage(stage);
        progress
    }

    /// Sets the stage; the line shows it at its next write. The text may be of any origin and length.
    pub(super) fn stage(&self, stage: &str) {
        if let Some(shown) = &self.0 {
            stage.clone_into(&mut shown.shared.state().stage);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        let Some(shown) = self.0.take() else { return };
        shown.shared.state().ended = true;
        shown.shared.ended.notify_one();
        // So that the line is erased before the next output.
        let _ = shown.thread.join();
    }
}

impl Shared {
    fn draw(&self, [first, next]: [Duration; 2]) {
        let begun = Instant::now();
        let mut pause = first;
        loop {
            let waited = self
                .ended
                .wait_timeout_while(self.state(), pause, |state| !state.ended);
            let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                break;
            }
            let columns = table::columns_of(&io::stderr()).unwrap_or(COLUMNS);
            let line = line(&state.stage, begun.elapsed().as_secs(), columns);
            // A terminal that is stopped (Ctrl-S) must not block the work.
            drop(state);
            output::to_standard_error(&format!("\r{line}\x1b[K"));
            pause = next;
        }
        if begun.elapsed() >= first {
            output::to_standard_error(ERASE);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The line, in fewer columns than the terminal has: some move to the next line after the last column.
fn line(stage: &str, seconds: u64, columns: usize) -> String {
    let time = match seconds / 60 {
        0 => format!(" ({seconds} s)"),
        minutes => format!(" ({minutes} min {} s)", seconds % 60),
    };
    let room = columns.saturating_sub(1);
    let Some(left) = room.checked_sub(time.len()) else {
        return String::new();
    };
    clipped(&Printable(stage).to_string(), left) + &time
}

/// The text in at most `columns`. Each character that is not ASCII counts as two columns, as wide ones have.
fn clipped(text: &str, columns: usize) -> String {
    let width = |one: char| if one.is_ascii() { 1 } else { 2 };
    if text.chars().map(width).sum::<usize>() <= columns {
        return text.to_owned();
    }
    let mut left = columns.saturating_sub(3);
    let fits = |one: &char| {
        let next = left.checked_sub(width(*one));
        left = next.unwrap_or(0);
        next.is_some()
    };
    let start: String = text.chars().take_while(fits).collect();
    format!("{start}{:.columns$}", "...")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_has_the_stage_and_the_time_and_fits_the_terminal() {
        assert_eq!(line("binding", 2, 80), "binding (2 s)");
        assert_eq!(line("binding", 61, 80), "binding (1 min 1 s)");
        assert_eq!(line("binding the device", 3, 20), "binding th... (3 s)");
        assert_eq!(line("虚拟机虚拟机", 3, 16), "虚拟机... (3 s)");
        assert_eq!(line("binding", 3, 4), "");
        for columns in 0..40 {
            let line = line("waiting for the GPU's memory", 75, columns);
            assert!(line.len() < columns.max(1), "{columns}: {line:?}");
        }
    }

    #[test]
    fn control_characters_of_a_stage_are_escaped() {
        let line = line("domain 'a\u{1b}[2J\u{9b}31m\n\u{202e}'", 2, 80);
        assert!(
            line.is_ascii() && !line.contains(char::is_control),
            "{line:?}"
        );
    }
}
