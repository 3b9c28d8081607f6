//! VDSM's hook contract, before_vm_start and before_vm_migrate_destination: `_hook_domxml` names a file with the
//! domain, which the hook completes in place.
//!
//! Exit: 0 success, 2 failure. VDSM starts no guest after 1 or 2, and shows standard error. After 1 it runs the remaining hooks
//! and shows the last one's standard error, which is mostly empty, so this hook exits with 2. Follows VDSM's lib/vdsm/common/hooks.py.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use domain::printable::Printable;
use hooks::agent::Reply;
use hooks::answer::MISSING;
use hooks::input::{self, Input, Unreadable};
use hooks::relevance::Relevance;

/// The variable that names the file.
pub const FILE: &str = "_hook_domxml";
/// The agent's time limit: it only plans.
pub const LIMIT: Duration = Duration::from_secs(20);

/// The hook's answer to VDSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Exit status.
    pub status: u8,
    /// Standard error.
    pub sentence: Option<String>,
}

impl Outcome {
    const FINE: Self = Self {
        status: 0,
        sentence: None,
    };

    fn failed(sentence: impl AsRef<str>) -> Self {
        let sentence = Some(Printable(sentence.as_ref()).to_string());
        Self {
            status: 2,
            sentence,
        }
    }
}

/// Completes the domain in `file` with the reply of `ask`. `run` is the agent's run directory.
#[must_use]
pub fn run(file: Option<&Path>, run: &Path, ask: impl FnOnce(&str) -> Reply) -> Outcome {
    let Some(file) = file else {
        let text = format!(
            "cannot find the domain: {FILE} is not set; run this program as a hook of VDSM"
        );
        return Outcome::failed(text);
    };
    let text = match read(file) {
        Ok(text) => text,
        Err(error) => {
            let text = format!("cannot read the domain '{}': {error}", file.display());
            return Outcome::failed(text);
        }
    };
    let relevance = Relevance::of(&Input::from(text.as_str()), run);
    if let Some(Unreadable::Missing(why)) = &relevance.unreadable {
        let text = format!(
            "cannot read the domain '{}': {why} ({MISSING})",
            file.display()
        );
        return Outcome::failed(text);
    }
    // The source host has completed a domain with a mark, and the running guest has these devices.
    if relevance.marked || !(relevance.device || relevance.unlisted.is_some()) {
        return Outcome::FINE;
    }
    match ask(&text) {
        Reply::Done(completed) if completed == text => Outcome::FINE,
        Reply::Done(completed) => match write(file, &completed) {
            Ok(()) => Outcome::FINE,
            Err(error) => {
                let text = format!("cannot write the domain '{}': {error}", file.display());
                Outcome::failed(text)
            }
        },
        other if relevance.device => answer(&other),
        other => unlisted(&other),
    }
}

/// The list of covered devices is unknown: only the agent knows whether the guest needs it, so a missing agent is a warning.
fn unlisted(reply: &Reply) -> Outcome {
    match (reply, answer(reply)) {
        (Reply::Unreachable(_) | Reply::Foreign(_), Outcome { sentence, .. }) => Outcome {
            status: 0,
            sentence: sentence.map(|sentence| format!("warning: {sentence}")),
        },
        (_, answer) => answer,
    }
}

/// Each reply but a completed domain stops the guest: VDSM writes the domain again for each start, so a guest that was prepared
/// yesterday would start without the elements that its driver needs.
fn answer(reply: &Reply) -> Outcome {
    match reply {
        Reply::Done(_) => Outcome::FINE,
        other => Outcome::failed(ask::failure(other)),
    }
}

fn read(file: &Path) -> io::Result<String> {
    let mut text = String::new();
    let length = File::open(file)?
        .take(input::LIMIT as u64 + 1)
        .read_to_string(&mut text)?;
    match length > input::LIMIT {
        true => Err(io::ErrorKind::FileTooLarge.into()),
        false => Ok(text),
    }
}

/// Writes in place: VDSM made the file, and reads it again by its name. When the disk is full, the old text is restored.
fn write(file: &Path, text: &str) -> io::Result<()> {
    let before = fs::read(file)?;
    let written = overwrite(file, text.as_bytes());
    if written.is_err() {
        overwrite(file, &before)?;
    }
    written
}

fn overwrite(file: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).truncate(true).open(file)?;
    file.write_all(bytes)?;
    file.sync_all()
}
