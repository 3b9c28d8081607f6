//! Fields for systemd's journal: the device and domain of each line, and a message id with an entry in the catalogue
//! (`variantd.catalog`, systemd.journal-fields(7)).
//!
//! Events carry `variantd_device`, `variantd_domain` and `message_id`; the journal has them in capitals, other logs
//! have only the line.

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::registry::LookupSpan;

/// A device was bound to the wanted driver.
pub const BOUND: &str = "b9a1c3de5f0742d8a6c41e8f7d2b9350";
/// A device's previous driver was restored.
pub const GIVEN_BACK: &str = "4c7e0f2b81d3495e9ab6d05f3e7c1824";
/// A device could not be released.
pub const NOT_GIVEN_BACK: &str = "e2d85a7719f04b6c8c3f6b0a94d17e53";
/// A guest's start, or its release, was refused.
pub const REFUSED: &str = "70b4f6c2a95e4d1fb83d2c7e16a0f948";
/// A definition was completed.
pub const PREPARED: &str = "1d93e7a0c64f4f2d95b8a71c0e5d36fb";
/// A definition could not be completed.
pub const NOT_PREPARED: &str = "8f25b6d1e30c47a9bd14e9f7608c2a35";
/// A reservation is not in force.
pub const NOT_RESERVED: &str = "c5094ea7d28b4b61a7f3108e6b9d54c2";

/// A layer that writes to the journal; `None` if standard error is not the journal's, or there is no journal.
#[must_use]
pub fn layer<S>() -> Option<Box<dyn Layer<S> + Send + Sync>>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    let stream = std::env::var("JOURNAL_STREAM").ok()?;
    if !is_stream(&stream, io::stderr()) {
        return None;
    }
    let layer = tracing_journald::layer().ok()?.with_field_prefix(None);
    Some(Box::new(layer.with_syslog_identifier("variantd".into())))
}

/// `JOURNAL_STREAM` has device and inode of the stream that goes to the journal.
fn is_stream(stream: &str, file: impl AsFd) -> bool {
    let Ok(found) = fstat(file) else { return false };
    stream == format!("{}:{}", found.st_dev, found.st_ino)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_stream_of_the_journal_is_the_journals() {
        let file = tempfile::tempfile().expect("file");
        let found = fstat(&file).expect("status");
        let (device, inode) = (found.st_dev, found.st_ino);
        assert!(is_stream(&format!("{device}:{inode}"), &file));
        assert!(!is_stream(&format!("{device}:{}", inode + 1), &file));
        assert!(!is_stream("", &file));
    }

    #[test]
    fn each_message_id_has_an_entry_in_the_catalogue_and_no_other_has() {
        let catalogue = include_str!("../../packaging/journal/variantd.catalog");
        let entries = catalogue
            .lines()
            .filter_map(|line| line.strip_prefix("-- "));
        let mut entries: Vec<&str> = entries.collect();
        let mut ids = [
            BOUND,
            GIVEN_BACK,
            NOT_GIVEN_BACK,
            REFUSED,
            PREPARED,
            NOT_PREPARED,
            NOT_RESERVED,
        ];
        entries.sort_unstable();
        ids.sort_unstable();
        assert_eq!(entries, ids);
        for id in ids {
            assert_eq!((id.len(), id.to_lowercase()), (32, id.to_owned()));
        }
        assert_eq!(catalogue.matches("Defined-By: variantd").count(), ids.len());
    }
}
