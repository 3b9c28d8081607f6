//! Asks all sources about the installed libvirt and QEMU, when one of them changed since they were asked last.
//!
//! ```text
//!                                                /- translation ------------------------\
//! connection to libvirt -> due? -> emulator's path                                         merge -> stack.json
//!                                                \- schemas, cache, variantd-probe.service /
//! ```
//! Runs in the background. All sources together have [`LIMIT`], and one that fails leaves a note and is asked again later
//! (`known.rs`). Until the end, planning uses the stack that versions assume.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{info, warn};

use domain::Domain;
use planner::target::Versions;
use settings::file;

use super::emulator;
use super::flags::{Entry, Installed};
use super::grammar::{self, Grammar};
use super::known::{Found, Key, KnownStack};
use super::merge::{Sources, merge};
use super::package;
use super::properties::Properties;
use super::translation::{self, Translation};
use crate::libvirt::{Libvirt, LibvirtError};

/// Time for all sources together; they need about 2 s. `variantd-probe.service` may take longer: its answer is used at the next
/// try.
pub const LIMIT: Duration = Duration::from_secs(10);

/// A guest of this host's other architecture, whose emulator is asked if there is none for aarch64.
const OTHER: &str = "<domain type='qemu'><name>variantd-probe</name><memory>65536</memory><os><type arch='x86_64' machine='q35'>hvm</type></os></domain>";

/// Runs the unit that asks the emulators to its end, and waits at most for this time.
pub type Probe<'a> = &'a dyn Fn(Duration) -> Result<(), String>;

/// The programs that are asked.
pub struct Programs<'a> {
    /// libvirt.
    pub libvirt: &'a Arc<dyn Libvirt>,
    /// The versions that it reports.
    pub versions: Versions,
    /// The emulators.
    pub probe: Probe<'a>,
    /// Time for all sources together: [`LIMIT`].
    pub limit: Duration,
}

/// Asks again if the installed programs changed, or if a source failed and its pause is over; true if that told something new.
pub fn refresh(known: &KnownStack, programs: &Programs<'_>) -> bool {
    let libvirt = programs.versions.libvirt;
    if !known.is_due(libvirt) {
        return false;
    }
    // A libvirt that does not answer gets no more calls.
    let Some(round) = known.begin() else {
        // Counts as a failure, so that the questions are asked again after a pause.
        known.note(true);
        return false;
    };
    let round = Round {
        calls: &round,
        programs,
        end: Instant::now() + programs.limit,
    };
    let emulator = round.ask(emulator_of);
    let key = match emulator.recv_timeout(round.left()) {
        Ok(Ok(Some(path))) => Key::now(known.root(), &path, libvirt),
        Ok(Ok(None)) => {
            known.note(false);
            return false;
        }
        Ok(Err(_)) | Err(_) => None,
    };
    let found = key.map(|key| round.find(known.root(), key));
    known.note(found.as_ref().is_none_or(|found| !found.notes.is_empty()));
    found.is_some_and(|found| known.learn(found))
}

/// One round of questions.
struct Round<'a> {
    /// Shared with each call that has not returned.
    calls: &'a Arc<()>,
    programs: &'a Programs<'a>,
    end: Instant,
}

impl Round<'_> {
    fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// Asks libvirt in a thread that is not joined: libvirt may never answer.
    fn ask<T: Send + 'static>(&self, question: fn(&dyn Libvirt) -> T) -> Receiver<T> {
        let (send, answer) = mpsc::channel();
        let (libvirt, call) = (self.programs.libvirt.clone(), self.calls.clone());
        thread::spawn(move || {
            let _ = send.send(question(&*libvirt));
            drop(call);
        });
        answer
    }

    fn find(&self, root: &Path, key: Key) -> Found {
        // Runs while the unit does.
        let translation = self.ask(translation);
        let mut notes = Notes::default();
        let sources = Sources {
            grammar: notes.grammar(root),
            entry: notes.entry(root, &key),
            properties: notes.properties(root, &key, || (self.programs.probe)(self.left())),
            translation: notes.translation(translation.recv_timeout(self.left()).ok()),
            package: package::libvirt(root),
        };
        let stack = merge(self.programs.versions, &sources);
        for note in &notes.0 {
            warn!("{note}");
        }
        info!("{stack}: asked what they can express");
        Found {
            key,
            stack,
            notes: notes.0,
        }
    }
}

fn translation(libvirt: &dyn Libvirt) -> Translation {
    translation::ask(|xml| libvirt.translate(xml).map_err(|why| why.to_string()))
}

/// The emulator that libvirt uses for a guest of aarch64, or else of x86_64; `None` if libvirt has neither.
fn emulator_of(libvirt: &dyn Libvirt) -> Result<Option<PathBuf>, LibvirtError> {
    let texts = [translation::plain(), OTHER.to_owned()];
    let mut answer = Ok(None);
    for domain in texts.iter().filter_map(|text| Domain::parse(text).ok()) {
        answer = libvirt.capabilities(&domain).map(|found| found.emulator);
        if let Ok(Some(path)) = answer {
            return Ok(Some(path.into()));
        }
    }
    answer.map(|_| None)
}

/// Why sources gave no answer.
#[derive(Default)]
struct Notes(Vec<String>);

impl Notes {
    fn grammar(&mut self, root: &Path) -> Grammar {
        let folder = root.join(grammar::DIRECTORY);
        let texts = [grammar::DOMAIN, grammar::BASIC]
            .map(|name| file::read_up_to(grammar::MAX_BYTES as u64, &folder.join(name)));
        let found = match texts {
            [Ok(domain), Ok(basic)] => Grammar::parse(&domain, &basic),
            [Err(why), _] | [_, Err(why)] => {
                let folder = folder.display();
                self.0.push(format!(
                    "cannot read libvirt's schemas in '{folder}': {why}"
                ));
                return Grammar::default();
            }
        };
        if found == Grammar::default() {
            let folder = folder.display();
            let text =
                format!("libvirt's schemas in '{folder}' are incomplete or of an unknown form");
            self.0.push(text);
        }
        found
    }

    fn translation(&mut self, answer: Option<Translation>) -> Translation {
        answer.unwrap_or_else(|| {
            self.0
                .push("libvirt did not translate the test definitions in time".to_owned());
            Translation::default()
        })
    }

    fn entry(&mut self, root: &Path, key: &Key) -> Option<Entry> {
        let installed = Installed {
            emulator: key.emulator.to_str()?.to_owned(),
            emulator_ctime: key.build.ctime,
            driver_ctime: key.driver_ctime,
            libvirt: key.libvirt,
        };
        Entry::read(root, &installed).unwrap_or_else(|why: io::Error| {
            self.0.push(format!(
                "cannot use libvirt's cache about '{}': {why}",
                installed.emulator
            ));
            None
        })
    }

    fn properties(
        &mut self,
        root: &Path,
        key: &Key,
        probe: impl FnOnce() -> Result<(), String>,
    ) -> Option<Properties> {
        let emulator = key.emulator.display();
        let file = root.join(emulator::FILE);
        let read = || {
            emulator::read(&file).map_err(|why| format!("cannot read '{}': {why}", file.display()))
        };
        // The unit may have ended after an earlier try.
        let earlier = read().ok().and_then(|mut all| all.remove(&key.emulator));
        let is_usable = |answer: &emulator::Answer| {
            answer.build == key.build && answer.properties.is_complete()
        };
        if let Some(answer) = earlier.filter(is_usable) {
            return Some(answer.properties);
        }
        let answers = probe().and_then(|()| read());
        let why = match answers.map(|mut answers| answers.remove(&key.emulator)) {
            Ok(Some(answer)) if answer.build != key.build => "it changed meanwhile".to_owned(),
            Ok(Some(answer)) if answer.properties == Properties::default() => {
                "it printed no usable help".to_owned()
            }
            Ok(Some(answer)) => {
                if !answer.properties.is_complete() {
                    let text = format!("'{emulator}' did not answer all questions in time");
                    self.0.push(text);
                }
                return Some(answer.properties);
            }
            Ok(None) => format!("'{}' has no answer of it", file.display()),
            Err(why) => why,
        };
        self.0.push(format!(
            "'{emulator}' was not asked: {why}; its features are assumed by version"
        ));
        None
    }
}

#[cfg(test)]
#[path = "collect_test.rs"]
mod test;
