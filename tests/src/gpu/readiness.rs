//! When the synthetic GPU counts as ready: some time after its last reset, at once, or never.
//!
//! A control file, if there is one, overrides what was given at the start, so that a test can change it while the device is in use.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// How long after a reset memory training and the chip link are reported as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// This long after the last reset.
    After(Duration),
    /// Never.
    Never,
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim() {
            "never" => Ok(Self::Never),
            number => number
                .parse()
                .map(|milliseconds| Self::After(Duration::from_millis(milliseconds)))
                .map_err(|_| format!("'{number}' is neither 'never' nor a number of milliseconds")),
        }
    }
}

/// The delay and the time it counts from.
#[derive(Clone, Debug)]
pub struct Readiness {
    delay: Delay,
    control: Option<PathBuf>,
    since: Instant,
}

impl Readiness {
    /// Counts from now. `control` is a file holding `never` or milliseconds; no file means `delay`.
    pub fn new(delay: Delay, control: Option<PathBuf>) -> Self {
        Self {
            delay,
            control,
            since: Instant::now(),
        }
    }

    /// Starts the delay again.
    pub fn restart(&mut self) {
        self.since = Instant::now();
    }

    /// Whether the device is ready now.
    pub fn is_ready(&self) -> bool {
        match self.controlled().unwrap_or(self.delay) {
            Delay::After(time) => self.since.elapsed() >= time,
            Delay::Never => false,
        }
    }

    fn controlled(&self) -> Option<Delay> {
        let text = std::fs::read_to_string(self.control.as_ref()?).ok()?;
        match text.parse() {
            Ok(delay) => Some(delay),
            Err(reason) => {
                eprintln!("lab-gpu: ignoring the control file: {reason}");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delay_is_never_or_milliseconds() {
        assert_eq!("never\n".parse(), Ok(Delay::Never));
        assert_eq!(
            "1500".parse(),
            Ok(Delay::After(Duration::from_millis(1500)))
        );
        assert!("soon".parse::<Delay>().is_err());
    }

    #[test]
    fn a_control_file_overrides_the_delay_while_it_exists() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("gpu0");
        let readiness = Readiness::new(Delay::After(Duration::ZERO), Some(file.clone()));
        assert!(readiness.is_ready());
        std::fs::write(&file, "never\n").expect("a writable folder");
        assert!(!readiness.is_ready());
        std::fs::remove_file(&file).expect("the file just written");
        assert!(readiness.is_ready());
    }
}
