//! The list of jobs: limited for each caller and in total; a job is removed a minute after its end.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::name::JOBS;
use tracing::debug;
use zbus::message::Header;
use zbus::object_server::SignalEmitter;
use zbus::{Connection, OwnedObjectPath};

use super::{BusError, Job, Subject};
use crate::bus::caller;
use crate::progress;
use domain::code::Code;
use domain::refusal::Refusal;

/// Maximum number of unfinished jobs, for all callers and for one.
const LIMIT: usize = 32;
const LIMIT_OF_ONE: usize = 8;
/// Maximum number of jobs of one user except root that are unfinished or ended within the last minute: each job sends
/// signals, which stay in the bus until its clients read them.
const LIMIT_A_MINUTE: usize = 16;
/// Maximum number of ended jobs that are kept beside the unfinished ones.
const KEPT: usize = 32;

/// The jobs of a connection.
#[derive(Clone)]
pub struct Jobs {
    /// How long a job can be read after its end.
    pub kept: Duration,
    list: Arc<Mutex<List>>,
}

#[derive(Default)]
struct List {
    last: u32,
    jobs: BTreeMap<u32, Job>,
}

impl Default for Jobs {
    fn default() -> Self {
        Self {
            kept: Duration::from_secs(60),
            list: Arc::default(),
        }
    }
}

impl Jobs {
    /// Starts a job, and returns its path.
    pub(in crate::bus) async fn start(
        &self,
        connection: &Connection,
        header: &Header<'_>,
        subject: Subject,
        work: impl Future<Output = Result<String, BusError>> + Send + 'static,
    ) -> Result<OwnedObjectPath, BusError> {
        let job = Job::new(subject);
        let (number, oldest) = self.enter(&job)?;
        let server = connection.object_server();
        if let Some(oldest) = oldest {
            server.remove::<Job, _>(path(oldest)).await?;
        }
        let emitter = SignalEmitter::new(connection, path(number))?.into_owned();
        server.at(path(number), job.clone()).await?;
        let starter = match header.sender() {
            Some(sender) => emitter.clone().set_destination(sender.to_owned().into()),
            None => emitter.clone(),
        };
        let told = (emitter, starter);
        tokio::spawn(self.clone().see_through(told, number, job, work));
        let path = OwnedObjectPath::try_from(path(number));
        Ok(path?)
    }

    /// Number of unfinished jobs.
    #[must_use]
    pub fn under_way(&self) -> usize {
        self.list().under_way(|_| true)
    }

    async fn see_through(
        self,
        (emitter, starter): (SignalEmitter<'static>, SignalEmitter<'static>),
        number: u32,
        job: Job,
        work: impl Future<Output = Result<String, BusError>>,
    ) {
        let work = progress::heard(Arc::new(job.clone()), work);
        if let Err(error) = job.run(&emitter, &starter, work).await {
            debug!("cannot send the signals of job {number}: {error}");
        }
        tokio::time::sleep(self.kept).await;
        if self.list().jobs.remove(&number).is_some() {
            let server = emitter.connection().object_server();
            let _ = server.remove::<Job, _>(path(number)).await;
        }
    }

    /// The number of a new job, and that of an old one that is removed for it.
    fn enter(&self, job: &Job) -> Result<(u32, Option<u32>), Refusal> {
        let mut list = self.list();
        let owner = job.subject.owner;
        let own = list.under_way(|job| job.subject.owner == owner);
        let all = list.under_way(|_| true);
        // Other users cannot keep root from starting jobs.
        let is_root = owner.is_none_or(caller::is_root);
        if own >= LIMIT_OF_ONE || (all >= LIMIT && !is_root) {
            let reason = format!(
                "this caller has {own} unfinished jobs (limit {LIMIT_OF_ONE}), all callers have {all} (limit {LIMIT})"
            );
            let hint = "wait until one of them completes";
            return Err(Refusal::new(Code::JobsFull, reason, hint));
        }
        let recent = list.jobs.values().filter(|job| job.subject.owner == owner);
        if !is_root && recent.count() >= LIMIT_A_MINUTE {
            let reason = format!("this caller has started {LIMIT_A_MINUTE} jobs within a minute");
            return Err(Refusal::new(Code::JobsFull, reason, "wait a minute"));
        }
        // A new job of root removes the oldest ended one of any user; the limit for a minute bounds the jobs of the others.
        let mut ended = list.jobs.iter().filter(|(_, job)| job.state().is_end());
        let oldest = ended.next().map(|(number, _)| *number);
        let oldest = oldest.filter(|_| is_root && list.jobs.len() - all >= KEPT);
        if let Some(oldest) = oldest {
            list.jobs.remove(&oldest);
        }
        list.last += 1;
        let number = list.last;
        list.jobs.insert(number, job.clone());
        Ok((number, oldest))
    }

    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl List {
    fn under_way(&self, which: impl Fn(&Job) -> bool) -> usize {
        let jobs = self.jobs.values().filter(|job| !job.state().is_end());
        jobs.filter(|job| which(job)).count()
    }
}

fn path(number: u32) -> String {
    format!("{JOBS}{number}")
}
