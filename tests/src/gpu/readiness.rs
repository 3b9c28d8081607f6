//! The time at which the synthetic GPU becomes ready: some time after its last reset, at once, or never.
//!
//! A control file overrides the argument of the start, so that a test can change the time while the device is in use.

use std::cell::Cell;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::{Duration, Instant};

/// The delay after a reset until memory training and the chip link are reported as done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delay {
    /// This long after the last reset.
    After(Duration),
    /// This long after the first read since the last reset. The total time shows whether a driver waits for several devices at
    /// once or one after another.
    AfterLook(Duration),
    /// Never.
    Never,
}

impl FromStr for Delay {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |_| {
            format!(
                "'{text}' is neither 'never' nor a number of milliseconds, with 'asked' behind it or not"
            )
        };
        let milliseconds = |number: &str| number.parse().map(Duration::from_millis).map_err(wrong);
        match text.split_whitespace().collect::<Vec<_>>()[..] {
            ["never"] => Ok(Self::Never),
            [number, "asked"] => milliseconds(number).map(Self::AfterLook),
            _ => milliseconds(text.trim()).map(Self::After),
        }
    }
}

/// The delay and the time it counts from.
#[derive(Clone, Debug)]
pub struct Readiness {
    delay: Delay,
    control: Option<PathBuf>,
    since: Instant,
    looked: Cell<Option<Instant>>,
}

impl Readiness {
    /// Counts from now. `control` is a file holding `never`, milliseconds, or these and `asked`; no file means `delay`.
    pub fn new(delay: Delay, control: Option<PathBuf>) -> Self {
        Self {
            delay,
            control,
            since: Instant::now(),
            looked: Cell::new(None),
        }
    }

    /// Starts the delay again.
    pub fn restart(&mut self) {
        self.since = Instant::now();
        self.looked.set(None);
    }

    /// Whether the device is ready now.
    pub fn is_ready(&self) -> bool {
        let looked = self.looked.get().unwrap_or_else(Instant::now);
        self.looked.set(Some(looked));
        match self.controlled().unwrap_or(self.delay) {
            Delay::After(time) => self.since.elapsed() >= time,
            Delay::AfterLook(time) => looked.elapsed() >= time,
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
        assert_eq!(
            "1500 asked\n".parse(),
            Ok(Delay::AfterLook(Duration::from_millis(1500)))
        );
        for wrong in ["soon", "soon asked", "1500 then", ""] {
            assert!(wrong.parse::<Delay>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_delay_from_the_first_read_begins_after_a_reset() {
        let time = Duration::from_millis(40);
        let mut readiness = Readiness::new(Delay::AfterLook(time), None);
        for _ in 0..2 {
            std::thread::sleep(time);
            assert!(!readiness.is_ready());
            std::thread::sleep(time);
            assert!(readiness.is_ready());
            readiness.restart();
        }
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
