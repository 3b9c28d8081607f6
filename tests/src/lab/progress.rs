//! Prints the lab's progress on standard error; standard output is only for the guest.

use std::io::{IsTerminal, Write};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// On a terminal the line is rewritten this often; elsewhere a line is added every `QUIET`.
const TERMINAL: Duration = Duration::from_millis(500);
const QUIET: Duration = Duration::from_secs(15);

/// Prints one line.
pub fn say(text: &str) {
    eprintln!("lab: {text}");
}

/// A step in progress, from `begin` to `done`. Dropped before `done` it counts as failed.
pub struct Step {
    text: String,
    started: Instant,
    ticker: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Step {
    /// Announces the step.
    pub fn begin(text: impl Into<String>) -> Self {
        let text = text.into();
        let started = Instant::now();
        let (stop, stopped) = mpsc::channel();
        let shown = text.clone();
        let terminal = std::io::stderr().is_terminal();
        if !terminal {
            say(&format!("{text} ..."));
        }
        let thread = std::thread::spawn(move || tick(&shown, started, terminal, &stopped));
        Self {
            text,
            started,
            ticker: Some((stop, thread)),
        }
    }

    /// Ends the step with success.
    pub fn done(mut self) {
        self.finish("done");
    }

    /// Ends the step without output, if other code prints the result.
    pub fn end(mut self) {
        self.stop();
    }

    /// Time since the step began.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    fn finish(&mut self, word: &str) {
        if self.stop() {
            let seconds = self.elapsed().as_secs_f32();
            say(&format!("{}: {word} after {seconds:.1} s", self.text));
        }
    }

    /// Stops the ticker and clears its line; returns false if it was already stopped.
    fn stop(&mut self) -> bool {
        let Some((stop, thread)) = self.ticker.take() else {
            return false;
        };
        drop(stop);
        // a ticker that panicked has nothing left to print
        let _ = thread.join();
        if std::io::stderr().is_terminal() {
            eprint!("\r\x1b[K");
        }
        true
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        self.finish("failed");
    }
}

fn tick(text: &str, started: Instant, terminal: bool, stopped: &mpsc::Receiver<()>) {
    let interval = if terminal { TERMINAL } else { QUIET };
    loop {
        if terminal {
            eprint!("\r\x1b[Klab: {text} ... {} s", started.elapsed().as_secs());
            // a lost progress line is no reason to stop
            let _ = std::io::stderr().flush();
        }
        match stopped.recv_timeout(interval) {
            Err(RecvTimeoutError::Timeout) if !terminal => {
                say(&format!("{text} ... {} s", started.elapsed().as_secs()));
            }
            Err(RecvTimeoutError::Timeout) => {}
            _ => return,
        }
    }
}
