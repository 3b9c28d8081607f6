//! `virsh start` of a prepared guest in the lab, with the package's hook, with an empty script in its place and with none.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tests::lab::Lab;
use tests::lab::channel::Job;

use crate::measure::{Pair, Times};
use crate::process::Unavailable;
use crate::row::Row;

/// The lab for the measurement: it must run and have the package and the scenarios.
const NAME: &str = "bench";
const DEADLINE: Duration = Duration::from_secs(900);

pub(crate) fn rows() -> Vec<Row> {
    let work = "`virsh start` of a prepared guest, in the lab (emulated: about ten times slower than hardware)";
    let (none, script) = ("no hook at all", "an empty `bash` hook script");
    match printed() {
        Ok(printed) => vec![
            Row::ratio(work, none, 1.02, pair(&printed, "none ")),
            Row::compared(
                "the same",
                script,
                None,
                "at most the cost of a hook",
                pair(&printed, "script "),
            ),
        ],
        Err(error) => vec![Row::ratio(work, none, 1.02, Err(error))],
    }
}

/// The package's hook, compared with the alternative of this name.
fn pair(printed: &str, word: &str) -> Result<Pair> {
    Ok(Pair {
        ours: times(printed, "hook ")?,
        theirs: times(printed, word)?,
    })
}

fn printed() -> Result<String> {
    let lab = Lab::find(NAME)?.ok_or_else(|| {
        Unavailable(format!(
            "no lab: run 'tests/lab check --name {NAME} start' before"
        ))
    })?;
    let job = Job::new(include_str!("start.sh")).deadline(DEADLINE);
    let (status, printed) = job.collect(lab.state())?;
    ensure!(
        status == 0,
        "the script in the lab ends with {status}: {printed}"
    );
    Ok(printed)
}

fn times(printed: &str, word: &str) -> Result<Times> {
    let numbers = printed.lines().filter_map(|line| line.strip_prefix(word));
    let rounds: Option<Vec<Duration>> = numbers
        .map(|number| Some(Duration::from_nanos(number.parse().ok()?)))
        .collect();
    let rounds = rounds
        .filter(|rounds| !rounds.is_empty())
        .context("the lab prints no time")?;
    Ok(Times::of(&rounds))
}
