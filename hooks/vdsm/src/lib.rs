//! VDSM's hook contract, before_vm_start and before_vm_migrate_destination: `_hook_domxml` names a file with the
//! domain, which is completed where it lies.
//!
//! Exit: 0 fine, 2 failed. VDSM starts a guest after neither 1 nor 2 and shows standard error; 1 would only let hooks behind
//! this one run, of which the last one's words, none mostly, then stand for ours. Follows VDSM's lib/vdsm/common/hooks.py.

mod bus;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;
use std::time::Duration;

use domain::printable::Printable;
use hooks::agent::Reply;
use hooks::answer::{FOREIGN, MISSING, UNREACHABLE, one_line};
use hooks::business::Business;
use hooks::input::{self, Input, Unreadable};

pub use bus::complete;

/// The variable that names the file.
pub const FILE: &str = "_hook_domxml";
/// How long the agent may take: it only plans.
pub const LIMIT: Duration = Duration::from_secs(20);

/// What VDSM is told.
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

/// Completes the domain in `file` by what `ask` says of it. `run` is the agent's run directory.
#[must_use]
pub fn run(file: Option<&Path>, run: &Path, ask: impl FnOnce(&str) -> Reply) -> Outcome {
    let Some(file) = file else {
        let text = format!(
            "VDSM has not said where the domain is: {FILE} is not set; run this as a hook of VDSM"
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
    let business = Business::of(&Input::from(text.as_str()), run);
    if let Some(Unreadable::Missing(why)) = &business.unreadable {
        let text = format!(
            "cannot read the domain '{}': {why} ({MISSING})",
            file.display()
        );
        return Outcome::failed(text);
    }
    // What has a mark was completed where it comes from, and its guest has seen it so.
    if business.marked || !(business.device || business.unlisted.is_some()) {
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
        other if business.device => answer(&other),
        other => unlisted(&other),
    }
}

/// Which devices recipes cover is unknown: only the agent could say that the guest needs it, so its absence is a warning.
fn unlisted(reply: &Reply) -> Outcome {
    match (reply, answer(reply)) {
        (Reply::Unreachable(_) | Reply::Foreign(_), Outcome { sentence, .. }) => Outcome {
            status: 0,
            sentence: sentence.map(|sentence| format!("warning: {sentence}")),
        },
        (_, answer) => answer,
    }
}

/// All but a completed domain stops the guest: VDSM makes each anew, so one that ran prepared yesterday would start without what
/// its driver needs.
fn answer(reply: &Reply) -> Outcome {
    match reply {
        Reply::Done(_) => Outcome::FINE,
        Reply::Refused(text) => Outcome::failed(one_line(text)),
        Reply::Unreachable(why) => Outcome::failed(format!(
            "variantd is not running, so the guest cannot be completed: {} ({UNREACHABLE}); start it with \
                 'systemctl start variantd'",
            one_line(why)
        )),
        Reply::Foreign(why) => Outcome::failed(format!(
            "variantd is of another version than this hook: {} ({FOREIGN}); end the upgrade with \
                 'systemctl restart variantd'",
            one_line(why)
        )),
        Reply::Full(why) => Outcome::failed(format!(
            "the system bus has no room for a call of variantd, so the guest cannot be completed: {} ({UNREACHABLE}); \
                 try again",
            one_line(why)
        )),
        Reply::Late(_) | Reply::Broken => {
            Outcome::failed("variantd did not answer; see 'journalctl -u variantd', then try again")
        }
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

/// Where it lies: VDSM made the file, and reads it again by its name. What was there comes back when the disk is full.
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
