//! The first hour of a new user, walked in the emulated host and kept as a page of the documentation.
//!
//! Versions are not compared: Debian testing moves on, and the page is right all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::channel::Job;
use super::check::{self, INSIDE};
use super::host::Lab;

/// What was said and printed on the way.
pub struct Walk {
    text: String,
}

/// Walks, and shows the page.
pub fn take(lab: &Lab, deadline: Duration) -> Result<Walk> {
    check::push(lab)?;
    let job = Job::new(format!("cd {INSIDE}/demo && exec bash tour.sh")).deadline(deadline);
    let (status, text) = job.collect(lab.state())?;
    print!("{text}");
    match status {
        0 => Ok(Walk { text }),
        status => bail!("the walk ended with status {status}"),
    }
}

impl Walk {
    /// Makes it the page.
    pub fn write(&self) -> Result<()> {
        let page = page();
        fs::write(&page, &self.text).with_context(|| format!("cannot write '{}'", page.display()))
    }

    /// Whether the page says the same; shows the first line that differs.
    pub fn compare(&self) -> Result<bool> {
        let page = page();
        let kept = fs::read_to_string(&page)
            .with_context(|| format!("cannot read '{}'", page.display()))?;
        let Some((kept, now)) = difference(&kept, &self.text) else {
            return Ok(true);
        };
        eprintln!(
            "lab: '{}' is old: it says '{kept}', now it is '{now}'; run 'tests/lab demo --write'",
            page.display()
        );
        Ok(false)
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/doc/first-hour.md")
}

/// The first lines that differ in more than a version.
fn difference<'a>(kept: &'a str, now: &'a str) -> Option<(&'a str, &'a str)> {
    let count = kept.lines().count().max(now.lines().count());
    let padded = |text: &'a str| text.lines().chain(std::iter::repeat("")).take(count);
    let mut pairs = padded(kept).zip(padded(now));
    pairs.find(|(kept, now)| unversioned(kept) != unversioned(now))
}

/// The text with each number that has a dot in it replaced by one word, however long the number is.
fn unversioned(line: &str) -> String {
    let versioned = |word: &&str| {
        word.contains('.') && !word.contains(':') && word.starts_with(|c: char| c.is_ascii_digit())
    };
    let words = line.split(|c: char| c.is_whitespace() || "(),;'/=".contains(c));
    let words = words.filter(|word| !word.is_empty());
    let words = words.map(|word| if versioned(&word) { "VERSION" } else { word });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_version_is_no_difference() {
        assert_eq!(
            difference("libvirt 12.8.0, QEMU 11.1", "libvirt 12.9.0, QEMU 11.2.50"),
            None
        );
    }

    #[test]
    fn another_word_or_one_line_more_is() {
        assert_eq!(difference("a\nPASS", "a\nFAIL"), Some(("PASS", "FAIL")));
        assert_eq!(difference("a", "a\nb"), Some(("", "b")));
    }

    #[test]
    fn an_address_with_a_dot_in_it_is_no_version() {
        assert!(difference("0000:21:00.0", "0000:41:00.0").is_some());
    }
}
