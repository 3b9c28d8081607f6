//! A helper: one of our programs, started for one request; it replies and exits. All helpers use this protocol.
//!
//! ```text
//! parent --request, JSON, then the end of the pipe--> standard input
//! parent <--reply, JSON-- standard output;  the program's own errors: standard error
//! ```
//!
//! A reply counts once its helper has exited: until then the helper holds its object. A late helper is left running, or
//! killed if it holds nothing; a process that is stuck in the kernel cannot be killed. Its arguments only describe it
//! in ps(1); no code reads them.

use std::io::{self, Read, Write};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

/// Maximum size of a request: a definition of 1 MiB, escaped.
const LONGEST: u64 = 8 << 20;
/// Bytes of a program's standard error that are shown.
const COMPLAINT: u64 = 1 << 10;

/// There is no answer.
#[derive(Debug, Error)]
pub enum HelperError {
    /// The program cannot be started, or the pipes failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It exited without a reply.
    #[error("it exited without a reply{}", told(.words))]
    Silent {
        /// Its exit status, if it was not killed.
        status: Option<i32>,
        /// Its error output, from itself or the dynamic loader.
        words: String,
    },
}

impl HelperError {
    /// The thread that waited has ended.
    fn no_thread() -> Self {
        Self::Silent {
            status: None,
            words: String::new(),
        }
    }

    /// True if a library that the program needs is missing (ld.so(8) exits with the status of a shell that finds no
    /// program).
    #[must_use]
    pub fn is_unloaded(&self) -> bool {
        matches!(
            self,
            Self::Silent {
                status: Some(127),
                ..
            }
        )
    }
}

/// `: TEXT`, if there is text.
fn told(words: &str) -> String {
    match words.is_empty() {
        true => String::new(),
        false => format!(": {words}"),
    }
}

/// A helper that works on a request.
#[derive(Debug)]
pub struct Running<T> {
    answer: mpsc::Receiver<Result<T, HelperError>>,
    child: Arc<Mutex<Child>>,
    /// Set when no caller waits for it any more.
    late: Arc<AtomicBool>,
}

impl<T: DeserializeOwned + Send + 'static> Running<T> {
    /// Starts the program with a request. A thread waits for the reply, and calls `came_late` if it comes after its
    /// deadline; without a thread nothing runs.
    ///
    /// # Errors
    /// There is no process or thread.
    pub fn start(
        mut command: Command,
        request: &impl Serialize,
        came_late: impl FnOnce() + Send + 'static,
    ) -> Result<Self, HelperError> {
        let request = serde_json::to_vec(request).map_err(io::Error::from)?;
        let (give, begin) = mpsc::channel::<Arc<Mutex<Child>>>();
        let (send, answer) = mpsc::channel();
        let late = Arc::new(AtomicBool::new(false));
        let is_late = late.clone();
        let work = move || {
            let Ok(child) = begin.recv() else { return };
            let _ = send.send(exchange(&child, &request));
            if is_late.load(Ordering::SeqCst) {
                came_late();
            }
        };
        // Before the process: a helper without a thread would never be reaped.
        thread::Builder::new().spawn(work)?;
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let child = Arc::new(Mutex::new(piped.stderr(Stdio::piped()).spawn()?));
        let _ = give.send(child.clone());
        Ok(Self {
            answer,
            child,
            late,
        })
    }

    /// The reply; `None` if the helper has not exited within `limit`.
    pub fn within(&self, limit: Duration) -> Option<Result<T, HelperError>> {
        self.told_within(limit, &[limit], |_| {})
    }

    /// The same, and calls back after each of the pauses, and then after each repetition of the last, with the elapsed
    /// time.
    pub fn told_within(
        &self,
        limit: Duration,
        pauses: &[Duration],
        waiting: impl Fn(Duration),
    ) -> Option<Result<T, HelperError>> {
        let begun = Instant::now();
        let last = pauses.last().copied().unwrap_or(limit);
        let mut pauses = pauses.iter().copied();
        loop {
            let left = limit.saturating_sub(begun.elapsed());
            let pause = pauses.next().unwrap_or(last);
            match self.answer.recv_timeout(left.min(pause)) {
                Ok(answer) => return Some(answer),
                Err(mpsc::RecvTimeoutError::Timeout) if begun.elapsed() < limit => {
                    waiting(begun.elapsed());
                }
                Err(_) => break,
            }
        }
        // Before the last look: a reply after it is reported by `came_late`.
        self.late.store(true, Ordering::SeqCst);
        // It may have come between the two.
        self.now()
    }

    /// Waits for the reply without a limit.
    ///
    /// # Errors
    /// As [`Self::start`], or the helper exited without one.
    pub fn wait(&self) -> Result<T, HelperError> {
        let silent = |_| Err(HelperError::no_thread());
        self.answer.recv().unwrap_or_else(silent)
    }

    /// The reply, if it has come.
    pub fn now(&self) -> Option<Result<T, HelperError>> {
        match self.answer.try_recv() {
            Ok(answer) => Some(answer),
            Err(mpsc::TryRecvError::Empty) => None,
            Err(mpsc::TryRecvError::Disconnected) => Some(Err(HelperError::no_thread())),
        }
    }

    /// Kills a helper that only reads, and holds nothing.
    pub fn end(self) {
        let mut child = self.child.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = child.kill();
    }
}

/// Sends the request, and reads the reply until the helper has exited.
fn exchange<T: DeserializeOwned>(child: &Mutex<Child>, request: &[u8]) -> Result<T, HelperError> {
    let (input, output, complaint, id) = {
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        let (input, output) = (child.stdin.take(), child.stdout.take());
        (input, output, child.stderr.take(), Pid::from_child(&child))
    };
    if let Some(mut input) = input {
        // A program that cannot run reads nothing.
        let _ = input.write_all(request);
    }
    let (mut answer, mut words) = (Vec::new(), Vec::new());
    // Unbounded, because the helper is our own program, run from a directory that only root can write.
    let read = output.map_or(Ok(0), |mut output| output.read_to_end(&mut answer));
    let complaint = complaint.map(|complaint| complaint.take(COMPLAINT));
    let heard = complaint.map_or(Ok(0), |mut complaint| complaint.read_to_end(&mut words));
    // Checked before it is reaped, so that its pid is valid for as long as it may be killed.
    let _ = waitid(
        WaitId::Pid(id),
        WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
    );
    let ended = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
    read.and(heard)?;
    let status = ended?.code();
    let words = String::from_utf8_lossy(&words);
    let words = words.split_whitespace().collect::<Vec<_>>().join(" ");
    serde_json::from_slice(&answer).map_err(|_| HelperError::Silent { status, words })
}

/// The helper's side: reads the request, and writes the result of `reply`.
pub fn serve<R: DeserializeOwned>(
    program: &str,
    reply: impl FnOnce(R) -> serde_json::Result<Vec<u8>>,
) -> ExitCode {
    let mut text = String::new();
    let read = io::stdin().take(LONGEST).read_to_string(&mut text);
    let request = read.ok().and_then(|_| serde_json::from_str(&text).ok());
    let Some(request) = request else {
        // Not `eprintln!`: it panics when standard error is closed or full.
        let _ = writeln!(
            io::stderr(),
            "{program}: internal program of variantd; use 'variantctl' or 'virsh'"
        );
        return ExitCode::from(2);
    };
    let answer = reply(request).map_err(io::Error::from);
    match answer.and_then(|bytes| io::stdout().write_all(&bytes)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Duration = Duration::from_secs(20);

    fn run(script: &str, came_late: impl FnOnce() + Send + 'static) -> Running<Vec<u32>> {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Running::start(command, &"request", came_late).expect("a process")
    }

    fn answer(script: &str) -> Result<Vec<u32>, String> {
        let answer = run(script, || {}).within(TIME).expect("in time");
        answer.map_err(|error| error.to_string())
    }

    #[test]
    fn helper_serves_a_request_and_a_reply() {
        let script = "[ \"$(cat)\" = '\"request\"' ] && echo '[1, 2]'";
        assert_eq!(answer(script), Ok(vec![1, 2]));
    }

    #[test]
    fn helper_without_a_reply_reports_its_error_output() {
        let unloaded = run("exec 0<&-; exit 127", || {}).within(TIME);
        let unloaded = unloaded.expect("in time").expect_err("no answer");
        assert!(unloaded.is_unloaded(), "{unloaded:?}");
        let unloaded = answer("exec 0<&-; echo ' libvirt.so.0: cannot open ' >&2; exit 127");
        let words = "it exited without a reply: libvirt.so.0: cannot open";
        assert_eq!(unloaded, Err(words.to_owned()));
        for script in ["kill -9 $$", "cat", "exit 0"] {
            assert_eq!(answer(script), Err("it exited without a reply".to_owned()));
        }
        let none = Running::<()>::start(Command::new("/nonexistent"), &(), || {});
        assert!(matches!(none, Err(HelperError::Io(_))), "{none:?}");
    }

    #[test]
    fn reply_counts_after_the_helper_exited() {
        let running = run("echo '[]'; exec sleep 5", || {});
        assert!(running.within(Duration::from_millis(50)).is_none());
        running.end();
        let closed = run("echo '[]'; exec >&- 2>&-; exec sleep 5", || {});
        assert!(closed.within(Duration::from_millis(50)).is_none());
        closed.end();
    }

    #[test]
    fn late_helper_notifies_at_its_end() {
        let (send, told) = mpsc::channel();
        let late = send.clone();
        let running = run("sleep 0.3; echo '[3]'", move || {
            late.send("late").expect("a receiver")
        });
        assert!(running.within(Duration::from_millis(20)).is_none());
        assert_eq!(told.recv_timeout(TIME), Ok("late"));
        assert_eq!(running.now().expect("it has ended").ok(), Some(vec![3]));
        let running = run("echo '[]'", move || {
            send.send("in time").expect("a receiver")
        });
        running.within(TIME).expect("in time").expect("an answer");
        told.recv_timeout(TIME).expect_err("no callback");
    }

    #[test]
    fn long_wait_reports_its_progress() {
        let told = Mutex::new(0);
        let pauses = [Duration::from_millis(100), TIME];
        let running = run("sleep 0.5; echo '[]'", || {});
        let answer = running.told_within(TIME, &pauses, |_| *told.lock().expect("told") += 1);
        answer.expect("in time").expect("an answer");
        assert_eq!(*told.lock().expect("told"), 1);
    }

    #[test]
    fn killed_helper_sends_no_reply() {
        let running = run("exec sleep 1000", || {});
        assert!(running.within(Duration::from_millis(20)).is_none());
        running.end();
    }
}
