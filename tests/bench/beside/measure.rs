//! Rounds of one piece of work, ours and theirs in turn, and what they took.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};

/// Rounds before the first that counts: they fill caches.
const WARM_UP: usize = 3;

/// Rounds are divided by this: see `--quick`.
static DIVISOR: AtomicUsize = AtomicUsize::new(1);

/// From now on a tenth of the rounds.
pub(crate) fn quick() {
    DIVISOR.store(10, Ordering::Relaxed);
}

/// How long each round took, shortest first, in milliseconds.
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

    /// The time that this part of the rounds did not exceed.
    pub(crate) fn quantile(&self, part: f64) -> f64 {
        let last = self.0.len().saturating_sub(1);
        let index = (part * last as f64).ceil() as usize;
        self.0.get(index.min(last)).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Shortest, median and longest, as a table has them.
    pub(crate) fn words(&self) -> String {
        let three = [self.quantile(0.0), self.median(), self.quantile(1.0)];
        three.map(digits).join(" / ")
    }
}

/// Three digits that say something.
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

/// Takes turns: each function does its work once, checks what came of it and says how long the work took.
pub(crate) fn alternate(
    rounds: usize,
    mut ours: impl FnMut() -> Result<Duration>,
    mut theirs: impl FnMut() -> Result<Duration>,
) -> Result<Pair> {
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    let rounds = (rounds / DIVISOR.load(Ordering::Relaxed)).max(3);
    for round in 0..rounds + WARM_UP {
        // The second program benefits from the caches that the first one filled, so they alternate.
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
