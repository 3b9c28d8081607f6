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
const DEADLINE: Duration = Duration::from_secs(1800);
/// With fewer pairs there is no such interval.
const FEWEST: usize = 6;

pub(crate) fn rows() -> Vec<Row> {
    let work = "`virsh start` of a prepared guest, in the lab (emulated: about ten times slower than hardware)";
    let (none, script) = ("no hook at all", "an empty `bash` hook script");
    match printed() {
        Ok(printed) => vec![
            Row::ratio(work, none, 1.02, pair(&printed, "none ")),
            Row::words(
                "the same, difference of each pair",
                script,
                "0 is in the confidence interval, or above it",
                difference(&printed),
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

/// The median of the differences in turns, and its confidence interval of 95 %, by order statistics: it is free of assumptions
/// about the distribution.
fn difference(printed: &str) -> Result<(String, bool)> {
    let (ours, theirs) = (numbers(printed, "hook ")?, numbers(printed, "script ")?);
    let pairs = ours.iter().zip(&theirs);
    let mut differences: Vec<f64> = pairs
        .map(|(our, their)| (our.as_secs_f64() - their.as_secs_f64()) * 1e3)
        .collect();
    differences.sort_by(f64::total_cmp);
    let count = differences.len();
    ensure!(count >= FEWEST, "{count} pairs");
    let outside = ((count as f64 - 1.96 * (count as f64).sqrt()) / 2.0).floor() as usize;
    let (low, high) = (differences[outside], differences[count - 1 - outside]);
    let median = f64::midpoint(differences[(count - 1) / 2], differences[count / 2]);
    let text =
        format!("{median:.0} ms; confidence interval {low:.0} to {high:.0} ms, {count} pairs");
    Ok((text, low <= 0.0))
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
    numbers(printed, word).map(|rounds| Times::of(&rounds))
}

/// In the order in which they were measured.
fn numbers(printed: &str, word: &str) -> Result<Vec<Duration>> {
    let numbers = printed.lines().filter_map(|line| line.strip_prefix(word));
    let rounds: Option<Vec<Duration>> = numbers
        .map(|number| Some(Duration::from_nanos(number.parse().ok()?)))
        .collect();
    rounds
        .filter(|rounds| !rounds.is_empty())
        .context("the lab prints no time")
}
