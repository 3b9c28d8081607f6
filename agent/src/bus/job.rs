//! `org.variantd1.Job`: a call that goes on while its caller does something else.
//!
//! ```text
//! waiting --begins to change something--> working --> done or failed --a minute--> gone
//!    '--Cancel--> cancelled --a minute--> gone
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, DBusError, Variant, interface};

use super::manager::{Options, known};
use super::{BusError, caller};
use crate::code::Code;
use crate::progress::Listener;
use crate::refusal::Refusal;

pub(super) use kind::{Operation, State};
pub use list::Jobs;

mod kind;
mod list;

/// The interface.
const INTERFACE: &str = "org.variantd1.Job";

/// A job's object; all clones are one job.
#[derive(Clone)]
pub(super) struct Job {
    /// What was asked for.
    subject: Arc<Subject>,
    progress: Arc<Mutex<Progress>>,
    /// Something is to be said, or the work to be left.
    news: Arc<Notify>,
}

/// What a job is about.
pub(super) struct Subject {
    /// The method of `Manager`, in lower case.
    pub(super) operation: Operation,
    /// The device's or domain's name as it was given.
    pub(super) name: String,
    /// Who started it; `None` for a peer without a bus.
    pub(super) owner: Option<u32>,
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

    /// Does the work, and says all along how far it is; ends with what came of it.
    pub(super) async fn run(
        &self,
        emitter: &SignalEmitter<'_>,
        work: impl Future<Output = Result<String, BusError>>,
    ) -> zbus::Result<()> {
        let mut work = std::pin::pin!(work);
        let mut said = self.progress().clone();
        loop {
            tokio::select! {
                result = &mut work => self.end(result),
                () = self.news.notified() => {}
            }
            let now = self.progress().clone();
            say(emitter, &said, &now).await?;
            if now.state.is_end() {
                let success = now.state == State::Done;
                return Self::completed(emitter, success, &now.error, &now.result).await;
            }
            said = now;
        }
    }

    pub(super) fn state(&self) -> State {
        self.progress().state
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
                State::Working => "it has begun to change something, and goes on to its end",
                _ => "it has ended",
            };
            return Err(Refusal::new(
                Code::JobBegun,
                reason,
                "see what came of it in 'Result'",
            ));
        }
        progress.state = State::Cancelled;
        progress.error = "org.variantd1.Error.Cancelled".into();
        progress.result = format!(
            "the job was cancelled before it began ({})",
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

/// Says which properties differ.
async fn say(emitter: &SignalEmitter<'_>, old: &Progress, new: &Progress) -> zbus::Result<()> {
    let before = properties(old);
    let mut changed = properties(new);
    changed.retain(|key, value| before.get(key) != Some(value));
    if changed.is_empty() {
        return Ok(());
    }
    let none: &[&str] = &[];
    let body = (INTERFACE, changed, none);
    let (interface, name) = ("org.freedesktop.DBus.Properties", "PropertiesChanged");
    emitter.emit(interface, name, &body).await
}

fn properties(progress: &Progress) -> HashMap<&'static str, Variant<'static>> {
    HashMap::from([
        ("State", progress.state.as_str().into()),
        ("Stage", progress.stage.clone().into()),
        ("Progress", progress.done.into()),
        ("ErrorName", progress.error.clone().into()),
        ("Result", progress.result.clone().into()),
    ])
}

#[interface(name = "org.variantd1.Job")]
impl Job {
    /// Ends the job while it waits: for polkit, or for its turn. Once it changes something it goes on to its
    /// end, and this is refused. For who started the job, and root.
    #[zbus(name = "Cancel")]
    async fn stop(
        &self,
        #[zbus(connection)] connection: &Connection,
        #[zbus(header)] header: Header<'_>,
        options: Options,
    ) -> Result<(), BusError> {
        known(&options, &[])?;
        let user = caller::user(connection, &header).await?;
        match user {
            Some(user) if Some(user) != self.subject.owner && !caller::is_root(user) => {
                let sentence = format!(
                    "user {user} did not start this job ({}); only who did, or root, can cancel it",
                    Code::NotAuthorized
                );
                Err(BusError::NotAuthorized(sentence))
            }
            _ => Ok(self.cancel()?),
        }
    }

    /// What is done: the method of `Manager`, in lower case.
    #[zbus(property(emits_changed_signal = "const"))]
    fn operation(&self) -> &'static str {
        self.subject.operation.as_str()
    }

    /// The device as it was named; empty for none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn device(&self) -> String {
        match self.subject.operation.is_about_a_domain() {
            true => String::new(),
            false => self.subject.name.clone(),
        }
    }

    /// The domain as it was named; empty for none.
    #[zbus(property(emits_changed_signal = "const"))]
    fn domain(&self) -> String {
        match self.subject.operation.is_about_a_domain() {
            true => self.subject.name.clone(),
            false => String::new(),
        }
    }

    /// The user who started it; -1 without a bus.
    #[zbus(property(emits_changed_signal = "const"))]
    fn owner(&self) -> i64 {
        self.subject.owner.map_or(-1, i64::from)
    }

    /// `waiting`, `working`, `done`, `failed` or `cancelled`.
    #[zbus(property, name = "State")]
    fn state_word(&self) -> &'static str {
        self.state().as_str()
    }

    /// What is being done, for people.
    #[zbus(property)]
    fn stage(&self) -> String {
        self.progress().stage.clone()
    }

    /// How much is done, from 0 to 1; grows by stages, not by time.
    #[zbus(property, name = "Progress")]
    fn done(&self) -> f64 {
        self.progress().done
    }

    /// The error that the method would have returned; empty for none.
    #[zbus(property)]
    fn error_name(&self) -> String {
        self.progress().error.clone()
    }

    /// What the method would have returned, or the error's sentence; empty before the end.
    #[zbus(property)]
    fn result(&self) -> String {
        self.progress().result.clone()
    }

    /// The job has ended; `ErrorName` and `Result` say the same for a minute, for who came late.
    #[zbus(signal)]
    async fn completed(
        emitter: &SignalEmitter<'_>,
        success: bool,
        error_name: &str,
        result: &str,
    ) -> zbus::Result<()>;
}
