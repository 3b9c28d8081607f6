//! The outcome of a case, and the counts of all outcomes.

use std::fmt;

/// The outcome of one case for one target.
#[derive(Debug)]
pub enum Outcome {
    /// Translated, checked and started, with a summary.
    Passed(String),
    /// Refused, as in the golden files.
    Refused,
    /// Failed with the known fault of the case.
    Known(String, anyhow::Error),
    /// Failed.
    Failed(anyhow::Error),
}

/// The number of each outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    refused: usize,
    known: usize,
    failed: usize,
}

impl Tally {
    /// Counts an outcome.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed(_) => self.passed += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Known(..) => self.known += 1,
            Outcome::Failed(_) => self.failed += 1,
        }
    }

    /// Adds other counts.
    pub fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.refused += other.refused;
        self.known += other.known;
        self.failed += other.failed;
    }

    /// Whether no case failed and at least one was run.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed + self.refused > 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(found) => write!(f, "ok: {found}"),
            Self::Refused => f.write_str("refused, as in its golden file"),
            Self::Known(fault, error) => {
                let error = format!("{error:#}");
                let first = error.lines().next().unwrap_or_default();
                write!(f, "known fault: {fault}: {first}")
            }
            Self::Failed(error) => write!(f, "FAILED: {error:#}"),
        }
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} translated and started, {} refused as planned, {} with a known fault, {} failed",
            self.passed, self.refused, self.known, self.failed
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_or_no_case_is_not_good() {
        let mut tally = Tally::default();
        assert!(!tally.is_good());
        tally.add(&Outcome::Known("odd".into(), anyhow::anyhow!("why")));
        assert!(!tally.is_good());
        tally.add(&Outcome::Refused);
        tally.add(&Outcome::Passed("9 nodes".into()));
        assert!(tally.is_good());
        let mut other = Tally::default();
        other.add(&Outcome::Failed(anyhow::anyhow!("why")));
        tally.join(other);
        assert!(!tally.is_good());
        assert_eq!(
            tally.to_string(),
            "1 translated and started, 1 refused as planned, 1 with a known fault, 1 failed"
        );
    }
}
