//! A row of the table: work, what it is beside, what is to be reached and what was found.

use anyhow::Error;

use crate::measure::{Pair, digits};
use crate::process::Unavailable;

/// One measurement.
pub(crate) struct Row {
    pub(crate) work: String,
    pub(crate) beside: String,
    pub(crate) reach: String,
    pub(crate) found: Found,
}

/// What a measurement gave.
pub(crate) enum Found {
    /// Ours and theirs, milliseconds; and whether the ratio is within reach, if one is set.
    Pair {
        pair: Pair,
        ratio: f64,
        met: Option<bool>,
    },
    /// Something else, in words.
    Words { text: String, met: bool },
    /// Not run here, and why.
    Absent(String),
    /// It went wrong: what was timed did not do its work.
    Failed(String),
}

impl Row {
    /// A ratio of medians that is to be at most `limit`.
    pub(crate) fn ratio(work: &str, beside: &str, limit: f64, pair: anyhow::Result<Pair>) -> Self {
        Self::compared(work, beside, Some(limit), &format!("at most {limit}"), pair)
    }

    /// A ratio of medians with a reach in words; nothing is missed without a limit.
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

    /// Something that is judged where it is measured.
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

    /// The columns: work, beside, ours, theirs, ratio, reach, whether it is reached.
    pub(crate) fn cells(&self) -> [String; 7] {
        let none = || "-".to_owned();
        let (ours, theirs, ratio, verdict) = match &self.found {
            Found::Pair { pair, ratio, met } => (
                pair.ours.words(),
                pair.theirs.words(),
                digits(*ratio),
                met.map_or_else(none, word),
            ),
            Found::Words { text, met } => (text.clone(), none(), none(), word(*met)),
            Found::Absent(why) => (format!("not run here: {why}"), none(), none(), none()),
            Found::Failed(why) => (format!("failed: {why}"), none(), none(), word(false)),
        };
        let (work, beside, reach) = (self.work.clone(), self.beside.clone(), self.reach.clone());
        [work, beside, ours, theirs, ratio, reach, verdict]
    }

    /// True where the reach was missed or what was timed went wrong.
    pub(crate) fn is_missed(&self) -> bool {
        match &self.found {
            Found::Pair { met, .. } => *met == Some(false),
            Found::Words { met, .. } => !met,
            Found::Failed(_) => true,
            Found::Absent(_) => false,
        }
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
