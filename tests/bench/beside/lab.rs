//! `virsh start` of a prepared guest in the lab, with the package's hook and with none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::lab::Lab;
use tests::lab::channel::Job;

use crate::measure::{Pair, Times};
use crate::process::Unavailable;
use crate::row::Row;

/// The lab to measure in: it must be up, with the package and the scenarios in it.
const NAME: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(900);

pub(crate) fn rows() -> Vec<Row> {
    let work =
        "`virsh start` of a prepared guest, in the lab (emulated: an order slower than hardware)";
    vec![Row::ratio(work, "no hook at all", 1.02, start())]
}

fn start() -> Result<Pair> {
    let lab = Lab::find(NAME)?.ok_or_else(|| {
        Unavailable(format!(
            "no lab: run 'tests/lab check --name {NAME} 20-start' before"
        ))
    })?;
    let job = Job::new(include_str!("start.sh")).deadline(DEADLINE);
    let (status, said) = job.collect(lab.state())?;
    ensure!(
        status == 0,
        "the script in the lab ends with {status}: {said}"
    );
    let ours = times(&said, "hook ")?;
    Ok(Pair {
        ours,
        theirs: times(&said, "none ")?,
    })
}

fn times(said: &str, word: &str) -> Result<Times> {
    let numbers = said.lines().filter_map(|line| line.strip_prefix(word));
    let rounds: Option<Vec<Duration>> = numbers
        .map(|number| Some(Duration::from_nanos(number.parse().ok()?)))
        .collect();
    let rounds = rounds
        .filter(|rounds| !rounds.is_empty())
        .context("the lab says no time")?;
    Ok(Times::of(&rounds))
}
