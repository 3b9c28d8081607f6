//! A row of the table: the work, the other tool, the target and the result.

use anyhow::Error;

use crate::instructions::Instructions;
use crate::measure::{Pair, digits};
use crate::process::Unavailable;

/// One measurement.
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) beside: String,
    pub(crate) reach: String,
    pub(crate) found: Found,
}

/// The result of a measurement.
pub(crate) enum Found {
    /// Times of variantd and of the other tool in milliseconds, and whether the ratio meets its target, if it has one.
    Pair {
        pair: Pair,
        ratio: f64,
        met: Option<bool>,
    },
    /// Instructions of variantd and of the other tool.
    Instructions(Instructions),
    /// Another result, as text.
    Words { text: String, met: bool },
    /// Skipped, with the reason.
    Absent(String),
    /// Failed: the timed work had a wrong result.
    Failed(String),
}

impl Row {
    /// A ratio of medians with the target "at most `limit`".
    pub(crate) fn ratio(work: &str, beside: &str, limit: f64, pair: anyhow::Result<Pair>) -> Self {
        Self::compared(work, beside, Some(limit), &format!("at most {limit}"), pair)
    }

    /// A ratio of medians with a target as text; without a limit it is never missed.
    pub(crate) fn compared(
        work: &str,
        beside: &str,
        limit: Option<f64>,
        reach: &str,
        pair: anyhow::Result<Pair>,
    ) -> Self {
        let found = match pair {
            Ok(pair) => {
                let ratio = pair.ratio();
                let met = limit.map(|limit| ratio <= limit);
                Found::Pair { pair, ratio, met }
            }
            Err(error) => Found::of_error(&error),
        };
        let [work, beside, reach] = [work, beside, reach].map(str::to_owned);
        Self {
            work,
            beside,
            reach,
            found,
        }
    }

    /// Instructions, without a target: `--check` compares them with the table of expected results.
    pub(crate) fn instructions(
        work: &str,
        beside: &str,
        counted: anyhow::Result<Instructions>,
    ) -> Self {
        Self {
            work: format!("{work}: instructions"),
            beside: beside.to_owned(),
            reach: "-".to_owned(),
            found: match counted {
                Ok(counted) => Found::Instructions(counted),
                Err(error) => Found::of_error(&error),
            },
        }
    }

    /// A result with a verdict by the code that measured it.
    pub(crate) fn words(
        work: &str,
        beside: &str,
        reach: &str,
        found: anyhow::Result<(String, bool)>,
    ) -> Self {
        Self {
            work: work.to_owned(),
            beside: beside.to_owned(),
            reach: reach.to_owned(),
            found: match found {
                Ok((text, met)) => Found::Words { text, met },
                Err(error) => Found::of_error(&error),
            },
        }
    }

    /// The columns: work, other tool, time of variantd, time of the other tool, ratio, target, whether it is met.
    pub(crate) fn cells(&self) -> [String; 7] {
        let none = || "-".to_owned();
        let (ours, theirs, ratio, verdict) = match &self.found {
            Found::Pair { pair, ratio, met } => (
                pair.ours.words(),
                pair.theirs.words(),
                digits(*ratio),
                met.map_or_else(none, word),
            ),
            Found::Instructions(Instructions { ours, theirs }) => (
                format!("{ours} instructions"),
                theirs.map_or_else(none, |theirs| format!("{theirs} instructions")),
                theirs.map_or_else(none, |theirs| digits(*ours as f64 / theirs as f64)),
                none(),
            ),
            Found::Words { text, met } => (text.clone(), none(), none(), word(*met)),
            Found::Absent(why) => (format!("not run here: {why}"), none(), none(), none()),
            Found::Failed(why) => (format!("failed: {why}"), none(), none(), word(false)),
        };
        let (work, beside, reach) = (self.work.clone(), self.beside.clone(), self.reach.clone());
        [work, beside, ours, theirs, ratio, reach, verdict]
    }
}

impl Found {
    pub(crate) fn of_error(error: &Error) -> Self {
        let text = format!("{error:#}").replace('\n', " ");
        match error.chain().any(|cause| cause.is::<Unavailable>()) {
            true => Self::Absent(text),
            false => Self::Failed(text),
        }
    }
}

fn word(met: bool) -> String {
    if met { "yes" } else { "**no**" }.to_owned()
}
