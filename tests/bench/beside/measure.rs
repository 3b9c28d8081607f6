//! Runs rounds of the same work with variantd and with the other tool in turn, and measures their times.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// Warm-up rounds, which fill caches and do not count.
const WARM_UP: usize = 3;

/// Rounds are divided by this: see `--quick`.
static DIVISOR: AtomicUsize = AtomicUsize::new(1);

/// Reduces the following measurements to a tenth of the rounds.
pub(crate) fn quick() {
    DIVISOR.store(10, Ordering::Relaxed);
}

/// The time of each round in milliseconds, shortest first.
#[derive(Clone, Debug)]
pub(crate) struct Times(Vec<f64>);

/// Both sides of a comparison.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) ours: Times,
    pub(crate) theirs: Times,
}

impl Times {
    pub(crate) fn of(rounds: &[Duration]) -> Self {
        let mut times: Vec<f64> = rounds.iter().map(|one| one.as_secs_f64() * 1e3).collect();
        times.sort_by(f64::total_cmp);
        Self(times)
    }

    /// The quantile of the times for this part of the rounds.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = (part * last as f64).ceil() as usize;
        self.0.get(index.min(last)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Shortest, median and longest, as text for the table.
    pub(crate) fn words(&self) -> String {
        let three = [self.quantile(0.0), self.median(), self.quantile(1.0)];
        three.map(digits).join(" / ")
    }
}

/// A number with three significant digits.
pub(crate) fn digits(number: f64) -> String {
    match number {
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        n if n >= 1.0 => format!("{n:.2}"),
        n => format!("{n:.3}"),
    }
}

impl Pair {
    /// Ours by theirs, of the medians.
    pub(crate) fn ratio(&self) -> f64 {
        self.ours.median() / self.theirs.median()
    }
}

/// Calls the functions in turn. Each does its work once, checks the result and returns the time of the work.
pub(crate) fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> Result<Duration>,
    mut theirs: impl FnMut() -> Result<Duration>,
) -> Result<Pair> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    let rounds = (rounds / DIVISOR.load(Ordering::Relaxed)).max(3);
    for round in 0..rounds + WARM_UP {
        // The second one benefits from the caches that the first one filled, so the order alternates.
        let (our, their) = match round % 2 {
            0 => (ours(), theirs()),
            _ => {
                let their = theirs();
                (ours(), their)
            }
        };
        let (our, their) = (our.context("our round")?, their.context("their round")?);
        if round >= WARM_UP {
            our_times.push(our);
            their_times.push(their);
        }
    }
    Ok(Pair {
        ours: Times::of(&our_times),
        theirs: Times::of(&their_times),
    })
}
