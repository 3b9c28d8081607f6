//! `variantctl connect`: how clients of libvirt use the transport `variantd-connect`, and the default URI of root's clients.
//!
//! libvirt reads `/etc/libvirt/libvirt.conf` for root, and `~/.config/libvirt/libvirt.conf` for another user (virConfLoadConfigPath in
//! its src/util/virconf.c).

mod block;
mod client;

use std::fs::{self, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use ::domain::code::Code;
use ::domain::refusal::Refusal;
use settings::file;
use settings::libvirt::find;

use super::problem::Problem;
use super::{is_snapshot, output};
use block::Edit;

/// The transport, as libvirt's client library names it.
const URI: &str = "qemu+ext:///system?command=/usr/libexec/variantd/variantd-connect";
/// Its program.
const PROGRAM: &str = "usr/libexec/variantd/variantd-connect";
/// The configuration of root's clients.
const FILE: &str = "etc/libvirt/libvirt.conf";
/// The end of the name of the previous file.
const BACKUP: &str = ".before-variantd";
/// Mode of a new file: clients read it.
const MODE: u32 = 0o644;

/// What to do.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Request {
    /// Print what each client of libvirt needs; changes nothing
    #[arg(long)]
    how: bool,
    /// Make the transport the default of root's clients, in /etc/libvirt/libvirt.conf
    #[arg(long)]
    enable: bool,
    /// Remove these lines
    #[arg(long)]
    disable: bool,
}

/// libvirt.conf as it is.
struct Current {
    path: PathBuf,
    backup: PathBuf,
    /// Its content and metadata, if it exists.
    content: Option<(String, Metadata)>,
}

/// What came of a request.
struct Outcome {
    word: &'static str,
    sentence: String,
    backup: Option<PathBuf>,
}

/// Prints, enables or disables, on this host or in the tree below `root`.
pub(super) fn run(root: &Path, request: &Request, as_json: bool) -> Result<(), Problem> {
    if is_snapshot(root) {
        let text = "'connect' reads and changes libvirt.conf, which a snapshot does not have; pass a directory to --host";
        return Err(Problem::Usage(text.to_owned()));
    }
    let current = Current::read(&root.join(FILE))?;
    let outcome = match (request.enable, request.disable) {
        (true, _) => enable(root, &current)?,
        (_, true) => disable(&current)?,
        _ => current.shown()?,
    };
    match as_json {
        true => output::object(current.to_json(&outcome)),
        false => output::text(&outcome.sentence),
    }
}

fn enable(root: &Path, current: &Current) -> Result<Outcome, Problem> {
    let path = current.path.display();
    // Without the program every connection of root's clients would fail.
    let program = root.join(PROGRAM);
    if !program.exists() {
        let reason = format!("'{}' does not exist", program.display());
        let hint = "install the package 'variantd'";
        return Err(Refusal::new(Code::ConnectSettings, reason, hint).into());
    }
    let Edit::Text(text) = block::added(current.text(), &current.path)? else {
        let sentence = format!("'{path}' already has the transport as default of root's clients\n");
        return Ok(Outcome::new("already-so", sentence));
    };
    let backup = current.keep()?;
    current.write(&text)?;
    let kept = backup.as_ref().map(|backup| {
        let backup = backup.display();
        format!("; the previous file is '{backup}'")
    });
    let sentence = format!(
        "'{path}': the transport is now the default of root's clients{}\n",
        kept.unwrap_or_default()
    );
    Ok(Outcome {
        backup,
        ..Outcome::new("enabled", sentence)
    })
}

fn disable(current: &Current) -> Result<Outcome, Problem> {
    let path = current.path.display();
    match block::removed(current.text(), &current.path)? {
        Edit::Same => {
            let sentence = format!("'{path}' does not have the transport\n");
            return Ok(Outcome::new("already-so", sentence));
        }
        Edit::Text(text) => {
            current.write(&text)?;
            current.forget(&text);
        }
        Edit::Removed => {
            file::remove(&current.path).map_err(|why| unwritten(&current.path, &why))?
        }
    }
    let sentence = format!("'{path}': the transport is no longer the default of root's clients\n");
    Ok(Outcome::new("disabled", sentence))
}

impl Outcome {
    fn new(word: &'static str, sentence: String) -> Self {
        Self {
            word,
            sentence,
            backup: None,
        }
    }
}

impl Current {
    /// A link is followed, so that it stays a link.
    fn read(path: &Path) -> Result<Self, Problem> {
        let unread =
            |why: io::Error| Problem::Failed(format!("cannot read '{}': {why}", path.display()));
        let path = match fs::canonicalize(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_owned(),
            other => other.map_err(unread)?,
        };
        let content = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            kind => Some((file::read(&path).map_err(unread)?, kind.map_err(unread)?)),
        };
        let mut backup = path.clone().into_os_string();
        backup.push(BACKUP);
        Ok(Self {
            backup: backup.into(),
            path,
            content,
        })
    }

    fn text(&self) -> Option<&str> {
        self.content.as_ref().map(|(text, _)| text.as_str())
    }

    /// Copies the file; returns the path of the copy.
    fn keep(&self) -> Result<Option<PathBuf>, Problem> {
        let Some((text, like)) = &self.content else {
            return Ok(None);
        };
        let kept = file::replace_like(like, &self.backup, text);
        kept.map_err(|why| unwritten(&self.backup, &why))?;
        Ok(Some(self.backup.clone()))
    }

    fn write(&self, text: &str) -> Result<(), Problem> {
        let written = match &self.content {
            Some((_, like)) => file::replace_like(like, &self.path, text),
            None => file::replace(&self.path, text, MODE),
        };
        written.map_err(|why| unwritten(&self.path, &why))
    }

    /// Removes the copy if the file is as it was; otherwise an administrator may still want it.
    fn forget(&self, text: &str) {
        if file::read(&self.backup).is_ok_and(|kept| kept == text) {
            // A copy that stays is equal to the file.
            let _ = file::remove(&self.backup);
        }
    }

    fn shown(&self) -> Result<Outcome, Problem> {
        let settings = block::read(self.text().unwrap_or_default(), &self.path)?;
        let path = self.path.display();
        let state = match find(&settings, block::DEFAULT) {
            None => format!(
                "'{path}' has no {}; 'variantctl connect --enable' adds the lines below",
                block::DEFAULT
            ),
            Some(setting) if block::is_ours(setting) => {
                format!("'{path}' has the transport as default of root's clients")
            }
            Some(setting) => {
                let (line, value) = (setting.line, &setting.value);
                format!("'{path}', line {line}: {} is {value}", block::DEFAULT)
            }
        };
        Ok(Outcome::new("unchanged", client::text(&state)))
    }

    fn to_json(&self, outcome: &Outcome) -> Value {
        json!({
            "outcome": outcome.word,
            "file": self.path,
            "backup": outcome.backup,
            "uri": URI,
            "alias": block::ALIAS,
            "lines": block::statements(true),
            "clients": client::to_json(),
        })
    }
}

fn unwritten(path: &Path, why: &io::Error) -> Problem {
    let hint = match why.kind() {
        io::ErrorKind::PermissionDenied => "; run it as root",
        _ => "",
    };
    Problem::Failed(format!("cannot write '{}': {why}{hint}", path.display()))
}
