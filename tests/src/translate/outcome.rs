//! What came of a case, and of all of them together.

use std::fmt;

/// What came of one case for one target.
#[derive(Debug)]
pub enum Outcome {
    /// Translated, checked and started: what was found.
    Passed(String),
    /// Refused, as the golden files say.
    Refused,
    /// Failed, with the fault that the case is known to have.
    Known(String, anyhow::Error),
    /// Failed.
    Failed(anyhow::Error),
}

/// How many there were of each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    passed: usize,
    refused: usize,
    known: usize,
    failed: usize,
}

impl Tally {
    /// Counts one more.
    pub fn add(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Passed(_) => self.passed += 1,
            Outcome::Refused => self.refused += 1,
            Outcome::Known(..) => self.known += 1,
            Outcome::Failed(_) => self.failed += 1,
        }
    }

    /// Counts all of another.
    pub fn join(&mut self, other: Self) {
        self.passed += other.passed;
        self.refused += other.refused;
        self.known += other.known;
        self.failed += other.failed;
    }

    /// Nothing failed, and there was something that could.
    pub fn is_good(&self) -> bool {
        self.failed == 0 && self.passed + self.refused > 0
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed(found) => write!(f, "ok: {found}"),
            Self::Refused => f.write_str("refused, as its golden file says"),
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
    fn a_failure_or_nothing_at_all_is_not_good() {
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
