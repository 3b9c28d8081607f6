//! Runs the commands of a new user in the emulated host and writes them as a page of the documentation.
//!
//! Each command must exit with the status in the script. The output is shown and not compared, because Debian testing changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::channel::Job;
use super::check::{self, INSIDE};
use super::host::Lab;

/// The page: text, commands and their output.
pub struct Walk {
    text: String,
}

/// Runs the commands and prints the page.
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
    /// Writes the page.
    pub fn write(&self) -> Result<()> {
        let page = page();
        fs::write(&page, &self.text).with_context(|| format!("cannot write '{}'", page.display()))
    }

    /// Whether the stored page is equal; prints the first different line.
    pub fn compare(&self) -> Result<bool> {
        let page = page();
        let kept = fs::read_to_string(&page)
            .with_context(|| format!("cannot read '{}'", page.display()))?;
        let Some((kept, now)) = difference(&kept, &self.text) else {
            return Ok(true);
        };
        eprintln!(
            "lab: '{}' is outdated: it has '{kept}', now it is '{now}'; run 'tests/lab demo --write'",
            page.display()
        );
        Ok(false)
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/doc/first-hour.md")
}

/// The first different headings or commands. Output is ignored, because it differs with every version of libvirt.
fn difference<'a>(kept: &'a str, now: &'a str) -> Option<(&'a str, &'a str)> {
    let (kept, now) = (steps(kept), steps(now));
    let count = kept.len().max(now.len());
    let step = |steps: &[&'a str], index| steps.get(index).copied().unwrap_or("nothing");
    let mut pairs = (0..count).map(|index| (step(&kept, index), step(&now, index)));
    pairs.find(|(kept, now)| kept != now)
}

fn steps(text: &str) -> Vec<&str> {
    let is_step = |line: &&str| line.starts_with(['#']) || line.starts_with("    $ ");
    text.lines().filter(is_step).map(str::trim).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_output_of_a_command_is_not_compared() {
        let page =
            |version: &str| format!("# Walk\n\n    $ virsh version\n    libvirt {version}\n");
        assert_eq!(difference(&page("12.8.0"), &page("12.9.0")), None);
    }

    #[test]
    fn another_command_or_one_more_is() {
        assert_eq!(difference("    $ a\n", "    $ b\n"), Some(("$ a", "$ b")));
        assert_eq!(
            difference("# a\n", "# a\n    $ b\n"),
            Some(("nothing", "$ b"))
        );
    }
}
