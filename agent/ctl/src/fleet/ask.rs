//! Plans for thousands of hosts in parallel: each host is read, planned for and dropped, so that only the answers stay in memory.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use kernel_glue::capacity::Capacity;
use kernel_glue::host::Host;

use super::{Answer, Finding, Question, Shape};
use agent::snapshot::{Runs, Snapshot};
use agent::stack::recorded::recorded;
use domain::code::Code;
use domain::refusal::Refusal;

/// Between two updates of the progress bar.
const TICK: Duration = Duration::from_millis(100);

/// The answer for one host.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    /// The added elements; equal shapes are shared. `None` when the guest does not fit.
    pub shape: Option<Arc<Shape>>,
    /// The findings.
    pub findings: Vec<Finding>,
}

/// Plans for the hosts in parallel; the answers are in their order. `tick` gets the number of finished hosts from
/// time to time.
pub(crate) fn ask(
    hosts: &[PathBuf],
    question: &Question<'_>,
    mut tick: impl FnMut(usize),
) -> Vec<Asked> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let shapes = Mutex::new(BTreeSet::new());
    let caller = thread::current();
    let work = || {
        let mut answers = Vec::new();
        while let Some((index, host)) = taken(hosts, &next) {
            answers.push((index, kept(question_of(question, host), &shapes)));
            // Otherwise the caller would sleep until its next update.
            if done.fetch_add(1, Ordering::Relaxed) + 1 == hosts.len() {
                caller.unpark();
            }
        }
        answers
    };
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let mut answers = thread::scope(|scope| {
        let started: Vec<_> = (0..workers.min(hosts.len()))
            .map(|_| scope.spawn(work))
            .collect();
        while started.iter().any(|worker| !worker.is_finished()) {
            tick(done.load(Ordering::Relaxed));
            thread::park_timeout(TICK);
        }
        let joined = started.into_iter().map(thread::ScopedJoinHandle::join);
        joined
            // A panic must not become a host without an answer.
            .flat_map(|answers| answers.unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect::<Vec<_>>()
    });
    tick(hosts.len());
    answers.sort_by_key(|(index, _)| *index);
    answers.into_iter().map(|(_, asked)| asked).collect()
}

fn taken<'a>(hosts: &'a [PathBuf], next: &AtomicUsize) -> Option<(usize, &'a Path)> {
    let index = next.fetch_add(1, Ordering::Relaxed);
    Some((index, hosts.get(index)?))
}

fn question_of(question: &Question<'_>, host: &Path) -> Answer {
    match read(host, question.needs_capacity()) {
        Ok((host, capacity, runs)) => question.of(&host, capacity.as_ref(), runs),
        Err(refusal) => Answer {
            shape: None,
            findings: vec![refusal.into()],
        },
    }
}

/// A snapshot, or a recorded host.
fn read(path: &Path, capacity: bool) -> Result<(Host, Option<Capacity>, Runs), Refusal> {
    if !path.is_dir() {
        let snapshot = Snapshot::read(path)?;
        return Ok((snapshot.host, snapshot.capacity, snapshot.target));
    }
    let host = Host::read(path).map_err(|failure| {
        let hint = "name snapshots, or directories of recorded hosts";
        Refusal::new(Code::SnapshotUnreadable, failure.to_string(), hint)
    })?;
    let mut runs = Runs::default();
    if let Some(stack) = recorded(path)? {
        runs.set_pair(stack);
    }
    let read = || Capacity::read(path, &host.numa).ok();
    let capacity = capacity.then(read).flatten();
    Ok((host, capacity, runs))
}

/// Shares equal shapes: a fleet has few kinds of hosts.
fn kept(answer: Answer, shapes: &Mutex<BTreeSet<Arc<Shape>>>) -> Asked {
    let Answer { shape, findings } = answer;
    let shape = shape.map(|shape| {
        // Insertion is the only change, so the set is whole also after a panic of another worker.
        let mut shapes = shapes.lock().unwrap_or_else(PoisonError::into_inner);
        match shapes.get(&shape) {
            Some(known) => known.clone(),
            None => {
                let shape = Arc::new(shape);
                shapes.insert(shape.clone());
                shape
            }
        }
    });
    Asked { shape, findings }
}
