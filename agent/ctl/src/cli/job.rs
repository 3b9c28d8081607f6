//! Calls that change something: on a terminal as jobs, whose stages the line of progress shows.
//!
//! ```text
//! terminal -> StartJob -> read State and Stage, after each signal and each second -> its end -> Result
//! none, or too many jobs -> the method itself
//! ```

use std::time::Duration;

use api::again::{Effect, again};
use api::client::{Fault, JobProxy, ManagerProxy, Options, next};
use domain::code::Code;
use serde_json::Value;
use tokio::time::timeout;
use zbus::proxy::CacheProperties;
use zbus::{Connection, OwnedObjectPath};

use super::domain::{self as agent, problem, runtime, unread};
use super::problem::Problem;
use super::progress::{self, Progress};

/// How long a signal of the job is waited for, before its state is read anyway: an agent that was killed sends none.
const PAUSE: Duration = Duration::from_secs(1);

/// Why a job has no result.
enum Failed {
    /// It was not started, because there are too many.
    Full,
    Other(Problem),
}

/// Performs `operation` on `subject`, and returns its JSON; `direct` is the call of the method.
///
/// `options` may have `refusal`, which the method knows and a job does not.
pub(super) fn ask(
    operation: &str,
    subject: &str,
    options: &Options<'_>,
    direct: impl AsyncFn(&ManagerProxy<'_>, Options<'_>) -> zbus::Result<String>,
) -> Result<Value, Problem> {
    if progress::is_shown() {
        match run(operation, subject, options) {
            Err(Failed::Full) => {}
            Err(Failed::Other(problem)) => return Err(problem),
            Ok(text) => return serde_json::from_str(&text).map_err(unread),
        }
    }
    agent::ask(Effect::Changes, async |manager| {
        direct(manager, options.clone()).await
    })
}

fn run(operation: &str, subject: &str, options: &Options<'_>) -> Result<String, Failed> {
    let runtime = runtime().map_err(Failed::Other)?;
    let progress = Progress::begin("waiting for variantd");
    let mut options = options.clone();
    options.remove("refusal");
    let start = async || {
        let connection = Connection::system().await?;
        let manager = ManagerProxy::new(&connection).await?;
        let job = manager.start_job(operation, subject, options.clone());
        Ok((connection.clone(), job.await?))
    };
    runtime.block_on(async {
        let (connection, job) = again(Effect::Changes, start).await?;
        let ended = follow(&connection, job, &progress).await;
        // The agent that ran the job is gone, or the connection is.
        let lost = |error: zbus::Error| Fault::Unanswered(error.to_string());
        let ended = ended.map_err(lost).and_then(|result| result);
        ended.map_err(|fault| Failed::Other(problem(fault)))
    })
}

/// Shows the stages of a job until its end, and returns its result.
async fn follow(
    connection: &Connection,
    job: OwnedObjectPath,
    progress: &Progress,
) -> zbus::Result<Result<String, Fault>> {
    let job = JobProxy::builder(connection).path(job);
    let job = job.cache_properties(CacheProperties::No).build().await?;
    // Before the state is read: an end between the two is then seen.
    let mut ends = job.receive_completed().await?;
    loop {
        match &*job.state().await? {
            "done" => return Ok(Ok(job.result().await?)),
            "failed" | "cancelled" => {
                let (name, text) = (job.error_name().await?, job.result().await?);
                return Ok(Err(Fault::named(&name, text)));
            }
            _ => progress.stage(&job.stage().await?),
        }
        let _ = timeout(PAUSE, next(&mut ends)).await;
    }
}

impl From<zbus::Error> for Failed {
    fn from(error: zbus::Error) -> Self {
        match Fault::from(error) {
            Fault::Refused(words) if words.code == Some(Code::JobsFull) => Self::Full,
            fault => Self::Other(problem(fault)),
        }
    }
}
