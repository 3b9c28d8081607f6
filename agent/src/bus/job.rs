//! `org.variantd1.Job`: a call that continues while its caller does something else.
//!
//! ```text
//! waiting --begins to change something--> working --> done or failed --a minute--> removed
//!    '--Cancel--> cancelled --a minute--> removed
//! ```
//!
//! Only the owner and root may read a job's state. So jobs are not below the ObjectManager, whose lists and signals go
//! to all users; the signal that a property changed has no value, and `Completed` goes to the connection that started
//! the job.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use api::name::JOB_INTERFACE;
use tokio::sync::Notify;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{DBusError, Variant, interface};

use super::about::About;
use super::call::Options;
use super::method::Method;
use super::{BusError, Callers, caller};
use crate::progress::Listener;
use api::refused::Kind;
use domain::code::Code;
use domain::refusal::Refusal;

pub(super) use kind::{Operation, State};
pub use list::Jobs;

mod kind;
mod list;

/// The method itself checks that the caller is the job's owner.
static CANCEL: Method = Method::public("Cancel");

/// A job's object; all clones are one job.
#[derive(Clone)]
pub(super) struct Job {
    /// The request.
    subject: Arc<Subject>,
    progress: Arc<Mutex<Progress>>,
    /// Notified when a property changed, or the work must be cancelled.
    news: Arc<Notify>,
}

/// The subject of a job.
pub(super) struct Subject {
    /// The method of `Manager`, in lower case.
    pub(super) operation: Operation,
    /// Its device or domain.
    pub(super) about: About,
    /// The user who started it; `None` for a peer without a bus.
    pub(super) owner: Option<u32>,
    /// The other callers.
    pub(super) callers: Callers,
}

#[derive(Clone, Debug, PartialEq)]
struct Progress {
    state: State,
    stage: String,
    done: f64,
    error: String,
    result: String,
}

impl Job {
    pub(super) fn new(subject: Subject) -> Self {
        let progress = Progress {
            state: State::Waiting,
            stage: "waiting".into(),
            done: 0.0,
            error: String::new(),
            result: String::new(),
        };
        Self {
            subject: Arc::new(subject),
            progress: Arc::new(Mutex::new(progress)),
            news: Arc::default(),
        }
    }

    /// Does the work; sends progress signals without a value to all clients, and the result to `starter`.
    pub(super) async fn run(
        &self,
        emitter: &SignalEmitter<'_>,
        starter: &SignalEmitter<'_>,
        work: impl Future<Output = Result<String, BusError>>,
    ) -> zbus::Result<()> {
        let mut work = std::pin::pin!(work);
        let mut printed = self.progress().clone();
        loop {
            tokio::select! {
                result = &mut work => self.end(result),
                () = self.news.notified() => {}
            }
            let now = self.progress().clone();
            say(emitter, &printed, &now).await?;
            if now.state.is_end() {
                let success = now.state == State::Done;
                return Self::completed(starter, success, &now.error, &now.result).await;
            }
            printed = now;
        }
    }

    pub(super) fn state(&self) -> State {
        self.progress().state
    }

    fn detail(&self, key: &str) -> String {
        let details = self.subject.about.details().into_iter();
        let mut details = details.filter(|(one, _)| *one == key);
        details.next().map_or(String::new(), |(_, value)| value)
    }

    fn end(&self, result: Result<String, BusError>) {
        let mut progress = self.progress();
        match result {
            Ok(json) => {
                progress.state = State::Done;
                progress.done = 1.0;
                progress.result = json;
            }
            Err(error) => {
                progress.state = State::Failed;
                progress.error = error.name().to_string();
                progress.result = error.description().unwrap_or_default().to_owned();
            }
        }
    }

    fn cancel(&self) -> Result<(), Refusal> {
        let mut progress = self.progress();
        if progress.state != State::Waiting {
            let reason = match progress.state {
                State::Working => "the job has begun to change something, and continues to its end",
                _ => "the job has ended",
            };
            return Err(Refusal::new(Code::JobBegun, reason, "read its 'Result'"));
        }
        progress.state = State::Cancelled;
        progress.error = Kind::Cancelled.name(Some(Code::JobCancelled));
        progress.result = format!(
            "the job was cancelled before its first change ({})",
            Code::JobCancelled
        );
        self.news.notify_one();
        Ok(())
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Listener for Job {
    fn stage(&self, text: &str, done: f64) {
        let mut progress = self.progress();
        text.clone_into(&mut progress.stage);
        // Parts of the work report their own stages, and the progress must not go backwards.
        progress.done = done.max(progress.done);
        self.news.notify_one();
    }

    fn begin(&self) -> bool {
        let mut progress = self.progress();
        if progress.state == State::Waiting {
            progress.state = State::Working;
        }
        self.news.notify_one();
        progress.state == State::Working
    }
}

/// Signals the properties that differ.
async fn say(emitter: &SignalEmitter<'_>, old: &Progress, new: &Progress) -> zbus::Result<()> {
    let changed = changed(old, new);
    if changed.is_empty() {
        return Ok(());
    }
    // Values would go to all users of the bus; the owner reads them after the signal.
    let no_values: HashMap<&str, Variant<'_>> = HashMap::new();
    let body = (JOB_INTERFACE, no_values, changed);
    let (interface, name) = ("org.freedesktop.DBus.Properties", "PropertiesChanged");
    emitter.emit(interface, name, &body).await
}

fn changed(old: &Progress, new: &Progress) -> Vec<&'static str> {
    let changed = [
        ("State", old.state != new.state),
        ("Stage", old.stage != new.stage),
        ("Progress", (old.done - new.done).abs() > f64::EPSILON),
        ("ErrorName", old.error != new.error),
        ("Result", old.result != new.result),
    ];
    let changed = changed.into_iter().filter(|(_, differs)| *differs);
    changed.map(|(name, _)| name).collect()
}

impl Job {
    /// Admits the owner and root.
    async fn admit(&self, header: &Header<'_>, what: &str) -> Result<(), BusError> {
        let user = self.subject.callers.user(header).await?;
        match user {
            Some(user) if Some(user) != self.subject.owner && !caller::is_root(user) => {
                let reason = format!("user {user} did not start this job");
                let hint = format!("only that user or root can {what} it");
                let refusal = Refusal::new(Code::NotAuthorized, reason, hint);
                Err(BusError::not_authorized(refusal))
            }
            _ => Ok(()),
        }
    }

    /// The same for a property. Without a header the agent itself asks.
    async fn look(&self, header: Option<Header<'_>>) -> Result<Progress, BusError> {
        if let Some(header) = header {
            self.admit(&header, "see").await?;
        }
        Ok(self.progress().clone())
    }
}

#[interface(name = "org.variantd1.Job")]
impl Job {
    /// Cancels the job while it waits: for polkit, or for its turn. After it has begun to change something it continues
    /// to its end, and this is refused. For the user who started the job, and root.
    #[zbus(name = "Cancel")]
    async fn stop(
        &self,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<(), BusError> {
        CANCEL.check(&options)?;
        self.admit(&header, "cancel").await?;
        Ok(self.cancel()?)
    }

    /// The operation: the method of `Manager`, in lower case.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn operation(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<&'static str, BusError> {
        self.look(header).await?;
        Ok(self.subject.operation.as_str())
    }

    /// The device's address, `all` for all devices; empty for a job about a domain.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn device(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.look(header).await?;
        Ok(self.detail("device"))
    }

    /// The domain's name; empty for a job about devices.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn domain(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        self.look(header).await?;
        Ok(self.detail("domain"))
    }

    /// The user who started it; -1 without a bus.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn owner(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<i64, BusError> {
        self.look(header).await?;
        Ok(self.subject.owner.map_or(-1, i64::from))
    }

    /// `waiting`, `working`, `done`, `failed` or `cancelled`.
    #[zbus(property(emits_changed_signal = "invalidates"), name = "State")]
    async fn state_word(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<&'static str, BusError> {
        Ok(self.look(header).await?.state.as_str())
    }

    /// The current step, as a text for people.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn stage(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(self.look(header).await?.stage)
    }

    /// The progress from 0 to 1; it grows by steps, not by time.
    #[zbus(property(emits_changed_signal = "invalidates"), name = "Progress")]
    async fn done(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<f64, BusError> {
        Ok(self.look(header).await?.done)
    }

    /// The error that the method would have returned; empty for none.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn error_name(
        &self,
        #[zbus(header)] header: Option<Header<'_>>,
    ) -> Result<String, BusError> {
        Ok(self.look(header).await?.error)
    }

    /// The reply of the method, or the error's sentence; empty before the end.
    #[zbus(property(emits_changed_signal = "invalidates"))]
    async fn result(&self, #[zbus(header)] header: Option<Header<'_>>) -> Result<String, BusError> {
        Ok(self.look(header).await?.result)
    }

    /// The job has ended; `ErrorName` and `Result` have the same values for a minute. The signal goes to the connection
    /// that started the job.
    #[zbus(signal)]
    async fn completed(
        emitter: &SignalEmitter<'_>,
        success: bool,
        error_name: &str,
        result: &str,
    ) -> zbus::Result<()>;
}
