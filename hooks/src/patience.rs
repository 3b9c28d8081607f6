//! How long the agent may take: what it has published for `prepare`, which binds, and 20 s for the rest.
//!
//! libvirt sets its hook no time, so that this is the only limit.

use std::fs::File;
use std::io::{self, Read};
use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::call::Operation;

/// Seconds at `prepare` that are believed; where nothing is published the least.
const PREPARE: RangeInclusive<u64> = 60..=1500;

/// Seconds at all other operations. At `release` the agent goes on when libvirt does.
const OTHERS: u64 = 20;

/// Longer than any number that is believed, with its newline.
const LIMIT: u64 = 8;

/// How long the agent may take for `operation`, by `patience` in its run directory.
#[must_use]
pub fn limit(operation: Operation, run: &Path) -> Duration {
    Duration::from_secs(match operation {
        Operation::Prepare => published(&run.join("patience")),
        _ => OTHERS,
    })
}

fn published(path: &Path) -> u64 {
    let seconds = bounded(path).ok().and_then(|text| text.trim().parse().ok());
    let believed = seconds.filter(|seconds| PREPARE.contains(seconds));
    believed.unwrap_or(*PREPARE.start())
}

/// The text of a file that is short enough.
fn bounded(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(LIMIT).read_to_string(&mut text)?;
    match text.len() as u64 == LIMIT {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn at_prepare(published: &[u8]) -> u64 {
        let run = tempfile::tempdir().expect("run directory");
        fs::write(run.path().join("patience"), published).expect("patience");
        limit(Operation::Prepare, run.path()).as_secs()
    }

    #[test]
    fn a_guests_start_may_take_what_the_agent_says() {
        assert_eq!(at_prepare(b"607\n"), 607);
        assert_eq!(at_prepare(b"60"), 60);
        assert_eq!(at_prepare(b"1500\n"), 1500);
    }

    #[test]
    fn garbage_is_a_minute() {
        let endless = b"90\n".repeat(1 << 20);
        for garbage in [
            &b""[..],
            b"\n",
            b"soon",
            b"-90",
            b"59",
            b"1501",
            b"9e2",
            b"90 91",
            b"\xff\xfe",
            b"90     1500",
            &endless,
        ] {
            let start = &garbage[..garbage.len().min(16)];
            assert_eq!(at_prepare(garbage), 60, "{start:?}");
        }
        let nowhere = Path::new("/nonexistent");
        assert_eq!(limit(Operation::Prepare, nowhere).as_secs(), 60);
    }

    #[test]
    fn no_other_operation_waits_longer_than_before() {
        let run = tempfile::tempdir().expect("run directory");
        fs::write(run.path().join("patience"), "1500").expect("patience");
        for operation in [
            Operation::Start,
            Operation::Stopped,
            Operation::Release,
            Operation::Reconnect,
            Operation::Restore,
        ] {
            let limit = limit(operation, run.path());
            assert_eq!(limit.as_secs(), 20, "{operation:?}");
        }
    }
}
