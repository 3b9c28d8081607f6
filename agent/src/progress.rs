//! Progress of an operation, reported to its job if it has one.
//!
//! The work runs several calls below its listener, in its own thread. So the listener is attached to the task, and from
//! there to the thread, and the functions between need not pass it.

use std::cell::RefCell;
use std::sync::Arc;

use domain::code::Code;
use domain::refusal::Refusal;

/// Receives the progress of one operation.
pub trait Listener: Send + Sync {
    /// Called at each stage; `done` is between 0 and 1.
    fn stage(&self, text: &str, done: f64);

    /// Called before the first change; false if the operation was cancelled.
    fn begin(&self) -> bool;
}

tokio::task_local! {
    static TASK: Arc<dyn Listener>;
}

thread_local! {
    static THREAD: RefCell<Option<Arc<dyn Listener>>> = const { RefCell::new(None) };
}

/// Runs `work` with a listener.
pub async fn heard<T>(listener: Arc<dyn Listener>, work: impl Future<Output = T>) -> T {
    TASK.scope(listener, work).await
}

/// Wraps the work for another thread: the task's listener goes with it.
pub fn carried<T>(work: impl FnOnce() -> T) -> impl FnOnce() -> T {
    let listener = TASK.try_with(Arc::clone).ok();
    move || {
        THREAD.set(listener);
        let _end = End;
        work()
    }
}

/// Threads are reused for other work.
struct End;

impl Drop for End {
    fn drop(&mut self) {
        THREAD.set(None);
    }
}

/// Reports the stage of this thread's work.
pub fn stage(text: &str, done: f64) {
    if let Some(listener) = listener() {
        listener.stage(text, done);
    }
}

/// Marks the start of changes: from here on this thread's work continues to its end.
///
/// # Errors
/// It was cancelled before.
pub fn begin() -> Result<(), Refusal> {
    if listener().is_none_or(|listener| listener.begin()) {
        return Ok(());
    }
    let reason = "the job was cancelled before its first change";
    Err(Refusal::new(
        Code::JobCancelled,
        reason,
        "nothing was changed",
    ))
}

fn listener() -> Option<Arc<dyn Listener>> {
    THREAD.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    struct Recorder {
        heard: Mutex<Vec<String>>,
        wanted: bool,
    }

    impl Listener for Recorder {
        fn stage(&self, text: &str, done: f64) {
            let mut heard = self.heard.lock().expect("heard");
            heard.push(format!("{text} {done}"));
        }

        fn begin(&self) -> bool {
            self.wanted
        }
    }

    fn recorder(wanted: bool) -> Arc<Recorder> {
        let heard = Mutex::default();
        Arc::new(Recorder { heard, wanted })
    }

    #[tokio::test]
    async fn listener_follows_its_work_into_another_thread() {
        let recorder = recorder(false);
        let begun = heard(recorder.clone(), async {
            let work = carried(|| {
                stage("half", 0.5);
                begin()
            });
            std::thread::spawn(work).join().expect("joined")
        });
        assert_eq!(begun.await.expect_err("cancelled").code, Code::JobCancelled);
        assert_eq!(*recorder.heard.lock().expect("heard"), ["half 0.5"]);
        carried(|| stage("after", 1.0))();
        assert!(begin().is_ok());
        assert_eq!(recorder.heard.lock().expect("heard").len(), 1);
    }
}
